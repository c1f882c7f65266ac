"""Pairs by patterns: what fits, what is left over, and what is said of it."""

import unicodedata
from pathlib import Path

import pytest

from seg.data.files.storage import LimitedMask
from seg.data.samples.patterns import Pattern, pair_by_patterns, samples_from_patterns
from seg.errors import DataError

DRIVE = {
    "train": [
        Pattern(
            "training/images/{id}_training.tif",
            "training/1st_manual/{id}_manual1.gif",
            "training/mask/{id}_training_mask.gif",
        )
    ],
    "test": [Pattern("test/images/{id}_test.tif", "test/1st_manual/{id}_manual1.gif", "test/mask/{id}_test_mask.gif")],
}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def drive(root: Path) -> None:
    for split, numbers in (("training", range(21, 31)), ("test", range(1, 4))):
        for number in numbers:
            touch(
                root,
                f"{split}/images/{number:02}_{split}.tif",
                f"{split}/1st_manual/{number:02}_manual1.gif",
                f"{split}/mask/{number:02}_{split}_mask.gif",
            )


def names(samples, root: Path) -> list[tuple[str, ...]]:
    return [tuple(Path(str(file)).relative_to(root).as_posix() for file in sample.files) for sample in samples]


def test_own_split_names_and_validity_masks_as_of_drive(tmp_path):
    drive(tmp_path)
    told: list[str] = []
    splits = samples_from_patterns(tmp_path, DRIVE, val_share=0.2, valid_values=(255,), tell=told.append)
    assert {split: len(members) for split, members in splits.items()} == {"train": 8, "val": 2, "test": 3}
    assert names(splits["test"], tmp_path)[0] == (
        "test/images/01_test.tif",
        "test/1st_manual/01_manual1.gif",
        "test/mask/01_test_mask.gif",
    )
    assert isinstance(splits["val"][0].mask, LimitedMask) and splits["val"][0].mask.values == (255,)
    assert not told


def test_sub_folders_of_any_names_as_of_cityscapes(tmp_path):
    for city, number in (("ulm", 2), ("ulm", 10), ("bonn", 1)):
        touch(
            tmp_path,
            f"left/train/{city}/{city}_{number}_left.png",
            f"fine/train/{city}/{city}_{number}_fine_ids.png",
            f"fine/train/{city}/{city}_{number}_fine_colour.png",
        )
    pattern = Pattern("left/train/{city}/{id}_left.png", "fine/train/{city}/{id}_fine_ids.png")
    found = pair_by_patterns(tmp_path, {"train": [pattern]})
    assert [pair[0] for pair in names(found.splits["train"], tmp_path)] == [
        "left/train/bonn/bonn_1_left.png",
        "left/train/ulm/ulm_2_left.png",
        "left/train/ulm/ulm_10_left.png",
    ]
    assert len(found.left_over) == 3  # the colour pictures


def test_images_and_masks_in_one_folder(tmp_path):
    touch(tmp_path, "a.png", "a_mask.png", "b.png", "b_mask.png")
    found = pair_by_patterns(tmp_path, {"train": [Pattern("{id}.png", "{id}_mask.png")]})
    assert names(found.splits["train"], tmp_path) == [("a.png", "a_mask.png"), ("b.png", "b_mask.png")]
    assert not (found.without_mask or found.without_image or found.left_over)


def test_suffixes_on_both_sides_and_a_star(tmp_path):
    touch(tmp_path, "x/im_a_v1.jpg", "x/im_b_v7.png", "y/gt_a.png", "y/gt_b.png")
    found = pair_by_patterns(tmp_path, {"train": [Pattern("x/im_{id}_v*", "y/gt_{id}.png")]})
    assert names(found.splits["train"], tmp_path) == [("x/im_a_v1.jpg", "y/gt_a.png"), ("x/im_b_v7.png", "y/gt_b.png")]
    touch(tmp_path, "y/gt_a.tif")
    with pytest.raises(DataError, match=r"'y/gt_a\.\*' fits 2 files: y/gt_a.png, y/gt_a.tif; allowed: one a sample"):
        pair_by_patterns(tmp_path, {"train": [Pattern("x/im_{id}_v*", "y/gt_{id}.*")]})


def test_several_patterns_of_a_split_share_a_pool_of_images(tmp_path):
    touch(tmp_path, "im/a.jpg", "im/b.jpg", "im/c.jpg", "m1/a.png", "m2/b.png", "m3/c.png")
    patterns = {
        "train": [Pattern("im/{id}.jpg", "m1/{id}.png"), Pattern("im/{id}.jpg", "m2/{id}.png")],
        "val": [Pattern("im/{id}.jpg", "m3/{id}.png")],
    }
    splits = samples_from_patterns(tmp_path, patterns)
    assert [pair[1] for split in splits.values() for pair in names(split, tmp_path)] == [
        "m1/a.png",
        "m2/b.png",
        "m3/c.png",
    ]


