from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seg.data.masks.encodings import IndexEncoding
from seg.data.samples.pairs import (
    Sample,
    check_sizes,
    natural_key,
    samples_from_folders,
    samples_from_fractions,
)
from seg.data.samples.tables import samples_from_table
from seg.errors import ConfigError, DataError

THIRDS = {"train": 0.6, "val": 0.2, "test": 0.2}


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def pairs(root: Path, split: str, *stems: str) -> None:
    touch(root, *(f"images/{split}/{stem}.jpg" for stem in stems), *(f"masks/{split}/{stem}.png" for stem in stems))


def one_folder(root: Path, count: int) -> None:
    touch(root, *(f"images/t{i}.jpg" for i in range(count)), *(f"masks/t{i}.png" for i in range(count)))


def stems(samples: list[Sample]) -> list[str]:
    return [sample.image.stem for sample in samples]


# Folders


def test_folders_are_paired_by_stem_in_natural_order(tmp_path):
    pairs(tmp_path, "train", "t10", "t2", "scene.v1")
    pairs(tmp_path, "val", "v1")
    touch(tmp_path, "images/train/.hidden.jpg", "images/train/Thumbs.db")
    splits = samples_from_folders(tmp_path)
    assert list(splits) == ["train", "val"]
    assert stems(splits["train"]) == ["scene.v1", "t2", "t10"]
    assert splits["val"] == [Sample(tmp_path / "images/val/v1.jpg", tmp_path / "masks/val/v1.png")]


def test_folder_patterns_suffix_and_test_split(tmp_path):
    for split in ("train", "val", "test"):
        touch(tmp_path, f"{split}/rgb/{split}.TIF", f"{split}/gt/{split}_mask.png")
    splits = samples_from_folders(tmp_path, "{split}/rgb", "{split}/gt", "_mask")
    assert list(splits) == ["train", "val", "test"]
    assert splits["test"][0].mask == tmp_path / "test/gt/test_mask.png"


def test_images_and_masks_in_one_folder(tmp_path):
    for split in ("train", "val"):
        touch(tmp_path, f"{split}/{split}.png", f"{split}/{split}_mask.png")
    assert stems(samples_from_folders(tmp_path, "{split}", "{split}", "_mask")["val"]) == ["val"]
    with pytest.raises(ConfigError, match="images and masks: both are .*train; allowed: two folders, or a mask_suffix"):
        samples_from_folders(tmp_path, "{split}", "{split}")


def test_pattern_without_split():
    with pytest.raises(ConfigError, match=r"masks: got 'masks', allowed: a folder name with \{split\} in it"):
        samples_from_folders(Path(), "images/{split}", "masks")


def test_orphans_on_both_sides(tmp_path):
    pairs(tmp_path, "train", "a")
    pairs(tmp_path, "val", "b")
    touch(tmp_path, *(f"images/train/x{i}.jpg" for i in range(7)), "masks/train/y.png")
    with pytest.raises(DataError) as caught:
        samples_from_folders(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/masks/train: 7 of 8 images have no mask in it: x0.jpg, x1.jpg, x2.jpg, x3.jpg, x4.jpg and 2 more; "
        f"1 of 2 masks have no image in {tmp_path}/images/train: y.png; allowed: a mask named as its image, "
        "with any of the suffixes .png .jpg .jpeg .tif .tiff .nii .nii.gz .gif; or without_mask: skip"
    )


def test_a_flat_folder_names_what_is_for_it(tmp_path):
    touch(tmp_path, "images/a.png", "images/b.png", "masks/a.png")
    with pytest.raises(
        DataError, match=r"images/train: the folder does not exist, and .*images holds 2 images itself; .*fractions"
    ):
        samples_from_folders(tmp_path)


def test_stems_are_compared_in_nfc(tmp_path):
    for split in ("train", "val"):
        touch(tmp_path, f"images/{split}/{split}\u00fc.jpg", f"masks/{split}/{split}u\u0308.png")
    assert len(samples_from_folders(tmp_path)["train"]) == 1


