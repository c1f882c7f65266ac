"""Which precision a run computes in, with made-up times and GPUs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tensorflow as tf

from seg.errors import DataError
from seg.runs import precision
from seg.runs.precision import POLICIES, Precision, by_times, choose_precision, measured


def times(full: float, half: float) -> dict[str, float]:
    return dict(zip(POLICIES, (full, half), strict=True))


@pytest.mark.parametrize("asked", POLICIES)
def test_what_is_stated_holds(monkeypatch: pytest.MonkeyPatch, asked: precision.Asked):
    monkeypatch.setattr(precision, "measured", lambda _: pytest.fail("measured"))
    assert choose_precision(asked, 1) == Precision(asked, "as the configuration says")


@pytest.mark.parametrize(
    ("full", "half", "policy"),
    [(10, 5, "mixed_bfloat16"), (10, 9, "float32"), (10, 10, "float32"), (10, 150, "float32")],
)
def test_on_a_cpu_the_faster_one_by_a_margin(monkeypatch: pytest.MonkeyPatch, full: float, half: float, policy: str):
    monkeypatch.setattr(precision, "measured", lambda _: times(full / 1e3, half / 1e3))
    line = f"a convolution's training step takes {full:.1f} ms in float32, {half:.1f} in bfloat16 here"
    assert choose_precision("auto", 0) == Precision(policy, line)


def test_the_shortest_of_the_rounds_counts_and_noise_does_not(monkeypatch: pytest.MonkeyPatch):
    # A clock that steps make go forward: each by its own time, one round of the faster policy by a hundred times it.
    clock, calls = [0.0], dict.fromkeys(POLICIES, 0)

    def step(policy: str) -> None:
        calls[policy] += 1
        noise = 100.0 if policy == "mixed_bfloat16" and calls[policy] == 3 else 1.0
        clock[0] += {"float32": 2.0, "mixed_bfloat16": 1.0}[policy] * noise

    monkeypatch.setattr(precision, "training_step", lambda policy: lambda: step(policy))
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    assert measured(5) == times(2.0, 1.0)
    assert by_times(measured(5)).policy == "mixed_bfloat16"


def test_a_hopeless_precision_is_not_measured_again(monkeypatch: pytest.MonkeyPatch):
    clock, calls = [0.0], []

    def step(policy: str) -> None:
        calls.append(policy)
        clock[0] += {"float32": 1.0, "mixed_bfloat16": 15.0}[policy]

    monkeypatch.setattr(precision, "training_step", lambda policy: lambda: step(policy))
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    assert measured(5) == times(1.0, 15.0)
    assert len(calls) == 4  # each once before, once timed


@pytest.mark.tensorflow
@pytest.mark.parametrize("policy", POLICIES)
def test_the_step_that_is_timed_runs_in_its_precision(policy: str):
    of_images, of_kernel = precision.training_step(policy)()
    assert of_images.dtype == {"float32": "float32", "mixed_bfloat16": tf.bfloat16.as_numpy_dtype}[policy]
    assert of_kernel.dtype == "float32"


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [([(9, 0)], "mixed_bfloat16"), ([(8, 0), (7, 5)], "float32"), ([None], "mixed_bfloat16")],
)
def test_on_a_gpu_by_its_compute_capability(monkeypatch: pytest.MonkeyPatch, capabilities: list, policy: str):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: capabilities)
    details = lambda capability: {"compute_capability": capability} if capability else {}  # noqa: E731
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details)
    assert choose_precision("auto", len(capabilities)).policy == policy


def test_a_resumed_run_keeps_what_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "environment.json"
    monkeypatch.setattr(precision, "measured", lambda _: times(1.0, 0.5))
    assert choose_precision("auto", 0, file).policy == "mixed_bfloat16"  # the first start: no file yet
    file.write_text(json.dumps({"precision": "float32", "precision_reason": "timed"}))
    assert choose_precision("auto", 0, file) == Precision("float32", "timed")
    file.write_text(json.dumps({"precision": "float32"}))  # of a version that told no reason
    assert choose_precision("auto", 1, file) == Precision("float32", "as the run began")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"precision": "float64"}', "\xff"])
def test_a_broken_record_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "environment.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(DataError) as error:
        choose_precision("auto", 0, file)
    assert str(error.value) == (
        f"{file}: got no precision that the run could go on with; allowed: the file that seg.train wrote, or "
        "training.precision in the run's config.yaml (float32, mixed_bfloat16)"
    )
