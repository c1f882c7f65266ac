#!/usr/bin/env bash
# The 95th percentile Hausdorff distance is a standard score of medical segmentation; one would expect one number for two masks.
# Two lesions, the large one predicted exactly, the small one missed. MedPy pools the distances of both directions before it
# takes the percentile, so the missed lesion is a small share of all: below 2 pixels. DeepMind's surface-distance takes
# the percentile of each direction and then the larger: 31 pixels, and SimpleITK's full distance is larger still.
# Papers name all of them HD95. The pooled form hides what matters with imbalance: the small object that was not found.
# Seen with MedPy 0.5.2, surface-distance 0.1, SimpleITK 2.5.7.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 scipy==1.17.1 MedPy==0.5.2 surface-distance==0.1 SimpleITK==2.5.7
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import SimpleITK as sitk
import surface_distance
from medpy.metric import binary

print("MedPy 0.5.2, surface-distance 0.1, SimpleITK", sitk.Version.VersionString(), "NumPy", np.__version__)
truth = np.zeros((64, 64), bool)
truth[10:30, 10:30] = True
predicted = truth.copy()
truth[50:53, 50:53] = True                       # the small lesion
pooled = float(binary.hd95(predicted, truth))
distances = surface_distance.compute_surface_distances(truth, predicted, (1, 1))
larger = float(surface_distance.compute_robust_hausdorff(distances, 95))
full = sitk.HausdorffDistanceImageFilter()
full.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (truth, predicted)))
print(f"MedPy hd95 {pooled:.2f}, surface-distance hd95 {larger:.2f}, SimpleITK's full distance {full.GetHausdorffDistance():.2f}")
assert pooled < 2, "expected without the surprise: the same number from both"
assert 31 < larger < 32
assert full.GetHausdorffDistance() > larger
PY