def test_unread_files_are_named_by_suffix(tmp_path):
    pairs(tmp_path, "train", "a")
    touch(tmp_path, "images/val/b.png", *(f"masks/val/{i}.mat" for i in range(3)), "masks/val/x.npy")
    with pytest.raises(DataError, match=r"masks/val: holds no file with a suffix .*\(3 files \*.mat, 1 file \*.npy\)"):
        samples_from_folders(tmp_path)


def test_orphans_name_the_suffix_rule(tmp_path):
    pairs(tmp_path, "train", "a")
    with pytest.raises(DataError, match="allowed: a mask named as its image plus '_mask'"):
        samples_from_folders(tmp_path, mask_suffix="_mask")


def test_a_stem_with_two_extensions(tmp_path):
    pairs(tmp_path, "train", "a")
    touch(tmp_path, "images/train/a.png")
    with pytest.raises(DataError, match="images/train: 2 files share a stem: a.jpg, a.png; allowed: one file a stem"):
        samples_from_folders(tmp_path)


def test_missing_and_empty_folders(tmp_path):
    pairs(tmp_path, "train", "a")
    with pytest.raises(DataError, match="images/val: the folder does not exist"):
        samples_from_folders(tmp_path)
    touch(tmp_path, "images/val/a.bmp")
    with pytest.raises(DataError, match=r"images/val: holds no file with a suffix of .png .* \(1 file \*.bmp\)"):
        samples_from_folders(tmp_path)
    pairs(tmp_path, "val", "b")
    touch(tmp_path, "images/test/c.jpg")
    with pytest.raises(DataError, match="masks/test: the folder does not exist"):
        samples_from_folders(tmp_path)


def test_a_link_into_another_split(tmp_path):
    pairs(tmp_path, "train", "a", "b")
    pairs(tmp_path, "val", "c")
    (tmp_path / "images/val/d.jpg").symlink_to(tmp_path / "images/train/a.jpg")
    touch(tmp_path, "masks/val/d.png")
    with pytest.raises(DataError, match=r"1 image\(s\) are in more than one split: .*train/a.jpg \(train and val\)"):
        samples_from_folders(tmp_path)


def test_an_image_twice_in_a_split(tmp_path):
    pairs(tmp_path, "train", "a")
    pairs(tmp_path, "val", "c")
    (tmp_path / "images/train/b.jpg").symlink_to(tmp_path / "images/train/a.jpg")
    touch(tmp_path, "masks/train/b.png")
    with pytest.raises(DataError, match=r"1 image\(s\) are listed twice in split 'train': .*train/a.jpg"):
        samples_from_folders(tmp_path)


# Tables


def table(root: Path, text: str, encoding: str = "utf-8") -> Path:
    touch(root, "a.jpg", "b.jpg", "c.jpg", "a.png", "b.png", "c.png")
    path = root / "pairs.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_table_with_groups_byte_order_mark_and_spaces(tmp_path):
    text = "image, mask,split,group\na.jpg,a.png, train,p1\n\nb.jpg,b.png,val,\nc.jpg,c.png,test,p3\n"
    splits = samples_from_table(tmp_path, table(tmp_path, text, "utf-8-sig"))
    assert splits == {
        "train": [Sample(tmp_path / "a.jpg", tmp_path / "a.png", "p1")],
        "val": [Sample(tmp_path / "b.jpg", tmp_path / "b.png")],
        "test": [Sample(tmp_path / "c.jpg", tmp_path / "c.png", "p3")],
    }


