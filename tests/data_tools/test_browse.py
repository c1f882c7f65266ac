"""The browse command: which samples it chooses, what it refuses, and that a broken file is shown as one."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image

import seg.data.files.reading
from data_tools import browse
from data_tools.browse import main
from data_tools.check_dataset import main as check
from data_tools.scenes.attributes import ATTRIBUTE_LABELS
from data_tools.scenes.scene import SCENE_LABELS, write_scenes
from seg.balance import collect_statistics
from seg.data.masks.planes import MultiLabelEncoding, count_planes, write_planes
from seg.data.masks.reading import IndexEncoding, read_mask
from seg.labels import LabelSet


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browse")
    write_scenes(root / "scenes", {"train": 14, "val": 3, "test": 3}, size=96, seed=1)
    names = ", ".join(SCENE_LABELS.names)
    (root / "c.yaml").write_text(
        f"name: sheet\nlabels: {{names: [{names}]}}\ndata: {{name: folders, root: {root}/scenes}}\n"
        "model: {name: unet}\nloss: [{name: dice}]\ntraining: {epochs: 1, batch_size: 1}\n"
    )
    return root


def run(root: Path, out: Path, *arguments: str) -> list[str]:
    """The names on the page."""
    assert main(["--config", str(root / "c.yaml"), "--out", str(out), *arguments]) == 0
    return re.findall(r"<h2>([^<]*)</h2>", out.read_text("utf-8"))


def test_the_richest_are_those_of_the_statistics(scenes, tmp_path, capsys):
    masks = sorted((scenes / "scenes/masks/train").iterdir())
    richest = collect_statistics(masks, SCENE_LABELS, IndexEncoding()).richest
    for index, name in enumerate(SCENE_LABELS.names):
        found = [f"images/train/{mask}" for _, mask in richest[index]]
        if not found:
            continue
        got = run(scenes, tmp_path / "s.html", "--split", "train", "--class", name, "--top", "10")
        assert got == found
    assert "samples of train with most pixels of 'solar_panel'" in capsys.readouterr().out


def test_all_splits_and_more_than_the_statistics_keep(scenes, tmp_path):
    got = run(scenes, tmp_path / "s.html", "--class", "field")
    assert len(got) == 20
    assert {name.split("/")[1] for name in got} == {"train", "val", "test"}


def test_random_samples_are_fixed_by_the_seed(scenes, tmp_path):
    first = run(scenes, tmp_path / "a.html", "--random", "5", "--seed", "3")
    assert first == run(scenes, tmp_path / "b.html", "--random", "5", "--seed", "3")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert first != run(scenes, tmp_path / "c.html", "--random", "5", "--seed", "4")
    assert len(set(first)) == 5
    assert len(run(scenes, tmp_path / "d.html", "--random", "400")) == 20


def test_samples_by_name_in_the_order_given(scenes, tmp_path):
    names = "images/val/0001.png,masks/train/0007.png"
    assert run(scenes, tmp_path / "s.html", "--samples", names) == ["images/val/0001.png", "images/train/0007.png"]
    got = run(scenes, tmp_path / "s.html", "--split", "train", "--samples", "0013,0002.png")
    assert got == ["images/train/0013.png", "images/train/0002.png"]


def test_findings_of_a_check_broken_files_among_them(scenes, tmp_path):
    root = tmp_path / "scenes"
    for path in (scenes / "scenes").rglob("*.png"):
        copy = root / path.relative_to(scenes / "scenes")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (root / "masks/train/0002.png").write_bytes(b"")
    (root / "images/val/0001.png").write_bytes(b"no image")
    cv2.imwrite(str(root / "masks/test/0000.png"), np.zeros((50, 96), np.uint8))
    report = tmp_path / "report.json"
    override = f"data.root={root}"
    assert check(["--config", str(scenes / "c.yaml"), override, "--json", str(report), "--small-pixels", "0"]) == 1
    page = tmp_path / "s.html"
    got = run(scenes, page, override, "--findings", str(report))
    assert got[:3] == ["images/val/0001.png", "images/train/0002.png", "images/test/0000.png"]
    text = page.read_text("utf-8")
    assert "error: unreadable-mask: is no image that can be read (it is empty), allowed: PNG, JPEG, TIFF" in text
    assert "image 96 x 96, mask 50 x 96 (height x width)" in text
    got = run(scenes, page, override, "--findings", str(report), "--kind", "size-mismatch")
    assert got == ["images/test/0000.png"]


def test_masks_that_cannot_be_read_are_no_ones_richest(scenes, tmp_path):
    root = tmp_path / "scenes"
    write_scenes(root, {"train": 2, "val": 1}, size=64, seed=1)
    (root / "masks/train/0000.png").write_bytes(b"")
    assert "images/train/0000.png" not in run(scenes, tmp_path / "s.html", f"data.root={root}", "--class", "field")


def test_a_class_that_no_sample_has(scenes, tmp_path, capsys):
    labels = "labels={names: [" + ", ".join([*SCENE_LABELS.names, "moon"]) + "]}"
    out = tmp_path / "s.html"
    assert main(["--config", str(scenes / "c.yaml"), "--out", str(out), labels, "--class", "moon"]) == 2
    assert "no sample to show: the 0 samples of all splits with most pixels of 'moon'" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "bot"], "--class: got 'bot', allowed: field, forest, water, road, building, boat, solar_panel; "
         "did you mean 'boat'?"),
        (["--split", "dev"], "--split: got 'dev', allowed: train, val, test"),
        (["--samples", "0000"], "--samples: '0000' names 3 samples (images/train/0000.png, images/val/0000.png, "
         "images/test/0000.png); allowed: a name of one"),
        (["--samples", "images/train/00.png"], "--samples: no sample 'images/train/00.png' among 20; did you mean "),
        (["--top", "3"], "--top: has no effect without --class"),
        (["--kind", "small-components"], "--kind: has no effect without --findings"),
        (["--findings", "x.json", "--kind", "speck"], "--kind: got 'speck', allowed: missing-file, "),
        (["--class", "boat", "--seed", "1"], "--seed: has no effect on samples that are not chosen at random"),
        (["--class", "boat", "--top", "0"], "--top: got 0, allowed: 1 or more"),
        (["--random", "0"], "--random: got 0, allowed: 1 or more"),
        (["--side", "8"], "--side: got 8, allowed: 16 or more"),
        (["--megabytes", "0"], "--megabytes: got 0, allowed: above 0"),
        (["--megabytes", "0.05"], "the page grows beyond 0.05 MB at sample "),
        (["--findings", "x.json"], "x.json: is no report of data_tools.check_dataset --json (FileNotFoundError"),
    ],
)  # fmt: skip
def test_messages(scenes, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--config", str(scenes / "c.yaml"), "--out", "s.html", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "s.html").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"findings": [{"kind": "small-components"}]}', '{"findings": 3}'])
def test_a_report_of_another_shape(scenes, content, tmp_path, capsys):
    (tmp_path / "r.json").write_text(content)
    arguments = [
        "--config",
        str(scenes / "c.yaml"),
        "--out",
        str(tmp_path / "s"),
        "--findings",
        str(tmp_path / "r.json"),
    ]
    assert main(arguments) == 2
    assert "r.json: is no report of data_tools.check_dataset --json" in capsys.readouterr().err


def test_too_many_samples(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(browse, "MOST_SAMPLES", 4)
    assert main(["--config", str(scenes / "c.yaml"), "--out", str(tmp_path / "s"), "--random", "5"]) == 2
    assert capsys.readouterr().err == "error: 5 samples chosen, allowed: at most 4 a page\n"


def test_two_ways_to_choose_are_refused(scenes, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--config", str(scenes / "c.yaml"), "--out", "s", "--class", "boat", "--random", "3"])
    assert caught.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_report_made_by_hand_may_name_files_that_are_gone(scenes, tmp_path):
    finding = {
        "kind": "small-components",
        "grade": "hint",
        "files": ["gone.png", "masks/val/0000.png"],
        "text": "few; most: x",
    }
    (tmp_path / "r.json").write_text(json.dumps({"findings": [finding]}))
    got = run(scenes, tmp_path / "s.html", "--findings", str(tmp_path / "r.json"))
    assert got == ["images/val/0000.png"]
    assert "hint: small-components: few</p>" in (tmp_path / "s.html").read_text("utf-8")


@pytest.fixture(scope="module")
def attributes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of generated scenes whose classes overlap."""
    root = tmp_path_factory.mktemp("attributes")
    write_scenes(root / "scenes", {"train": 5, "val": 2, "test": 2}, size=192, seed=0, multi_label=True)
    names = ", ".join(ATTRIBUTE_LABELS.names)
    (root / "c.yaml").write_text(
        f"name: sheet\nlabels: {{names: [{names}], encoding: {{name: multi_label}}}}\n"
        f"data: {{name: folders, root: {root}/scenes}}\n"
        "model: {name: unet}\nloss: [{name: binary_cross_entropy}]\ntraining: {epochs: 1, batch_size: 1}\n"
    )
    return root


