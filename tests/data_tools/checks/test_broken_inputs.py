"""A clean dataset gives no finding; broken in one place, it gives that finding, names the file and blames no other."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_tools.checks import Finding, Grade, Rules, check_dataset
from data_tools.checks.pairs import check_pair
from data_tools.checks.survey import survey_folders, survey_table
from seg.data.masks.reading import BinaryEncoding, ColourEncoding, IndexEncoding, MaskEncoding, PaletteEncoding
from seg.data.samples.pairs import Sample
from seg.labels import LabelSet

SIZE = (160, 176)
SPLITS = {"train": 4, "val": 2, "test": 2}
NAMES = [f"{split}/{index}" for split, number in SPLITS.items() for index in range(number)]
LABELS = LabelSet(("soil", "water", "roof"), ((120, 90, 40), (20, 60, 220), (230, 30, 30)), 255)
TWO = LabelSet.from_names(["ground", "roof"], 255)
KINDS: dict[str, tuple[LabelSet, MaskEncoding]] = {
    "index": (LABELS, IndexEncoding()),
    "void9": (LabelSet(LABELS.names, LABELS.colours, 9), IndexEncoding()),
    "palette": (LABELS, PaletteEncoding()),
    "colour": (LABELS, ColourEncoding(((0, 0, 0),))),
    "binary": (TWO, BinaryEncoding()),
    "two": (TWO, IndexEncoding()),
    "void2": (LabelSet(TWO.names, TWO.colours, 2), IndexEncoding()),
}


def smooth(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    field = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), scale)
    return field / field.std()


@functools.cache
def scene(name: str) -> tuple[np.ndarray, np.ndarray]:
    """An image of its own (H, W, 3) that shows the outlines of its mask: three wavy stripes, one a class."""
    rng = np.random.default_rng(NAMES.index(name) + 100)
    rows = np.arange(SIZE[0])[:, None]
    wave = 6 * np.sin(rows / rng.uniform(6, 12) + rng.uniform(0, 6))
    column = np.arange(SIZE[1])[None] + wave
    mask = (column > SIZE[1] * 0.33).astype(np.uint8) + (column > SIZE[1] * rng.uniform(0.5, 0.7))
    image = np.array([[100, 90, 60], [40, 70, 180], [200, 60, 60]], np.float32)[mask]
    image += 18 * smooth(rng, SIZE, 8)[..., None] + 5 * smooth(rng, (*SIZE, 3), 1)
    return np.clip(image, 1, 254).astype(np.uint8), mask.astype(np.uint8)


def encoded(array: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(buffer, form, **options)
    return buffer.getvalue()


def paletted(mask: np.ndarray) -> bytes:
    picture = Image.fromarray(mask)
    picture.putpalette([value for value in range(256) for _ in range(3)])  # a short one would be stored in fewer bits
    return encoded(picture)


@functools.cache
def clean_files(kind: str) -> dict[str, bytes]:
    """name -> content of a dataset without problems; its images are PNG but for one JPEG and one TIFF."""
    files = {}
    for name in NAMES:
        image, mask = scene(name)
        suffix, form = {"train/1": ("jpg", "JPEG"), "val/1": ("tif", "TIFF")}.get(name, ("png", "PNG"))
        files[f"images/{name}.{suffix}"] = encoded(image, form, **({"quality": 95} if form == "JPEG" else {}))
        match kind:
            case "palette":
                stored = paletted(mask)
            case "colour":
                stored = encoded(np.array(LABELS.colours, np.uint8)[mask])
            case "binary":
                stored = encoded(np.uint8(255) * (mask == 2))
            case "two" | "void2":
                stored = encoded((mask == 2).astype(np.uint8))
            case _:
                stored = encoded(mask)
        files[f"masks/{name}.png"] = stored
    return files


class Folder:
    """A dataset on disk, to break."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root, self.kind = root, kind
        for name, data in clean_files(kind).items():
            self.write(name, data)

    def write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def mask(self, name: str) -> np.ndarray:
        return np.array(Image.open(self.root / f"masks/{name}.png"))

    def image(self, name: str) -> np.ndarray:
        return scene(name)[0]

    def check(self) -> tuple[Finding, ...]:
        labels, encoding = KINDS[self.kind]
        table = self.root / "table.csv"
        survey = survey_table(self.root, table) if table.exists() else survey_folders(self.root)
        return check_dataset(survey, Rules(labels, encoding), workers=2).findings