def test_names_are_compared_in_nfc(tmp_path):
    touch(tmp_path, f"im/{unicodedata.normalize('NFD', 'Köln')}.jpg", f"gt/{unicodedata.normalize('NFC', 'Köln')}.png")
    found = pair_by_patterns(tmp_path, {"train": [Pattern("im/{id}.jpg", "gt/{id}.png")]})
    assert len(found.splits["train"]) == 1 and not found.without_mask


def test_one_validity_mask_for_all(tmp_path):
    touch(tmp_path, "im/a.jpg", "im/b.jpg", "gt/a.png", "gt/b.png", "circle.png")
    found = pair_by_patterns(tmp_path, {"train": [Pattern("im/{id}.jpg", "gt/{id}.png", "circle.png")]})
    assert {pair[2] for pair in names(found.splits["train"], tmp_path)} == {"circle.png"}


def test_a_near_miss_names_the_pattern_that_fits(tmp_path):
    drive(tmp_path)
    wrong = [Pattern("training/images/{id}_training.tif", "training/1st_manual/{id}_manual.gif")]
    with pytest.raises(
        DataError,
        match=r"10 image\(s\) have no mask: training/images/21_training.tif \(looked for training/1st_manual/"
        r"21_manual.gif\), .* allowed: a file for each, or the pattern 'training/1st_manual/\{id\}_manual1.gif', which "
        "fits files of 10 of 10",
    ):
        samples_from_patterns(tmp_path, {"train": wrong}, val_share=0.2)


def test_a_pattern_that_nothing_fits_names_the_nearest_file(tmp_path):
    drive(tmp_path)
    wrong = [Pattern("training/image/{id}_training.tif", "training/1st_manual/{id}_manual1.gif")]
    with pytest.raises(DataError, match=r"no image of train fits 'training/image/\{id\}_tra.*'; the nearest .*tif"):
        samples_from_patterns(tmp_path, {"train": wrong}, val_share=0.2)


def test_images_without_a_mask_are_refused_or_skipped_and_told(tmp_path):
    drive(tmp_path)
    for number in (22, 25):
        (tmp_path / f"training/1st_manual/{number}_manual1.gif").unlink()
    with pytest.raises(DataError, match=r"2 image\(s\) have no mask"):
        samples_from_patterns(tmp_path, DRIVE, val_share=0.25)
    told: list[str] = []
    splits = samples_from_patterns(tmp_path, DRIVE, val_share=0.25, without_mask="skip", tell=told.append)
    assert len(splits["train"]) + len(splits["val"]) == 8
    assert told[0].startswith("left out: 2 image(s) without a mask: training/images/22_training.tif, training/")


def test_a_mask_without_an_image_and_a_missing_validity_mask_are_refused(tmp_path):
    drive(tmp_path)
    touch(tmp_path, "training/1st_manual/99_manual1.gif")
    with pytest.raises(DataError, match=r"1 mask\(s\) have no image: training/1st_manual/99_manual1.gif"):
        samples_from_patterns(tmp_path, DRIVE, val_share=0.2)
    (tmp_path / "training/mask/21_training_mask.gif").unlink()
    with pytest.raises(DataError, match=r"1 image\(s\) have no validity mask: .*21_training.tif \(looked for training"):
        samples_from_patterns(tmp_path, DRIVE, val_share=0.2)


def test_left_over_files_are_told_by_suffix(tmp_path):
    drive(tmp_path)
    touch(tmp_path, "test/images/notes.txt", "training/mask/old.mat", "training/mask/a.mat", "training/mask/.b.mat")
    told: list[str] = []
    samples_from_patterns(tmp_path, DRIVE, val_share=0.2, tell=told.append)
    assert told == ["3 file(s) fit no pattern: 2 files *.mat, 1 file *.txt"]


def test_a_file_in_two_splits_is_refused(tmp_path):
    drive(tmp_path)
    with pytest.raises(DataError, match="more than one split"):
        samples_from_patterns(tmp_path, {"train": DRIVE["train"], "val": DRIVE["train"]})


@pytest.mark.parametrize(
    ("pattern", "key", "text"),
    [
        (Pattern("images/a.png", "b.png"), "image", "allowed: a path with a {field} in it, as in images/{id}.png"),
        (Pattern("{id}.png", "{nr}_m.png"), "mask", "got the field {nr}, allowed: those of image: id"),
        (Pattern("{id}.png", "/m/{id}.png"), "mask", "allowed: a path below root"),
        (Pattern("{id}.png", "../{id}.png"), "mask", "allowed: a path below root"),
        (Pattern("{id}.png", "m/{id.png"), "mask", "allowed: a path below root"),
        (Pattern("{1}.png", "m/{1}.png"), "image", "allowed: a name of letters, digits and _, no digit first"),
        (Pattern("{id}.png", "{id}.png"), "mask", "got the pattern of the images, allowed: another"),
    ],
)
def test_problems_of_a_pattern(pattern, key, text):
    assert any(found == key and text in problem for found, problem in pattern.problems())
