"""seg.inference.files and predict_rows: predictions by windows are those of whole images, on the image's grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from seg.data.files.grids import check_grids
from seg.data.files.places import file_place
from seg.data.files.reading import reader
from seg.data.files.windows import Window
from seg.data.masks.planes import MultiLabelEncoding
from seg.data.masks.reading import read_mask
from seg.data.views.preprocessing import Preprocessing, ValueRange
from seg.inference.files import FilePredictor
from seg.inference.sliding_window import predict_logits, predict_rows
from seg.labels import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
LABELS = LabelSet.from_names(("ground", "road", "tree"))


class Blur:
    """A stand-in for a model: three fixed filters, so that a tile's border differs from the whole image's."""

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        image = images[0].sum(axis=-1)
        return np.stack([cv2.blur(image, (size, size)) for size in (3, 9, 15)], axis=-1)[None]


def predictor(out: Path, tile: int = 64, **settings: object) -> FilePredictor:
    bands = settings.pop("bands", 4)
    axis = settings.pop("axis", None)
    settings = {"resize": None, "value_range": ValueRange((0.0,) * bands, (65535.0,) * bands, clip=True), **settings}
    preprocessing = Preprocessing(bands, max_value=None, mean=(0.5,) * bands, std=(0.25,) * bands, **settings)
    return FilePredictor(Blur(), preprocessing, LABELS, out, tile, 20, axis)


@pytest.mark.parametrize(("shape", "tile", "overlap"), [((150, 97), 64, 20), ((64, 64), 64, 0), ((70, 30), 64, 63)])
def test_rows_are_the_whole_images_to_the_bit(shape: tuple[int, int], tile: int, overlap: int) -> None:
    rng = np.random.default_rng(0)
    image, gone = rng.normal(size=(*shape, 2)).astype(np.float32), rng.random(shape) < 0.3
    expected = predict_logits(Blur(), image, tile=tile, overlap=overlap)

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        assert window.height <= tile and window.width <= tile
        return image[window.slices], gone[window.slices]

    seen = 0
    for top, logits, missing in predict_rows(Blur(), read, shape, tile=tile, overlap=overlap):
        assert top == seen and len(logits) <= tile
        np.testing.assert_array_equal(logits, expected[top : top + len(logits)])
        np.testing.assert_array_equal(missing, gone[top : top + len(logits)])
        seen += len(logits)
    assert seen == shape[0]


def test_a_geotiff_becomes_one_on_its_grid_void_where_it_has_no_data(
    tmp_path: Path, write_raster: Callable, noise: Callable
) -> None:
    pixels = noise((150, 170, 4), "uint16").clip(1)
    pixels[30:60, 40:90] = 0
    path = write_raster(tmp_path / "scene.tif", pixels, nodata=0)
    predictor(tmp_path / "out").predict(path)
    stored = reader(tmp_path / "out/masks/scene.tif").read()
    mask = stored.values
    assert stored.nodata == (255,)
    check_grids(path, tmp_path / "out/masks/scene.tif")
    np.testing.assert_array_equal(mask == 255, (pixels == 0).all(axis=2))
    unit = np.where(pixels == 0, 0.5, pixels / np.float32(65535)).astype(np.float32)
    expected = predict_logits(Blur(), (unit - 0.5) / 0.25, tile=64, overlap=20).argmax(axis=-1)
    inside = mask != 255
    assert (mask[inside] != expected[inside]).mean() < 1e-3  # logits that are equal but for a rounding
    picture = cv2.imread(str(tmp_path / "out/overlays/scene.png"))
    assert picture.shape == (150, 170, 3) and picture.std() > 5


def test_resizing_is_of_the_whole_raster(tmp_path: Path, write_raster: Callable, noise: Callable) -> None:
    path = write_raster(tmp_path / "scene.tif", noise((150, 170, 4), "uint16"))
    predictor(tmp_path / "out", resize=(40, 60)).predict(path)
    mask = reader(tmp_path / "out/masks/scene.tif").read().values
    assert mask.shape == (150, 170) and set(np.unique(mask)) == {0, 1, 2}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_nifti_becomes_one(tmp_path: Path, axis: int) -> None:
    scan = np.random.default_rng(0).integers(0, 2000, (12, 20, 16)).astype(np.int16)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(scan, affine), tmp_path / "scan.nii.gz")
    one = predictor(tmp_path / "out", bands=1, axis=axis, value_range=ValueRange((0.0,), (2000.0,), clip=True))
    one.predict(tmp_path / "scan.nii.gz")
    written = nibabel.load(tmp_path / "out/masks/scan.nii.gz")
    np.testing.assert_array_equal(written.affine, affine)
    mask = np.asarray(written.dataobj)
    for index in (0, scan.shape[axis] - 1):
        inputs = (np.take(scan, index, axis)[..., None].astype(np.float32) / 2000 - 0.5) / 0.25
        expected = Blur().predict_on_batch(inputs[None])[0].argmax(axis=-1)
        assert (np.take(mask, index, axis) != expected).mean() < 0.02  # of 200 pixels, one at a rounding
    assert (tmp_path / "out/overlays/scan.png").exists()


def test_a_picture_becomes_a_png(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(1, 65536, (30, 40)).astype(np.uint16)
    image[3:5, 6:9] = 0
    cv2.imwrite(str(tmp_path / "a.png"), image)
    one = predictor(tmp_path / "out", bands=1, nodata=0.0)
    one.predict(tmp_path / "a.png")
    mask = cv2.imread(str(tmp_path / "out/masks/a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask == 255, image == 0)


def test_a_picture_with_a_world_file_becomes_a_geotiff_there(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))
    (tmp_path / "a.pgw").write_text("0.5\n0\n0\n-0.5\n500000.25\n4999999.75\n")
    for name in ("a.png", "b.png"):
        predictor(tmp_path / "out", bands=3, value_range=None).predict(tmp_path / name)
    assert sorted(path.name for path in (tmp_path / "out/masks").iterdir()) == ["a.tif", "b.png"]
    place = file_place(tmp_path / "out/masks/a.tif")
    assert place is not None and tuple(place.transform)[:6] == (0.5, 0, 500_000, 0, -0.5, 5_000_000)
    written, plain = (reader(tmp_path / "out/masks" / name).read().values for name in ("a.tif", "b.png"))
    np.testing.assert_array_equal(written, plain)


def test_overlapping_classes_of_a_georeferenced_image_are_bands_on_its_grid(
    tmp_path: Path, write_raster: Callable, noise: Callable
) -> None:
    path = write_raster(tmp_path / "scene.tif", noise((70, 90, 4), "uint16"))
    labels = LabelSet.from_names(("wet", "red", "old"), multi_label=True)
    replace(predictor(tmp_path / "out"), labels=labels).predict(path)
    check_grids(path, tmp_path / "out/masks/scene.tif")
    mask = read_mask(tmp_path / "out/masks/scene.tif", labels, MultiLabelEncoding())
    assert mask.shape == (70, 90, 3) and set(np.unique(mask)) == {0, 1}
    assert file_place(tmp_path / "out/masks/scene.tif") == file_place(path)