@dataclass(frozen=True)
class Case:
    """One way to break a dataset.

    Attributes:
        name: Of the test.
        change: Breaks it.
        expected: (kind, first file) of every error and warning, and of hints where they are what is tested.
        says: Texts that the first expected finding holds.
        kind: Of the dataset.
    """

    name: str
    change: Callable[[Folder], None]
    expected: tuple[tuple[str, str], ...]
    says: tuple[str, ...] = ()
    kind: str = "index"


def replaced(file: str, data: Callable[[Folder], bytes]) -> Callable[[Folder], None]:
    return lambda folder: folder.write(file, data(folder))


CASES: list[Case] = []


def case(
    name: str,
    change: Callable[[Folder], None],
    *expected: tuple[str, str],
    says: str | tuple[str, ...] = (),
    kind: str = "index",
) -> None:
    CASES.append(Case(name, change, expected, (says,) if isinstance(says, str) else says, kind))


# --- files cut short, emptied, exchanged or damaged ------------------------------------------------------------------
CUT = {"PNG image": "images/train/0.png", "JPEG image": "images/train/1.jpg", "TIFF image": "images/val/1.tif"}
CUT |= {"mask": "masks/train/2.png"}
for what, file in CUT.items():
    verdict = f"unreadable-{what.split()[-1]}"
    for share in (0, 1, 4, 8, 20, 33, 60, 0.25, 0.5, 0.75, 0.9, -16):

        def cut(folder: Folder, file: str = file, share: float = share) -> None:
            data = folder.read(file)
            folder.write(file, data[: int(share * len(data)) if isinstance(share, float) else share])

        case(f"{what} cut at {share}", cut, (verdict, file), says="" if share else "is empty")

NO_IMAGES = {
    "text": b"see the other folder\n",
    "web page": b"<!doctype html><title>404 Not Found</title>",
    "zeros": bytes(500),
    "noise": np.random.default_rng(0).bytes(500),
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "NumPy array": b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (4, 4), }\n" + bytes(16),
}
for what, data in NO_IMAGES.items():
    case(
        f"{what} as image",
        replaced("images/val/0.png", lambda _, d=data: d),
        ("unreadable-image", "images/val/0.png"),
        says="is no image that can be read",
    )
    case(
        f"{what} as mask",
        replaced("masks/test/1.png", lambda _, d=data: d),
        ("unreadable-mask", "masks/test/1.png"),
        says="is no image that can be read",
    )

for place in (20, 30, 60, 0.3, 0.6, 0.9):
    for file, verdict in (("images/train/0.png", "unreadable-image"), ("masks/val/0.png", "unreadable-mask")):

        def damage(folder: Folder, file: str = file, place: float = place) -> None:
            data = bytearray(folder.read(file))
            data[int(place * len(data)) if isinstance(place, float) else place] ^= 0x55
            folder.write(file, bytes(data))

        case(f"{file} with a wrong byte at {place}", damage, (verdict, file))

# --- forms that are not read -----------------------------------------------------------------------------------------
GRAY, RGB = (lambda f: f.image("train/0")[..., 0]), (lambda f: f.image("train/0"))


def transparent(folder: Folder) -> bytes:
    alpha = np.full(SIZE, 255, np.uint8)
    alpha[:4] = 0
    return encoded(np.dstack([RGB(folder), alpha]))


def pages(folder: Folder) -> bytes:
    page = Image.fromarray(RGB(folder))
    return encoded(page, "TIFF", save_all=True, append_images=[page])


def float_tiff(folder: Folder, *broken: float) -> bytes:
    values = folder.image("val/1")[..., 0].astype(np.float32)
    values[0, : len(broken)] = broken
    return cv2.imencode(".tiff", values)[1].tobytes()


