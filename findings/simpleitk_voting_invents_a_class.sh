#!/usr/bin/env bash
# LabelVoting joins the masks of several raters or models by majority.
# Where votes are equal one would expect one of the labels that were given.
# It writes an id that nobody gave: the largest label of the images plus one. With 255 (void) among the labels there is no
# such id in uint8, and the same pixels become class 0 instead.
# So whether a tie is a new class or background depends on one pixel anywhere in the image; ties lie at the borders of
# small objects, and a rare class loses them or a network sees a class that has no name.
# Seen with SimpleITK 2.5.7; MultiLabelSTAPLE does the same.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile \
    numpy==2.4.6 SimpleITK==2.5.7
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import SimpleITK as sitk

print("SimpleITK", sitk.Version.VersionString())


def vote(method, *masks):
    return sitk.GetArrayFromImage(method([sitk.GetImageFromArray(np.array([mask], np.uint8)) for mask in masks]))[0].tolist()


first, second = [0, 1, 1, 3, 7], [0, 1, 0, 2, 7]
voted = vote(sitk.LabelVoting, first, second)
staple = vote(sitk.MultiLabelSTAPLE, first, second)
with_void = vote(sitk.LabelVoting, first[:-1] + [255], second[:-1] + [255])
print("two raters      ", first, second)
print("LabelVoting     ", voted)
print("MultiLabelSTAPLE", staple)
print("LabelVoting when the last pixel is 255 for both", with_void)
assert voted == [0, 1, 8, 8, 7], "expected without the surprise: ties among the labels given"
assert 8 in staple
assert with_void == [0, 1, 0, 0, 255], "the same ties, now class 0"
PY