def test_classes_that_overlap(attributes, tmp_path, capsys):
    got = run(attributes, tmp_path / "s.html", "--class", "trees", "--top", "3", "--split", "train")
    masks = sorted((attributes / "scenes/masks/train").iterdir())
    trees = ATTRIBUTE_LABELS.names.index("trees")
    numbers = {mask.stem: count_planes(mask, ATTRIBUTE_LABELS)[trees, 1] for mask in masks}
    best = sorted((stem for stem in numbers if numbers[stem]), key=lambda stem: (-numbers[stem], stem))[:3]
    assert got == [f"images/train/{stem}.png" for stem in best]
    text = (tmp_path / "s.html").read_text("utf-8")
    # Of all pixels: the shares of classes that overlap do not add up, so there is no bar of them either.
    assert f"trees {numbers[best[0]] / 192**2:.2%}" in text
    assert "<div class=bar>" not in text


def test_overlapping_classes_are_checked(attributes, tmp_path, capsys):
    arguments = ["--config", str(attributes / "c.yaml"), "--strict", "--json", str(tmp_path / "r.json")]
    assert check(arguments) == 0, capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    masks = sorted((attributes / "scenes/masks/val").iterdir())
    present = sum(count_planes(mask, ATTRIBUTE_LABELS)[:, 1] for mask in masks)
    assert list(report["splits"]["val"]["pixels"].values())[:-1] == present.tolist()


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda mask: mask * 0, "one-class-mask", "no pixel is of any class, 36864 are labelled"),
        (lambda mask: mask * 0 + 255, "all-void-mask", "all 36864 pixels are void"),
        (lambda mask: np.where(mask == 1, np.uint8(7), mask), "unknown-labels", "plane of class 'vegetation': value 7"),
        (lambda mask: mask[..., :-1], "unsupported-mask", "got 5 page(s), allowed: 6"),
        (lambda mask: np.roll(mask, (7, -6), (0, 1)), "shifted-mask", "7 pixels up and 6 pixels right"),
        (lambda mask: mask[:-2], "size-mismatch", "the mask 190 x 192"),
    ],
)
def test_broken_masks_of_overlapping_classes(attributes, tmp_path, change, kind, text):
    arguments = ["--config", str(attributes / "c.yaml"), "--json", str(tmp_path / "r.json")]
    path = attributes / "scenes/masks/train/0003.tif"
    before = path.read_bytes()
    mask = read_mask(path, ATTRIBUTE_LABELS, MultiLabelEncoding())
    try:
        write_planes(path, np.ascontiguousarray(change(mask)))
        check(arguments)
    finally:
        path.write_bytes(before)
    found = [one for one in json.loads((tmp_path / "r.json").read_text())["findings"] if one["kind"] == kind]
    assert len(found) == 1
    assert "masks/train/0003.tif" in found[0]["files"]
    assert text in found[0]["text"]


