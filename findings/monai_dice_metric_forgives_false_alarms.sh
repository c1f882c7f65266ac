#!/usr/bin/env bash
# A class is absent from an image, and the model paints half of the image with it. One would expect a low Dice for that class.
# MONAI's DiceMetric gives NaN, as it does for a right answer, and leaves the image out of the mean (ignore_empty=True):
# a model with false alarms in every healthy image and one without have the same score. MONAI's surface Dice gives 0 for
# the same pair.
# With rare classes most images are of this kind, so the validation score of exactly those classes is blind to false alarms.
# Seen with MONAI 1.6.1, torch 2.13.0; ignore_empty=False gives 0 and 1.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 scipy==1.17.1 torch==2.13.0 monai==1.6.1
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import monai
import numpy as np
import torch
from monai.metrics import DiceMetric, compute_surface_dice

print("MONAI", monai.__version__, "torch", torch.__version__, "NumPy", np.__version__)


def one_hot(labels):
    return torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float()


lesion = torch.zeros(2, 16, 16, dtype=torch.int64)
lesion[0, 4:8, 4:8] = 1                          # the first image has the rare class, the second has not
alarm = lesion.clone()
alarm[1, :8] = 1                                 # half of the healthy image is called a lesion
score = {}
for name, predicted in {"right": lesion, "false alarm": alarm}.items():
    for ignore in (True, False):
        metric = DiceMetric(include_background=False, ignore_empty=ignore)
        each = metric(one_hot(predicted), one_hot(lesion))[:, 0].tolist()
        score[name, ignore] = float(metric.aggregate())
        print(name, "ignore_empty", ignore, "per image", each, "mean", score[name, ignore])
surface = compute_surface_dice(one_hot(alarm)[1:], one_hot(lesion)[1:], [1.0]).item()
print("surface Dice of the false alarm", surface)
assert score["right", True] == score["false alarm", True] == 1.0, "expected without the surprise: 1.0 and .5"
assert score["right", False] == 1.0 and score["false alarm", False] == 0.5
assert surface == 0.0
PY