HEAD = "image,mask,split\n"
TABLE_ERRORS = [
    ("", "pairs.csv: got the columns none; allowed: image, mask, split and optionally group"),
    ("image;mask;split\n", "got the columns image;mask;split; allowed: .*, separated by commas"),
    ("image,mask\n", "got the columns image, mask; allowed"),
    ("image,mask,split,groups\n", "got the columns image, mask, split, groups; allowed"),
    ("image,mask,split,mask\n", "got the columns image, mask, split, mask; allowed"),
    (HEAD, "pairs.csv: holds no rows"),
    (HEAD + "a.jpg,a.png,train\nb.jpg,,\n", "pairs.csv, line 3: mask, split is empty"),
    (HEAD + "\na.jpg,a.png\n", "pairs.csv, line 3: split is empty"),
    (HEAD + ",,\n", "line 2: image, mask, split is empty"),
    (HEAD + "a.jpg,a.png,train,p1\n", "line 2: has more cells than the 3 columns"),
    (HEAD + "a.jpg,a.png,trian\n", "line 2: split 'trian', allowed: train, val, test; did you mean 'train'?"),
    (HEAD + "a.jpg,a.png,validation\n", "split 'validation', allowed: train, val, test; did you mean 'val'?"),
    (HEAD + "a.jpg,a.png,zzz\n", "split 'zzz', allowed: train, val, test$"),
    (HEAD + "x.jpg,a.png,train\nb.jpg,y.png,val\n", r"2 file\(s\) do not exist: .*x.jpg, .*y.png"),
    (HEAD + "a.jpg,a.png,train\n", "split 'val' has no samples, allowed: at least 1"),
    (HEAD + "a.jpg,a.png,val\n", "split 'train' has no samples"),
    (
        HEAD + "a.jpg,a.png,train\na.jpg,a.png,train\nb.jpg,b.png,val\n",
        r"1 image\(s\) are listed twice in split 'train'",
    ),
    (
        HEAD + "a.jpg,a.png,train\na.jpg,b.png,val\n",
        r"1 image\(s\) are in more than one split: .*a.jpg \(train and val",
    ),
    (HEAD + "a.jpg,a.png,train\nb.jpg,a.png,val\n", r"1 mask\(s\) are in more than one split: .*a.png"),
    ("image,mask,split,group\na.jpg,a.png,train,p1\nb.jpg,b.png,val,p1\n", r"1 group\(s\) are in more .*: p1 \(train"),
]