def turned(orientation: int, form: str) -> Callable[[Folder], bytes]:
    exif = Image.Exif()
    exif[274] = orientation
    return lambda folder: encoded(RGB(folder), form, exif=exif)


UNSUPPORTED_IMAGES: dict[str, tuple[Callable[[Folder], bytes], str]] = {
    "partly transparent": (transparent, "transparent"),
    "gray with transparency": (
        lambda f: encoded(Image.merge("LA", [Image.fromarray(GRAY(f)), Image.new("L", SIZE[::-1], 9)])),
        "transparent",
    ),
    "CMYK JPEG": (lambda f: encoded(Image.fromarray(RGB(f)).convert("CMYK"), "JPEG"), "is a CMYK JPEG"),
    "several pages": (pages, "several pages"),
    "GIF": (lambda f: encoded(Image.fromarray(GRAY(f)), "GIF"), "is a GIF, which only a mask may be"),
    "BMP": (lambda f: encoded(RGB(f), "BMP"), "is no image that can be read"),
    "WebP": (lambda f: encoded(RGB(f), "WEBP", lossless=True), "is no image that can be read"),
    "signed TIFF": (lambda f: encoded(Image.fromarray(GRAY(f).astype(np.int32)), "TIFF"), "holds int32 values"),
}
for what, (make, text) in UNSUPPORTED_IMAGES.items():
    case(f"image: {what}", replaced("images/train/0.png", make), ("unsupported-image", "images/train/0.png"), says=text)
for orientation in (2, 3, 6, 8):
    case(
        f"JPEG turned by EXIF {orientation}",
        replaced("images/train/1.jpg", turned(orientation, "JPEG")),
        ("turned-file", "images/train/1.jpg"),
        says=f"its orientation tag is {orientation}",
    )
case(
    "TIFF turned by its tag",
    replaced("images/val/1.tif", turned(6, "TIFF")),
    ("turned-file", "images/val/1.tif"),
    says="its orientation tag is 6",
)
for what, values in {"NaN": (np.nan,), "infinity": (np.inf, -np.inf), "both": (np.nan, np.inf)}.items():
    case(
        f"{what} in a float image",
        replaced("images/val/1.tif", lambda f, v=values: float_tiff(f, *v)),
        ("not-finite", "images/val/1.tif"),
        ("mixed-images", "images/val/1.tif"),
    )

MASK = "masks/train/0.png"
UNSUPPORTED_MASKS: dict[str, tuple[str, Callable[[Folder], bytes], str]] = {
    "JPEG": ("index", lambda f: encoded(f.mask("train/0"), "JPEG"), "is a JPEG, whose losses blend class values"),
    "RGB": ("index", lambda f: encoded(f.image("val/0")), "for this file use the encoding 'colour'"),
    "palette": ("index", lambda f: paletted(f.mask("train/0")), "for this file use the encoding 'palette'"),
    "gray for palette": ("palette", lambda f: encoded(f.mask("train/0")), "reads a palette PNG"),
    "RGB for palette": ("palette", lambda f: encoded(f.image("val/0")), "for this file use the encoding 'colour'"),
    "gray for colour": (
        "colour",
        lambda f: encoded(GRAY(f)),
        "use the encoding 'index', 'values' or 'binary'",
    ),
    "JPEG for colour": ("colour", lambda f: encoded(f.mask("train/0"), "JPEG"), "is a JPEG"),
    "colours for binary": ("binary", lambda f: encoded(f.image("val/0")), "for this file use the encoding 'colour'"),
    "palette for binary": ("binary", lambda f: paletted(f.mask("train/0")), "reads a gray image"),
    "transparent": ("index", transparent, "reads a gray image of class indices"),
    "16-bit colour": (
        "colour",
        lambda f: cv2.imencode(".png", f.mask("train/0").astype(np.uint16) * 257)[1].tobytes(),
        "'colour' allows 8 bits",
    ),
    "two pages": ("index", pages, "several pages"),
}
for what, (kind, make, text) in UNSUPPORTED_MASKS.items():
    case(f"mask: {what}", replaced(MASK, make), ("unsupported-mask", MASK), says=text, kind=kind)