def raster_config(root: Path, bands: int, more: str = "", nodata: str = "") -> None:
    (root / "c.yaml").write_text(
        f"name: sheet\nlabels: {{names: [ground, roof]}}\ninput: {{bands: {bands}{nodata}, max_value: 60000}}\n"
        f"data: {{name: folders, root: {root}{more}}}\n"
        "model: {name: unet}\nloss: [{name: dice}]\ntraining: {epochs: 1, batch_size: 1}\n"
    )


def pictures(page: Path) -> dict[str, np.ndarray]:
    """Of each picture on a page its letter and number, and the pixels as OpenCV decodes them."""
    found = re.findall(r"\.([im]\d+)\{background-image:url\(data:image/\w+;base64,([^)]*)\)", page.read_text("utf-8"))
    decoded = {name: np.frombuffer(base64.b64decode(data), np.uint8) for name, data in found}
    return {name: cv2.imdecode(data, cv2.IMREAD_UNCHANGED) for name, data in decoded.items()}


@pytest.mark.parametrize("large", [False, True])
def test_rasters_of_four_bands(tmp_path, write_raster, monkeypatch, large):
    """Left half dark, right half bright with a roof, the lowest quarter no data: 65535 takes no contrast."""
    if large:
        monkeypatch.setattr(seg.data.files.reading, "LARGE_PIXELS", 64 * 64)
        whole = browse.read_mask

        def by_blocks(*arguments):
            assert len(arguments) == 4 and arguments[3] is not None, "read whole"
            return whole(*arguments)

        monkeypatch.setattr(browse, "read_mask", by_blocks)
    image = np.full((128, 160, 4), 1000, np.uint16)
    image[:, 80:] = 5000
    mask = np.zeros((128, 160), np.uint8)
    mask[:, 80:] = 1
    mask[96:] = 255
    image[96:] = 65535
    for split in ("train", "val"):
        write_raster(tmp_path / f"images/{split}/a.tif", image)
        write_raster(tmp_path / f"masks/{split}/a.tif", mask, nodata=255)
    raster_config(tmp_path, 4, nodata=", nodata: 65535")
    assert run(tmp_path, tmp_path / "s.html", "--side", "64") == ["images/train/a.tif", "images/val/a.tif"]
    text = (tmp_path / "s.html").read_text("utf-8")
    assert "roof 37.50%" in text and "128 &times; 160" in text  # 80 of 160 columns of 96 of 128 rows
    shown = pictures(tmp_path / "s.html")
    assert set(shown) == {"i0", "m0", "i1", "m1"}
    assert shown["i0"].shape[:2] == shown["m0"].shape[:2] == (51, 64)
    assert shown["i0"][:30, :28].mean() < 20 and shown["i0"][:30, 36:].mean() > 235 and shown["i0"][44:].mean() < 20
    assert set(np.unique(shown["m0"][:36, :, 3])) == {255} and set(np.unique(shown["m0"][40:, :, 3])) == {0}


