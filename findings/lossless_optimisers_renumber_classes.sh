#!/usr/bin/env bash
# Masks are passed through a lossless PNG optimiser, or saved as GIF, to make them smaller.
# One would expect a lossless file to hold the same numbers.
# It holds the same colours. oxipng and zopfli drop palette entries that are not used and move the rest up, so the indices
# 0, 2, 5, 9 of a palette mask become 0, 1, 2, 3; a gray mask of 0, 30, ... 180 becomes a palette image, whose stored values
# are 0 to 6. Pillow does the same to a palette and to a gray mask that it saves as GIF.
# Where masks are read by index, as palette masks are, classes 2, 5, 9 become 1, 2, 3: all of them valid ids, so nothing
# complains, and a file in which one more class occurs is numbered in another way than its neighbour.
# Seen with pyoxipng 9.1.1, zopflipy 1.14, Pillow 13.0.0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-compile numpy==2.4.6 pillow==13.0.0 pyoxipng==9.1.1 zopflipy==1.14
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import io
from importlib.metadata import version

import numpy as np
import oxipng
from PIL import Image
from zopfli import ZopfliPNG

print({name: version(name) for name in ("pyoxipng", "zopflipy", "pillow")})
colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)


def stored(data):
    """Mode and values of the file, and the colours that a viewer shows."""
    image = Image.open(io.BytesIO(data))
    return image.mode, np.unique(np.array(image)).tolist(), np.array(image.convert("RGB"))


def saved(image, form):
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


few = np.zeros((64, 64), np.uint8)
few[10:40, 10:40], few[50:60, 50:60], few[:3] = 5, 9, 2
palette = Image.fromarray(few)
palette.putpalette(colours.ravel().tolist())     # from here on the values are indices of colours
many = Image.fromarray(np.random.default_rng(1).integers(0, 7, (256, 256)).astype(np.uint8) * 30)

for name, mask, before in (("palette", palette, [0, 2, 5, 9]), ("gray", many, list(range(0, 181, 30)))):
    png = saved(mask, "PNG")
    mode, values, shown = stored(png)
    assert values == before
    for tool, data in {"oxipng": oxipng.optimize_from_memory(png), "zopfli": ZopfliPNG().optimize(png), "GIF": saved(mask, "GIF")}.items():
        new_mode, new_values, new_shown = stored(data)
        print(f"{name}: {mode} {values} -> {tool}: {new_mode} {new_values}")
        assert (new_shown == shown).all(), "the colours are the same"
        assert new_mode == "P" and new_values == list(range(len(before))), "the numbers are not"
PY