# --- values and colours that are no class ----------------------------------------------------------------------------


def with_values(*values: int) -> Callable[[Folder], bytes]:
    def make(folder: Folder) -> bytes:
        mask = folder.mask("train/0")
        mask[0, : len(values)] = values
        return encoded(mask)

    return make


def valued(what: str, make: Callable[[Folder], bytes], *says: str, kind: str = "index") -> None:
    case(what, replaced(MASK, make), ("unknown-labels", MASK), says=says, kind=kind)


valued("value 3", with_values(3), "3 in 1 pixels (nearest: 2 'roof')", "allowed: 0 to 2 and 255 (void)")
valued("values 7, 7 and 200", with_values(7, 7, 200), "7 in 2 pixels (nearest: 2 'roof'), 200 in 1 pixels")
valued("value 254", with_values(254), "254 in 1 pixels")
valued("255 where void is 9", with_values(255), "255 usually means void: labels.ignore_index: 255", kind="void9")
valued(
    "palette index 5",
    lambda f: paletted(np.where(f.mask("train/0") == 2, np.uint8(5), f.mask("train/0"))),
    "5 in ",
    "nearest: 2 'roof'",
    kind="palette",
)
valued("counted from 1", lambda f: encoded(f.mask("train/0") + np.uint8(1)), "the classes may be counted from 1")
valued(
    "0 and 255 of a binary mask",
    lambda f: encoded(f.mask("train/0") * np.uint8(255)),
    "a binary mask, for labels.encoding {name: binary}",
    kind="void2",
)
valued("16-bit value 300", lambda f: cv2.imencode(".png", np.full(SIZE, 300, np.uint16))[1].tobytes(), "300 in 28160")
valued(
    "resized with interpolation",
    lambda f: encoded(cv2.resize(cv2.resize(f.mask("train/0") * np.uint8(127), (60, 50)), SIZE[::-1])),
    "so many values come from interpolation or lossy compression",
)
valued(
    "one strange colour",
    lambda f: encoded(np.where((np.arange(SIZE[1]) < 2)[None, :, None], np.uint8([20, 60, 210]), f.mask("train/0"))),
    "colour [20, 60, 210] in 320 pixels (nearest: [20, 60, 220] 'water')",
    kind="colour",
)
valued(
    "blue for red",
    lambda f: encoded(f.mask("train/0")[..., ::-1].copy()),
    "the masks were written as BGR",
    kind="colour",
)
valued(
    "colours off by one",
    lambda f: encoded(f.mask("train/0") + np.uint8(1)),
    "nearest: [120, 90, 40] 'soil'",
    kind="colour",
)
valued(
    "colours after JPEG",
    lambda f: encoded(np.array(Image.open(io.BytesIO(encoded(f.mask("train/0"), "JPEG", quality=90))))),
    "of these pixels are within 24 of a class colour",
    kind="colour",
)
case(
    "0 and 1 under a threshold",
    replaced(MASK, lambda f: encoded(f.mask("train/0") // np.uint8(255))),
    ("wrong-encoding", MASK),
    says="the largest value is 1, so that threshold 127",
    kind="binary",
)
case(
    "binary mask after JPEG",
    replaced(MASK, lambda f: encoded(f.mask("train/0"), "JPEG", quality=50)),
    ("blended-mask", MASK),
    says="lie between 0 and 255",
    kind="binary",
)
case(
    "binary mask smoothed",
    replaced(MASK, lambda f: encoded(cv2.blur(f.mask("train/0"), (3, 3)))),
    ("blended-mask", MASK),
    says="allowed: two values",
    kind="binary",
)


def all_255(folder: Folder) -> None:
    for name in NAMES:
        folder.write(f"masks/{name}.png", encoded(folder.mask(name) * np.uint8(255)))


case(
    "0/255 masks read as index",
    all_255,
    ("wrong-encoding", ""),
    ("missing-class", ""),
    says=("never 1", "{name: binary}"),
    kind="two",
)

# --- sizes and places ------------------------------------------------------------------------------------------------
SIZES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "turned": (lambda m: m.T.copy(), "one of them is turned"),
    "halved": (lambda m: m[::2, ::2].copy(), "the same shape at another scale"),
    "a row short": (lambda m: m[:-1].copy(), "the image is 160 x 176, the mask 159 x 176 (height x width)"),
    "padded": (lambda m: np.pad(m, 4), "the mask 168 x 184"),
}
for what, (change, text) in SIZES.items():
    case(
        f"mask {what}",
        replaced(MASK, lambda f, c=change: encoded(c(f.mask("train/0")))),
        ("size-mismatch", "images/train/0.png"),
        says=text,
    )
case(
    "image halved",
    replaced("images/test/0.png", lambda f: encoded(f.image("test/0")[::2, ::2].copy())),
    ("size-mismatch", "images/test/0.png"),
    says="the image is 80 x 88, the mask 160 x 176",
)
for right in (-9, -6, 6, 9):
    case(
        f"mask moved by {right}",
        replaced(MASK, lambda f, r=right: encoded(np.roll(f.mask("train/0"), r, 1))),
        ("shifted-mask", "images/train/0.png"),
        says=f"{abs(right)} pixels {'left' if right > 0 else 'right'}",
    )

# --- masks and images without content --------------------------------------------------------------------------------
case(
    "all void",
    replaced(MASK, lambda f: encoded(np.full(SIZE, 255, np.uint8))),
    ("all-void-mask", MASK),
    says="all 28160 pixels are void",
)
case(
    "all void in colour",
    replaced(MASK, lambda f: encoded(np.zeros((*SIZE, 3), np.uint8))),
    ("all-void-mask", MASK),
    kind="colour",
)
for index, name in enumerate(LABELS.names):
    case(
        f"only {name}",
        replaced(MASK, lambda f, i=index: encoded(np.full(SIZE, i, np.uint8))),
        ("one-class-mask", MASK),
        says=f"28160 pixels are '{name}', none is of another class",
    )
for value in (0, 127, 255):
    case(
        f"image of {value}",
        replaced("images/val/0.png", lambda f, v=value: encoded(np.full((*SIZE, 3), v, np.uint8))),
        ("constant-image", "images/val/0.png"),
        says=f"all 28160 pixels are [{value}, {value}, {value}]",
    )


def renumbered(folder: Folder) -> bytes:
    """The same colours under other indices, as an optimiser leaves them: 0 and 2 exchanged."""
    picture = Image.fromarray(np.array([2, 1, 0], np.uint8)[folder.mask("train/0")])
    picture.putpalette([value for index in (2, 1, 0, *range(3, 256)) for value in 3 * (index,)])
    return encoded(picture)


case(
    "palette numbered anew",
    replaced(MASK, renumbered),
    ("mixed-palettes", MASK),
    ("mixed-palettes", MASK),
    says=("palette index 0, read as one class, is of the colours [0, 0, 0] in 7, [2, 2, 2] in 1 masks", "index 2"),
    kind="palette",
)


def small_components(folder: Folder) -> None:
    mask = folder.mask("train/0")
    mask[10:50:10, 5] = 1
    folder.write(MASK, encoded(mask))


case(
    "small-components",
    small_components,
    ("small-components", MASK),
    says=("class 'water': 4 of ", "have fewer than 5 pixels", f"4 in {MASK}"),
)
case(
    "image is its mask",
    lambda f: f.write("images/train/0.png", f.read(MASK)),
    ("image-is-mask", "images/train/0.png"),
    ("mixed-images", "images/train/0.png"),
    says="have the same bytes",
)
case(
    "a gray image among RGB",
    replaced("images/train/3.png", lambda f: encoded(f.image("train/3")[..., 0].copy())),
    ("mixed-images", "images/train/3.png"),
    says="is an 8-bit gray PNG, where 7 of 8 images are an 8-bit RGB",
)
case(
    "a float image among 8-bit",
    replaced("images/val/1.tif", float_tiff),
    ("mixed-images", "images/val/1.tif"),
    says="is a float32 raster",
)
case(
    "a 16-bit image among 8-bit",
    replaced(
        "images/train/3.png", lambda f: cv2.imencode(".png", f.image("train/3").astype(np.uint16) * 16)[1].tobytes()
    ),
    ("mixed-images", "images/train/3.png"),
    says="is a 16-bit RGB PNG",
)


def darken(folder: Folder) -> None:
    for name in NAMES:
        for suffix in ("png", "jpg", "tif"):
            if (folder.root / f"images/{name}.{suffix}").exists():
                folder.remove(f"images/{name}.{suffix}")
        folder.write(f"images/{name}.png", cv2.imencode(".png", folder.image(name).astype(np.uint16) * 16)[1].tobytes())


case("12-bit values in 16-bit files", darken, ("dark-images", ""), says="of all 8 images is 6.")

# --- duplicates ------------------------------------------------------------------------------------------------------


def other(mask: np.ndarray) -> bytes:
    """A mask that differs in a corner."""
    changed = mask.copy()
    changed[:2, :2] = 255
    return encoded(changed)


def copied(source: str, image: str, same_mask: bool = True) -> Callable[[Folder], None]:
    def change(folder: Folder) -> None:
        folder.write(f"images/{image}.png", folder.read(f"images/{source}.png"))
        folder.write(
            f"masks/{image}.png", folder.read(f"masks/{source}.png") if same_mask else other(folder.mask(source))
        )

    return change


case(
    "an image in train and val",
    copied("train/0", "val/0"),
    ("duplicate-in-two-splits", "images/train/0.png"),
    says="the same bytes, in train and val",
)
case("an image in val and test", copied("val/0", "test/1"), ("duplicate-in-two-splits", "images/val/0.png"))
case("an image twice in train", copied("train/0", "train/copy"), ("duplicate-image", "images/train/0.png"))
case(
    "an image twice with other masks",
    copied("train/0", "train/copy", same_mask=False),
    ("duplicate-image", "images/train/0.png"),
    ("contradicting-masks", MASK),
    says="the same bytes",
)
case(
    "a mask for two images",
    lambda f: f.write("masks/train/2.png", f.read(MASK)),
    ("repeated-mask", MASK),
    ("shifted-mask", "images/train/2.png"),
    says="of 2 different images",
)


def recoded(change: Callable[[np.ndarray], bytes], suffix: str = "png") -> Callable[[Folder], None]:
    def leak(folder: Folder) -> None:
        folder.write(f"images/test/leak.{suffix}", change(folder.image("train/2")))
        folder.write("masks/test/leak.png", other(folder.mask("train/2")))

    return leak


def jpeg(quality: int) -> Callable[[np.ndarray], bytes]:
    return lambda image: encoded(image, "JPEG", quality=quality)


def scaled(gain: float, offset: float = 0) -> Callable[[np.ndarray], bytes]:
    return lambda image: encoded(np.clip(image * gain + offset, 0, 255).astype(np.uint8))


NEAR: dict[str, tuple[Callable[[np.ndarray], bytes], str]] = {
    "saved again": (lambda image: encoded(image, compress_level=1), "png"),
    "as TIFF": (lambda image: encoded(image, "TIFF"), "tif"),
    "darker": (scaled(0.7), "png"),
    "much darker": (scaled(0.4), "png"),
    "brighter": (scaled(1.15), "png"),
    "lifted": (scaled(1, 30), "png"),
    "less contrast": (scaled(0.6, 50), "png"),
    "gamma": (lambda image: encoded((255 * (image / 255) ** 0.7).astype(np.uint8)), "png"),
    "JPEG 90": (jpeg(90), "jpg"),
    "JPEG 50": (jpeg(50), "jpg"),
    "JPEG 20": (jpeg(20), "jpg"),
    "noisy": (
        lambda image: encoded(
            np.clip(image + np.random.default_rng(1).normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        ),
        "png",
    ),
    "moved by a pixel": (lambda image: encoded(np.roll(image, 1, 1)), "png"),
}
for what, (change, suffix) in NEAR.items():
    case(
        f"near duplicate: {what}",
        recoded(change, suffix),
        ("near-duplicate", f"images/test/leak.{suffix}"),
        says="nearly images/train/2.png of train",
    )

# --- the list --------------------------------------------------------------------------------------------------------
for name in ("train/0", "val/0", "test/1"):
    case(
        f"{name} without mask",
        lambda f, n=name: f.remove(f"masks/{n}.png"),
        ("orphan-image", f"images/{name}.png"),
        says=f"no mask {name[-1]}.* in masks/{name.split('/')[0]}",
    )
    case(
        f"{name} without image",
        lambda f, n=name: f.remove(f"images/{n}.png"),
        ("orphan-mask", f"masks/{name}.png"),
        says=f"no image {name[-1]}.* in images/{name.split('/')[0]}",
    )


def renamed(old: str, new: str) -> Callable[[Folder], None]:
    return lambda folder: os.replace(folder.root / old, folder.root / new)


case(
    "a mask named otherwise",
    renamed("masks/train/3.png", "masks/train/3_mask.png"),
    ("orphan-image", "images/train/3.png"),
    ("orphan-mask", "masks/train/3_mask.png"),
)
case(
    "a mask of another suffix",
    renamed("masks/train/3.png", "masks/train/3.bmp"),
    ("orphan-image", "images/train/3.png"),
)
case(
    "a link to nothing",
    lambda f: (f.remove(MASK), (f.root / MASK).symlink_to(f.root / "gone.png"))[0],
    ("orphan-image", "images/train/0.png"),
)
case(
    "a folder named as a mask",
    lambda f: (f.remove(MASK), (f.root / MASK).mkdir())[0],
    ("orphan-image", "images/train/0.png"),
)
case(
    "two images of a stem",
    lambda f: f.write("images/train/0.jpg", encoded(f.image("train/0"), "JPEG")),
    ("ambiguous-stem", "images/train/0.jpg"),
    says="2 files with the stem '0'",
)
case(
    "an empty split",
    lambda f: [f.remove(name) for name in clean_files("index") if "/val/" in name] and None,
    ("empty-split", ""),
    says="split 'val' has no pair",
)
case(
    "other files",
    lambda f: f.write("images/train/notes.txt", b"x"),
    ("ignored-files", "images/train/notes.txt"),
    says="1 file *.txt in images/train",
)


def linked(folder: Folder) -> None:
    folder.remove("images/val/0.png")
    (folder.root / "images/val/0.png").symlink_to(folder.root / "images/train/0.png")
    folder.write("masks/val/0.png", other(folder.mask("train/0")))


case(
    "a link into another split",
    linked,
    ("file-in-two-splits", "images/train/0.png"),
    ("duplicate-in-two-splits", "images/train/0.png"),
    ("contradicting-masks", MASK),
    says="this image is in more than one split (1 in train, 1 in val)",
)


def tabled(*changes: tuple[str, str], header: str = "image,mask,split,group") -> Callable[[Folder], None]:
    """Lists the dataset in a table, each sample its own group, then replaces texts in it."""

    def change(folder: Folder) -> None:
        images = [name for name in clean_files(folder.kind) if name.startswith("images")]
        lines = [f"{i},masks/{n}.png,{n.split('/')[0]},g{n}" for i, n in zip(images, NAMES, strict=True)]
        text = "\n".join([header, *lines, ""])
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        folder.write("table.csv", text.encode())

    return change


case("a table", tabled())
case(
    "a listed image that is missing",
    tabled(("images/train/0.png", "images/train/gone.png")),
    ("missing-file", "images/train/gone.png"),
    says="line 2: images/train/gone.png not found",
)
case(
    "a listed mask that is missing",
    tabled(("masks/val/1.png", "masks/val/gone.png")),
    ("missing-file", "masks/val/gone.png"),
    says="masks/val/gone.png not found",
)
case(
    "an unknown split",
    tabled((",train,gtrain/3", ",training,gtrain/3")),
    ("unknown-split", "images/train/3.png"),
    says="got the split 'training', allowed: train, val, test",
)
case(
    "a group in two splits",
    tabled(("gtrain/0", "flight 1"), ("gval/1", "flight 1")),
    ("group-in-two-splits", "images/train/0.png"),
    says="group 'flight 1' is in more than one split",
)
case(
    "an image listed twice",
    tabled(("images/train/2.png", "images/train/0.png")),
    ("listed-twice", "images/train/0.png"),
    says="listed 2 times",
)
case(
    "a mask listed in two splits",
    tabled(("masks/val/0.png,val", "masks/train/0.png,val")),
    ("file-in-two-splits", MASK),
    ("shifted-mask", "images/val/0.png"),
    says="this mask is in more than one split",
)


def without_class(split: str, index: int) -> Callable[[Folder], None]:
    def change(folder: Folder) -> None:
        for name in (name for name in NAMES if name.startswith(split)):
            mask = folder.mask(name)
            mask[mask == index] = 255
            folder.write(f"masks/{name}.png", encoded(mask))

    return change


for split in SPLITS:
    case(
        f"no water in {split}",
        without_class(split, 1),
        ("missing-class", ""),
        says=f"class 'water' is in no mask of {split}",
    )
case("no roof at all", without_class("", 2), ("missing-class", ""), says="class 'roof' is in no mask that can be read")


def test_there_are_more_than_a_hundred_broken_inputs():
    assert len({case.name for case in CASES}) == len(CASES) > 150


@pytest.mark.parametrize("kind", KINDS)
def test_a_clean_dataset_has_no_finding(tmp_path: Path, kind: str):
    assert Folder(tmp_path, kind).check() == ()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-").replace("/", "."))
def test_a_broken_dataset(tmp_path: Path, case: Case):
    folder = Folder(tmp_path, case.kind)
    case.change(folder)
    findings = folder.check()
    got = {(finding.kind, (*finding.files, "")[0]) for finding in findings}
    tested = {kind for kind, _ in case.expected}
    blamed = {(f.kind, (*f.files, "")[0]) for f in findings if f.grade != Grade.HINT or f.kind in tested}
    assert blamed == set(case.expected), got
    first = [finding.text for finding in findings if finding.kind == case.expected[0][0]] if case.expected else []
    for text in case.says:
        assert any(text in found for found in first), first
    assert not any(str(tmp_path) in finding.text for finding in findings)  # names are relative


@pytest.mark.parametrize("file", CUT.values())
def test_no_damage_ends_the_check(tmp_path: Path, file: str):
    """Bytes changed, cut out and put in at random places: a finding or none, never an exception."""
    folder = Folder(tmp_path, "index")
    labels, encoding = KINDS["index"]
    image = file if file.startswith("images") else "images/train/2.png"
    sample = Sample(tmp_path / image, tmp_path / (file if file.startswith("masks") else MASK))
    clean = folder.read(file)
    rng = np.random.default_rng(len(clean))
    kinds = set()
    for _ in range(60):
        data = bytearray(clean)
        start = int(rng.integers(min(400, len(data)) if rng.random() < 0.5 else len(data)))  # headers more often
        data[start : start + int(rng.integers(0, 9))] = rng.bytes(int(rng.integers(0, 9)))
        folder.write(file, bytes(data))
        kinds |= {finding.kind for finding in check_pair(sample, "train", tmp_path, Rules(labels, encoding)).findings}
    assert f"unreadable-{'mask' if file.startswith('masks') else 'image'}" in kinds


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 3), (300, 1)])
def test_tiny_pairs_are_checked(tmp_path: Path, size: tuple[int, int]):
    (tmp_path / "i.png").write_bytes(encoded(np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)))
    (tmp_path / "m.png").write_bytes(encoded(np.zeros(size, np.uint8)))
    sample = Sample(tmp_path / "i.png", tmp_path / "m.png")
    kinds = {finding.kind for finding in check_pair(sample, "train", tmp_path, Rules(LABELS, IndexEncoding())).findings}
    assert kinds == {"one-class-mask"} | ({"constant-image"} if size == (1, 1) else set())