def test_a_raster_of_another_band_count_and_a_class_that_is_none(tmp_path, write_raster, monkeypatch):
    monkeypatch.setattr(seg.data.files.reading, "LARGE_PIXELS", 64 * 64)
    for split in ("train", "val"):
        write_raster(tmp_path / f"images/{split}/a.tif", np.ones((128, 160, 3), np.uint16))
        write_raster(tmp_path / f"masks/{split}/a.tif", np.full((128, 160), 9, np.uint8))
    raster_config(tmp_path, 4)
    run(tmp_path, tmp_path / "s.html", "--split", "train")
    text = (tmp_path / "s.html").read_text("utf-8")
    assert "image: has 3 bands where input.bands is 4" in text and "mask: label value 9 in" in text
    assert pictures(tmp_path / "s.html") == {}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_slices_of_a_stack(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind, pages in (("images", rng.integers(0, 256, (3, 40, 50))), ("masks", rng.integers(0, 2, (3, 40, 50)))):
            path = tmp_path / f"{kind}/{split}/a.tif"
            path.parent.mkdir(parents=True)
            first, *others = [Image.fromarray(page.astype(np.uint8)) for page in pages]
            first.save(path, save_all=True, append_images=others)
    raster_config(tmp_path, 1, ", slices: {axis: 0}")
    names = [f"images/{split}/a.tif#0:{index}" for split in ("train", "val") for index in range(3)]
    assert run(tmp_path, tmp_path / "s.html") == names
    assert run(tmp_path, tmp_path / "s.html", "--samples", names[4]) == [names[4]]
    assert pictures(tmp_path / "s.html")["i0"].shape[:2] == (40, 50)
    (tmp_path / "masks/val/a.tif").write_bytes(b"none")
    assert run(tmp_path, tmp_path / "s.html") == names[:3]


def test_a_large_label_raster_is_shown_without_its_interpolated_overviews(tmp_path, write_raster, monkeypatch):
    """Rows of classes 0 and 2, whose average is 1: a class that the file does not hold."""
    monkeypatch.setattr(seg.data.files.reading, "LARGE_PIXELS", 64 * 64)
    mask = np.zeros((256, 256), np.uint8)
    mask[::2] = 2
    for split in ("train", "val"):
        write_raster(tmp_path / f"images/{split}/a.tif", np.ones((256, 256, 4), np.uint16))
        path = write_raster(tmp_path / f"masks/{split}/a.tif", mask)
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4, 8], rasterio.enums.Resampling.average)
    labels = LabelSet.from_names(("ground", "water", "roof"))
    source = browse.Source(tmp_path, [], labels, IndexEncoding(), 4, "test")
    with rasterio.open(path) as file:
        assert 1 in file.read(1, out_shape=(64, 64))  # what GDAL takes for a small picture
    png, pixels, size = browse._large_mask(path, source, 60)
    shown = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown.shape[:2] == (60, 60) and len({tuple(colour) for colour in shown.reshape(-1, 4).tolist()}) == 2
    assert pixels.tolist() == [128 * 256, 0, 128 * 256, 0] and size == (256, 256)
    small = IndexEncoding().reader(path).read(longest=60).values
    assert small.shape == (60, 60) and set(np.unique(small)) == {0, 2}
