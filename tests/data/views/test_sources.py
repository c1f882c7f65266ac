"""What is read by windows is what the whole image gives; evaluation tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import seg.data.views.sources as sources
from seg.data.files.images import resize_image, resize_mask
from seg.data.files.windows import Window, whole
from seg.data.masks.reading import BinaryEncoding, ColourEncoding, IndexEncoding, PaletteEncoding, read_mask
from seg.data.samples.pairs import Sample
from seg.data.views.preprocessing import Preprocessing, ValueRange
from seg.data.views.sources import SampleSource, evaluation_views, middle_view
from seg.data.views.transforms import Augmentation
from seg.errors import DataError
from seg.labels import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
LABELS = LabelSet.from_names(("ground", "road", "tree"))
BANDS = 6  # more than OpenCV's borders and area averages take at once
SHAPE = (150, 206)
GEOMETRIC = {
    "flips": {"horizontal_flip": 0.5, "vertical_flip": 0.5, "crop": (32, 40)},
    "rotate90": {"rotate90": 1.0, "crop": (32, 40)},
    "zoom in": {"scale": (1.0, 2.5), "crop": (32, 40)},
    "zoom out": {"scale": (0.4, 1.0), "crop": (32, 40)},
    "rotate": {"rotate": 45.0, "crop": (32, 40), "horizontal_flip": 0.5},
    "elastic": {"elastic": 8.0, "crop": (32, 40), "vertical_flip": 0.5},
    "padding": {"crop": (250, 260), "horizontal_flip": 0.5},
    "resize": {"resize": (100, 300), "crop": (32, 40)},
    "resize alone": {"resize": (100, 300)},
    "nothing": {},
    "all": {
        "rotate90": 0.5,
        "scale": (0.5, 2.0),
        "rotate": 30.0,
        "elastic": 5.0,
        "crop": (50, 30),
        "vertical_flip": 0.5,
    },
}
COPYING = ("flips", "rotate90", "padding", "nothing")  # whole pixels move: bit for bit


def smooth(bands: int = BANDS) -> np.ndarray:
    """Smooth, so that a rounding of coordinates by a thousandth of a pixel is a rounding of values too."""
    coarse = np.random.default_rng(0).random((10, 14, bands)).astype(np.float32)
    parts = [cv2.resize(coarse[..., band], SHAPE[::-1], interpolation=cv2.INTER_CUBIC) for band in range(bands)]
    return (np.stack(parts, axis=2) * 180 + 30).clip(0, 255).astype(np.uint8)


def blobs() -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 3, (15, 20)).astype(np.uint8)
    return cv2.resize(coarse, SHAPE[::-1], interpolation=cv2.INTER_NEAREST)


def source(sample: Sample, bands: int = BANDS, **settings: object) -> SampleSource:
    preprocessing = Preprocessing(bands, None, None, (0.5,) * bands, (0.25,) * bands, **settings)
    return SampleSource(sample, LABELS, IndexEncoding(), preprocessing)


@pytest.fixture
def sample(tmp_path: Path, write_raster: Callable) -> Sample:
    return Sample(write_raster(tmp_path / "i.tif", smooth()), write_raster(tmp_path / "m.tif", blobs()))


# --- augmented crops ---
@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_crop_read_by_its_window_is_that_of_the_whole_image(sample: Sample, name: str) -> None:
    augment = Augmentation(**GEOMETRIC[name], bands=BANDS, brightness=0.1, contrast=0.1)
    unequal = 0.0
    for seed in range(12):
        image, mask = augment(smooth(), blobs(), seed)
        pixels, missing = augment.of_source(source(sample), seed)
        assert pixels.image.shape == image.shape and pixels.image.dtype == np.uint8
        assert pixels.image.flags.c_contiguous and pixels.mask.dtype == np.uint8
        inside = ~missing[..., 0]
        np.testing.assert_array_equal(missing[..., :1] | np.zeros_like(missing), missing)
        if name in COPYING:
            np.testing.assert_array_equal(pixels.image, image)
            np.testing.assert_array_equal(pixels.mask, mask)
        # OpenCV rounds coordinates to 1/32 pixel or float32, and those in a window are smaller numbers: a step or two
        difference = np.abs(pixels.image.astype(int) - image)[inside]
        assert difference.max(initial=0) <= 3 and difference.mean() < 0.2
        unequal = max(unequal, float((pixels.mask != mask).mean()))
    assert unequal <= 0.02  # nearest pixels at ties


def test_only_the_window_is_read(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crop of 32 x 40 zoomed by at most 2 and turned by at most 30 degrees needs no more than its enlarged box."""
    windows: list[Window] = []
    read = SampleSource.read
    monkeypatch.setattr(SampleSource, "read", lambda self, window: windows.append(window) or read(self, window))
    for name, most in (("flips", 34 * 42), ("zoom in", 35 * 43), ("zoom out", (36 / 0.4 + 1) * (44 / 0.4 + 1))):
        windows.clear()
        augment = Augmentation(**GEOMETRIC[name], bands=BANDS)
        for seed in range(20):
            augment.of_source(source(sample), seed)
        assert len(windows) == 20
        assert max(window.height * window.width for window in windows) <= most
        assert len({window[:2] for window in windows}) > 10