@pytest.mark.parametrize(("text", "message"), TABLE_ERRORS)
def test_table_errors(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        samples_from_table(tmp_path, table(tmp_path, text))


def test_unreadable_tables(tmp_path):
    with pytest.raises(DataError, match="gone.csv: cannot be read"):
        samples_from_table(tmp_path, tmp_path / "gone.csv")
    with pytest.raises(DataError, match="pairs.csv: cannot be read"):
        samples_from_table(tmp_path, table(tmp_path, HEAD + "ä.jpg,a.png,train\n", "latin-1"))


# Fractions


def test_fractions_of_blocks(tmp_path):
    one_folder(tmp_path, 100)
    splits = samples_from_fractions(tmp_path, fractions=THIRDS, seed=0, block_size=10)
    assert [len(samples) for samples in splits.values()] == [60, 20, 20]
    owner = {stem: split for split, samples in splits.items() for stem in stems(samples)}
    assert len(owner) == 100
    for block in range(10):  # t0..t9, t10..t19: natural order, whole blocks
        assert len({owner[f"t{index}"] for index in range(block * 10, block * 10 + 10)}) == 1
    for samples in splits.values():
        assert stems(samples) == sorted(stems(samples), key=natural_key)


def test_a_split_is_the_same_for_good(tmp_path):
    # sha256 of "7:0" to "7:4" begins f5ff, d7a0, 8d8e, 111c, 02cc: the order is t4 t3 t2 | t1 | t0 (3, 1, 1 of 5)
    one_folder(tmp_path, 5)
    splits = samples_from_fractions(tmp_path, fractions=THIRDS, seed=7)
    assert {split: stems(samples) for split, samples in splits.items()} == {
        "train": ["t2", "t3", "t4"],
        "val": ["t1"],
        "test": ["t0"],
    }
    assert samples_from_fractions(tmp_path, fractions=dict(reversed(THIRDS.items())), seed=7) == splits
    others = [samples_from_fractions(tmp_path, fractions=THIRDS, seed=seed) for seed in range(8)]
    assert any(other != splits for other in others)


@given(st.integers(3, 60), st.integers(1, 4), st.integers(0, 99), st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_every_sample_is_in_one_split_or_it_is_an_error(tmp_path_factory, count, block_size, seed, first, second):
    root = tmp_path_factory.getbasetemp() / f"folder{count}"
    if not root.exists():
        one_folder(root, count)
    fractions = {"train": first * second, "val": first * (1 - second), "test": 1 - first}
    try:
        splits = samples_from_fractions(root, fractions=fractions, seed=seed, block_size=block_size)
    except DataError as error:
        assert "empty; allowed: a smaller block_size or larger fractions" in str(error)
        return
    assert sorted(stem for samples in splits.values() for stem in stems(samples)) == sorted(
        f"t{index}" for index in range(count)
    )
    blocks = -(-count // block_size)
    for split, fraction in fractions.items():  # cumulative rounding: within one block of the exact share
        assert abs(len(splits[split]) / block_size - fraction * blocks) <= 2


def test_two_splits_without_test(tmp_path):
    one_folder(tmp_path, 10)
    splits = samples_from_fractions(tmp_path, fractions={"train": 0.8, "val": 0.2}, seed=1)
    assert {split: len(samples) for split, samples in splits.items()} == {"train": 8, "val": 2}


def test_fractions_that_leave_a_split_empty(tmp_path):
    one_folder(tmp_path, 12)
    with pytest.raises(DataError, match="12 samples in 2 blocks of 10 leave test empty; allowed: a smaller block_size"):
        samples_from_fractions(tmp_path, fractions=THIRDS, seed=0, block_size=10)


FRACTION_ERRORS = [
    ({"train": 0.5, "vall": 0.5}, 1, "fractions: split 'vall', allowed: train, val, test; did you mean 'val'?"),
    ({"train": 1.0}, 1, "fractions: val missing, allowed: train, val and optionally test"),
    ({"train": 1.0, "val": 0.0}, 1, "fractions.val: got 0.0, allowed: above 0"),
    ({"train": 0.7, "val": 0.2}, 1, "fractions: sum to 0.9, allowed: 1"),
    ({"train": 0.7, "val": 0.3}, 0, "block_size: got 0, allowed: 1 or more"),
]


@pytest.mark.parametrize(("fractions", "block_size", "message"), FRACTION_ERRORS)
def test_fraction_errors(tmp_path, fractions, block_size, message):
    with pytest.raises(ConfigError, match=message):
        samples_from_fractions(tmp_path, fractions=fractions, seed=0, block_size=block_size)


# Sizes, order


def test_check_sizes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"a.jpg": (4, 6), "a.png": (4, 6), "b.jpg": (4, 6), "b.png": (6, 4), "c.jpg": (1, 1), "c.png": (2, 2)}
    for name, size in sizes.items():
        Image.fromarray(np.zeros(size, np.uint8)).save(name)

    def sample(stem: str) -> Sample:
        return Sample(Path(f"{stem}.jpg"), Path(f"{stem}.png"))

    check_sizes({"train": [sample("a")]}, IndexEncoding())
    with pytest.raises(DataError) as caught:
        check_sizes({"train": [sample("a"), sample("b")], "val": [sample("c")]}, IndexEncoding())
    assert str(caught.value) == (
        "b.jpg is 4 x 6, b.png is 6 x 4 (height x width) and 1 more; allowed: a mask of the size of its image"
    )


def test_natural_order():
    names = ["t10", "t2", "t02", "a", "10", "2", "t2b1", "t2a"]
    assert sorted(names, key=natural_key) == ["2", "10", "a", "t02", "t2", "t2a", "t2b1", "t10"]
