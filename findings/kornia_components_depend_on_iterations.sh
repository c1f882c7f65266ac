#!/usr/bin/env bash
# kornia.contrib.connected_components labels objects by spreading the largest pixel number num_iterations times (default 100).
# One would expect a connected object to get one id, or at least an error when the iterations did not suffice.
# A straight line of 300 pixels gets 200 ids by default, a line of 100 pixels one; with more iterations it is one again.
# Vessels, roads and cracks (long, thin, rare) fall into hundreds of objects while compact classes are counted rightly, so
# object counts, size filters and object-wise scores are wrong for the rare class alone.
# Seen with kornia 0.9.0, torch 2.13.0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    torch==2.13.0 kornia==0.9.0
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import kornia
import torch
from kornia.contrib import connected_components

print("kornia", kornia.__version__, "torch", torch.__version__)


def objects(length, **settings):
    line = torch.zeros(1, 1, 3, length + 2)
    line[0, 0, 1, 1:-1] = 1
    return len(connected_components(line, **settings).unique()) - 1


found = {length: objects(length) for length in (50, 100, 101, 300)}
more = objects(300, num_iterations=300)
blob = torch.zeros(1, 1, 200, 200)
blob[0, 0, 10:90, 10:90] = 1
print("objects in one straight line, by its length:", found, "length 300 with 300 iterations:", more)
print("objects in one square of 80 x 80:", len(connected_components(blob).unique()) - 1)
assert found[50] == found[100] == 1
assert found[300] == 200, "expected without the surprise: 1"
assert more == 1
assert len(connected_components(blob).unique()) - 1 == 1
PY