def test_pixels_from_outside_are_void_and_missing(sample: Sample) -> None:
    pixels, missing = Augmentation(crop=(250, 260), bands=BANDS).of_source(source(sample), 0)
    np.testing.assert_array_equal(missing.all(axis=2), pixels.mask == 255)
    assert (pixels.mask == 255).sum() == 250 * 260 - SHAPE[0] * SHAPE[1]


def test_a_draw_depends_on_the_seed_alone(sample: Sample) -> None:
    augment = Augmentation(**GEOMETRIC["all"], bands=BANDS, brightness=0.2)
    first = [augment.of_source(source(sample), seed)[0] for seed in range(6)]
    augment(smooth(), blobs(), 99)
    again = [augment.of_source(source(sample), seed)[0] for seed in reversed(range(6))][::-1]
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.mask, two.mask)
    assert len({pixels.image.tobytes() for pixels in first}) == 6


# --- missing values ---
def test_missing_values_are_the_mean_and_then_zero_whatever_the_augmentation(
    tmp_path: Path, write_raster: Callable
) -> None:
    """Nodata of all bands is void; of one band it is 0 after normalisation there and nothing else."""
    image = smooth(4).astype(np.int16) * 10
    image[40:80, 50:90] = -9999
    image[90:120, :60, 2] = -9999
    image_file = write_raster(tmp_path / "i.tif", image, nodata=-9999)
    reader = source(
        Sample(image_file, write_raster(tmp_path / "m.tif", blobs())),
        bands=4,
        value_range=ValueRange((500.0,) * 4, (1500.0,) * 4, clip=False),
    )
    pixels = reader.read(whole(SHAPE))
    gone = image == -9999
    np.testing.assert_array_equal(pixels.missing, gone)
    np.testing.assert_array_equal(pixels.mask, np.where(gone.all(axis=2), 255, blobs()))
    np.testing.assert_allclose(pixels.image[~gone], (image[~gone] - 500) / 1000, atol=1e-6)
    assert (pixels.image[gone] == 0.5).all()
    augment = Augmentation(**GEOMETRIC["all"], bands=4, brightness=0.3, contrast=0.3, saturate=False)
    for seed in range(20):
        drawn, missing = augment.of_source(reader, seed)
        prepared = reader.preprocessing.prepare(drawn.image, missing)
        assert (prepared[missing] == 0).all() and np.abs(prepared).max() < 12  # -9999 would be about -42
        assert (drawn.mask[missing.all(axis=2)] == 255).all()


def test_a_mask_raster_of_nodata(tmp_path: Path, write_raster: Callable) -> None:
    mask = blobs()
    mask[:30] = 200
    file = write_raster(tmp_path / "m.tif", mask, nodata=200)
    np.testing.assert_array_equal(read_mask(file, LABELS, IndexEncoding()), np.where(mask == 200, 255, mask))
    window = Window(20, 30, 40, 50)
    np.testing.assert_array_equal(
        read_mask(file, LABELS, IndexEncoding(), window), np.where(mask == 200, 255, mask)[window.slices]
    )
    class_file = write_raster(tmp_path / "class.tif", blobs(), nodata=0)
    with pytest.raises(DataError, match=r"class\.tif: its nodata value 0 means class 'ground', allowed: a value that"):
        read_mask(class_file, LABELS, IndexEncoding())
    unknown = write_raster(tmp_path / "u.tif", np.where(mask == 200, 77, mask).astype(np.uint8))
    with pytest.raises(DataError, match=r"u\.tif: label value 77 in 6180 pixels; allowed: 0 to 2"):
        read_mask(unknown, LABELS, IndexEncoding())


def test_mask_rasters_in_other_encodings(tmp_path: Path, write_raster: Callable) -> None:
    colours = np.array(LABELS.colours, np.uint8)[blobs()]
    file = write_raster(tmp_path / "c.tif", colours)
    np.testing.assert_array_equal(read_mask(file, LABELS, ColourEncoding()), blobs())
    two = LabelSet.from_names(("no", "yes"))
    gray = write_raster(tmp_path / "b.tif", (blobs() > 0).astype(np.uint8) * 255)
    np.testing.assert_array_equal(read_mask(gray, two, BinaryEncoding()), blobs() > 0)
    with pytest.raises(DataError, match=r"b\.tif: holds one band of uint8 values, allowed with 'colour': 3 of uint8"):
        read_mask(gray, LABELS, ColourEncoding())
    with pytest.raises(DataError, match=r"c\.tif: holds 3 bands, allowed with 'index': 1"):
        read_mask(file, LABELS, IndexEncoding())
    with pytest.raises(DataError, match=r"b\.tif: is a raster or a volume, allowed: a palette PNG, or the encoding"):
        read_mask(gray, LABELS, PaletteEncoding())


