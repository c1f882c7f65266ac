# Two commands are all that a new clone needs: `make quickstart` and `make test`. Both call `setup` first.
# Needs: Python 3.11, 3.12 or 3.13 and make. Another Python: `make setup PYTHON=/path/to/python3.12`.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
CODE := seg data_tools experiments tests

.PHONY: help setup format lint types test test-all test-oracles test-jax quickstart schema schema-check check bench lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the pinned, hash-checked dependencies (nothing to do the second time)

# The first candidate that runs and has a supported version; a PYTHON given by the user is the only candidate.
$(STAMP): requirements.lock pyproject.toml
	@found=; for candidate in $(or $(PYTHON),python3 python3.11 python3.12 python3.13); do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "error: no Python 3.11, 3.12 or 3.13 among: $(or $(PYTHON),python3 python3.11 python3.12 python3.13)." >&2; \
	  echo "       Install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	  exit 2; \
	fi; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "setup: $(VENV) with $$found ($$("$$found" --version))"; \
	  "$$found" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "error: '$$found -m venv' failed. On Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }; \
	fi
	@echo "setup: installing requirements.lock (3.1 GB on disk; the first time takes minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

format: setup ## Rewrite the code in the project's format, with the fixes that ruff is sure of
	$(BIN)/ruff check --fix --exit-zero --silent $(CODE)
	$(BIN)/ruff format $(CODE)

lint: setup ## Check style and format; changes nothing
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: setup ## Check types with mypy
	$(BIN)/mypy

test: setup ## Run the fast tests (under 8 minutes on 2 cores); JOBS=0: in one process
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

test-all: setup ## Run every test, the slow ones too
	$(BIN)/python -m pytest -n $(JOBS)

# None is in requirements.lock. The last three without what they require: of them only what needs torch alone is used.
test-oracles: setup ## Install torch and MONAI into .venv, then compare losses and scores with theirs
	@echo "test-oracles: installing torch, MONAI and segmentation-models-pytorch into $(VENV), beside requirements.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch monai
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps segmentation-models-pytorch rankseg efficientnet-lite-pytorch
	$(BIN)/python -m pytest -n $(JOBS) tests/oracles

test-jax: setup ## Install JAX into .venv, then run the tests of losses, metrics and models on it
	@echo "test-jax: installing JAX into $(VENV), beside requirements.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check jax
	KERAS_BACKEND=jax JAX_ENABLE_X64=1 $(BIN)/python -m pytest -n $(JOBS) tests/losses tests/metrics tests/models

quickstart: setup ## Train on generated scenes: about a minute on 2 CPU cores
	$(BIN)/python -m data_tools.make_scenes data/scenes
	$(BIN)/python -m seg.train --config configs/quickstart.yaml

schema: setup ## Write configs/schema.json, which editors use to check and complete the YAML files
	$(BIN)/python -m seg.config configs/schema.json

schema-check: setup
	@$(BIN)/python -m seg.config $(VENV)/schema.json
	@cmp configs/schema.json $(VENV)/schema.json || { echo "error: configs/schema.json is out of date: make schema" >&2; exit 1; }

check: lint types schema-check test ## Everything a change must pass: lint, types, schema up to date, tests

bench: setup ## Run the benchmarks of experiments/benchmarks, one after the other
	@set -e; for script in experiments/benchmarks/[a-z]*.py; do name=$$(basename "$$script" .py); echo "== $$name"; \
	  $(BIN)/python -m "experiments.benchmarks.$$name"; done

lock: setup ## Compute requirements.lock anew from pyproject.toml (needs the network)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --no-config --universal --generate-hashes --python-version 3.11 --extra dev --upgrade --quiet \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock

clean: ## Remove the virtual environment, caches and build folders; runs/ and data/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -exec rm -rf {} +
