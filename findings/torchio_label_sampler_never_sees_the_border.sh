#!/usr/bin/env bash
# torchio's LabelSampler draws patches whose centre has a label, with a probability for each label.
# With label_probabilities {1: 1, 2: 1} one would expect half of the patches to be centred on class 1.
# Centres nearer to the border than half a patch are impossible and are dropped, and the rest is not made up for: a class
# that lies there is never drawn, without a warning as long as any other class is left.
# A rare class at the edge of the volume (skin, pleura, a lesion cut by the field of view) is then oversampled on paper
# and absent from training; only when no class is left does it raise an error that says so.
# Seen with torchio 1.2.1, torch 2.13.0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    torch==2.13.0 torchio==1.2.1
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import warnings

import torch
import torchio as tio

print("torchio", tio.__version__, "torch", torch.__version__)
torch.manual_seed(0)
labels = torch.zeros(1, 32, 32, 32, dtype=torch.int32)
labels[:, 0:3, 5:25, 5:25] = 1                   # 1200 voxels, three from the border
labels[:, 15:17, 15:17, 15:17] = 2               # 8 voxels in the middle
subject = tio.Subject(mask=tio.LabelMap(tensor=labels))
sampler = tio.LabelSampler(8, "mask", {1: 1, 2: 1})
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    centres = [int(patch["mask"].data[0, 4, 4, 4]) for patch in sampler(subject, 200)]
share = {label: centres.count(label) / 200 for label in (0, 1, 2)}
print("share of patch centres by class", share, "warnings from the sampler",
      sum("sampl" in str(w.message).lower() for w in caught))
assert share[1] == 0.0, "expected without the surprise: about .5"
assert share[2] == 1.0

only_border = tio.Subject(mask=tio.LabelMap(tensor=labels * (labels == 1)))
try:
    next(iter(tio.LabelSampler(8, "mask", {1: 1})(only_border, 1)))
    raise SystemExit("drew a patch")
except RuntimeError as error:
    print("class 1 alone:", str(error).splitlines()[0])
PY