def test_a_png_mask_beside_a_raster(tmp_path: Path, write_raster: Callable) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), blobs())
    reader = source(Sample(write_raster(tmp_path / "i.tif", smooth()), tmp_path / "m.png"))
    window = Window(7, 100, 90, 50)
    np.testing.assert_array_equal(reader.read(window).mask, blobs()[window.slices])
    cv2.imwrite(str(tmp_path / "small.png"), blobs()[:-1])
    small = source(Sample(tmp_path / "i.tif", tmp_path / "small.png"))
    with pytest.raises(DataError, match=r"i\.tif is 150 x 206 \(height x width\) but its mask .*small\.png is 149 x"):
        Augmentation(crop=(8, 8), bands=BANDS).of_source(small, 0)


# --- refusals ---
def test_colour_jitter_is_for_8_bit_images(tmp_path: Path, write_raster: Callable) -> None:
    image = write_raster(tmp_path / "i.tif", smooth(3).astype(np.uint16))
    reader = source(Sample(image, write_raster(tmp_path / "m.tif", blobs())), bands=3)
    augment = Augmentation(colour_jitter=0.2, crop=(32, 32))
    with pytest.raises(
        DataError,
        match=r"i\.tif: holds uint16 values, which augmentation\.colour_jitter does not take \(3-band 8-bit images "
        r"only\); allowed: horizontal_flip, vertical_flip, rotate90, scale, rotate, elastic, brightness, contrast",
    ):
        augment.of_source(reader, 0)
    eight = source(Sample(write_raster(tmp_path / "e.tif", smooth(3)), tmp_path / "m.tif"), bands=3)
    assert augment.of_source(eight, 0)[0].image.dtype == np.uint8


def test_pixel_weights_of_a_part_of_a_mask(sample: Sample) -> None:
    reader = source(sample)
    weighted = SampleSource(*[getattr(reader, key) for key in ("sample", "labels", "encoding", "preprocessing")], len)
    with pytest.raises(DataError, match=r"i\.tif: is a raster, which is read by windows, while pixel_weights depend"):
        weighted.read(whole(SHAPE))


# --- evaluation ---
def test_tiles_score_each_pixel_once(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "EVALUATION_TILE", 64)
    monkeypatch.setattr(sources, "EVALUATION_MARGIN", 10)
    views = evaluation_views([sample], source(sample).preprocessing)
    assert len(views) == 3 * 4
    scored = np.zeros(SHAPE, int)
    for view in views:
        assert view.window is not None and view.scored is not None
        part = scored[view.window.slices]
        assert part.shape == view.window[2:]  # inside the image
        part[view.scored.slices] += 1
        edges = (view.scored.top, view.scored.left)
        assert edges == (min(10, view.window.top + view.scored.top), min(10, view.window.left + view.scored.left))
    assert (scored == 1).all()
    resized = Preprocessing(BANDS, (64, 64), None, (0.0,) * BANDS, (1.0,) * BANDS)
    assert evaluation_views([sample], resized)[0][1:] == (None, None)
    assert middle_view(sample, source(sample).preprocessing).window == (43, 71, 64, 64)
    assert middle_view(sample, resized).window is None
    assert len({view.name for view in views}) == len(views) and views[0].name == f"{sample.image.stem} 0 0"


def test_small_rasters_and_pictures_are_one_view(sample: Sample, tmp_path: Path) -> None:
    picture = Sample(tmp_path / "a.png", tmp_path / "b.png")
    views = evaluation_views([sample, picture], source(sample).preprocessing)
    assert [view[1:] for view in views] == [(None, None)] * 2
    assert middle_view(picture, source(sample).preprocessing).window is None
    assert views[1].name == "a"


def test_resizing_a_whole_raster(tmp_path: Path, write_raster: Callable) -> None:
    image = smooth().clip(1)
    image[:20] = 0
    file = write_raster(tmp_path / "i.tif", image, nodata=0)
    preprocessing = Preprocessing(BANDS, (75, 103), None, (0.5,) * BANDS, (0.25,) * BANDS)
    pixels = SampleSource(
        Sample(file, write_raster(tmp_path / "m.tif", blobs())), LABELS, IndexEncoding(), preprocessing
    ).read_resized()
    filled = np.where(image == 0, 128, image).astype(np.uint8)
    np.testing.assert_array_equal(pixels.image, resize_image(filled, (75, 103)))
    mask = blobs()
    mask[:20] = 255
    np.testing.assert_array_equal(pixels.mask, resize_mask(mask, (75, 103)))
    assert pixels.missing is not None and pixels.missing[:10].all() and not pixels.missing[10:].any()
