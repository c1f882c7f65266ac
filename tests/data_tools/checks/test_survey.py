"""The forgiving list and the strict one agree on datasets without problems; with problems the strict one refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.checks import KINDS
from data_tools.checks.config_survey import survey
from data_tools.checks.survey import (
    CLOSE_NAMES,
    survey_folders,
    survey_fractions,
    survey_pair,
    survey_patterns,
    survey_table,
)
from seg.config import load_config
from seg.data.files.storage import LimitedMask
from seg.data.samples.pairs import samples_from_folders, samples_from_fractions
from seg.data.samples.patterns import Pattern, samples_from_patterns
from seg.data.samples.tables import samples_from_table
from seg.errors import DataError

THIRDS = {"train": 0.6, "val": 0.2, "test": 0.2}


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def folders(root: Path, *splits: str) -> None:
    for split in splits:
        touch(root, *(f"images/{split}/{split}{i}.jpg" for i in (2, 10, 1)))
        touch(root, *(f"masks/{split}/{split}{i}.png" for i in (2, 10, 1)))


@pytest.mark.parametrize("splits", [("train", "val"), ("train", "val", "test")])
def test_folders_agree_with_the_strict_list(tmp_path, splits):
    folders(tmp_path, *splits)
    found = survey_folders(tmp_path)
    assert (found.splits, found.findings) == (samples_from_folders(tmp_path), ())


@pytest.mark.parametrize("names", [("images", "masks", "_gt"), ("all", "all", "_gt")])
def test_a_mask_suffix_agrees_with_the_strict_list(tmp_path, names):
    images, masks, suffix = names
    for i in range(20):
        touch(tmp_path, f"{images}/t{i}.jpg", f"{masks}/t{i}_gt.png")
    found = survey_fractions(tmp_path, images, masks, suffix, fractions=THIRDS, seed=3, block_size=4)
    strict = samples_from_fractions(tmp_path, images, masks, suffix, fractions=THIRDS, seed=3, block_size=4)
    assert (found.splits, found.findings) == (strict, ())


def test_a_table_agrees_with_the_strict_list(tmp_path):
    touch(tmp_path, *(f"{kind}/{i}.png" for kind in "im" for i in range(4)))
    rows = [f"i/{i}.png,m/{i}.png,{split},g{i}" for i, split in enumerate(("val", "train", "train", "test"))]
    (tmp_path / "t.csv").write_text("\n".join(["image,mask,split,group", *rows]))
    found = survey_table(tmp_path, tmp_path / "t.csv")
    assert list(found.splits) == ["train", "val", "test"]
    assert (found.splits, found.findings) == (samples_from_table(tmp_path, tmp_path / "t.csv"), ())


def test_validity_masks_of_a_table_agree_and_missing_ones_are_found(tmp_path):
    touch(tmp_path, *(f"{kind}/{i}.png" for kind in "imv" for i in range(3)))
    rows = [f"i/{i}.png,m/{i}.png,{split},{valid}" for i, (split, valid) in
            enumerate((("val", ""), ("train", "v/1.png"), ("train", "v/2.png")))]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(["image,mask,split,valid", *rows]))
    found = survey_table(tmp_path, tmp_path / "t.csv", (0,))
    assert found.splits == samples_from_table(tmp_path, tmp_path / "t.csv", (0,)) and not found.findings
    assert found.splits["val"][0].mask == tmp_path / "m/0.png"
    assert found.splits["train"][0].mask == LimitedMask(tmp_path / "m/1.png", tmp_path / "v/1.png", (0,))
    (tmp_path / "v/2.png").unlink()
    assert survey_table(tmp_path, tmp_path / "t.csv").findings[0].files == ("v/2.png",)
    with pytest.raises(DataError, match=r"1 file\(s\) do not exist: .*v/2.png"):
        samples_from_table(tmp_path, tmp_path / "t.csv")


def patterns_of(root: Path, **settings) -> tuple:
    patterns = {"train": [Pattern("i/{id}.jpg", "m/{id}_gt.png")]}
    options = {"valid_values": None, "val_share": 0.5, "seed": 0, "block_size": 1, "without_mask": "error"} | settings
    return (root, patterns), options


def test_patterns_agree_with_the_strict_list_and_tell_what_is_wrong(tmp_path):
    touch(tmp_path, *(f"i/{i}.jpg" for i in range(4)), *(f"m/{i}_gt.png" for i in range(4)))
    arguments, options = patterns_of(tmp_path)
    found = survey_patterns(*arguments, **options)
    assert (found.splits, found.findings) == (samples_from_patterns(*arguments, **options), ())
    touch(tmp_path, "i/4.jpg", "i/notes.txt", "m/9_gt.png")
    kinds = [finding.kind for finding in survey_patterns(*arguments, **options).findings]
    assert kinds == ["orphan-image", "orphan-mask", "ignored-files"]
    options["without_mask"] = "skip"
    assert survey_patterns(*arguments, **options).findings[0].kind == "skipped-image"


def test_skipped_images_are_hints(tmp_path):
    folders(tmp_path, "train", "val")
    touch(tmp_path, "images/train/alone.jpg")
    assert [finding.kind for finding in survey_folders(tmp_path).findings] == ["orphan-image"]
    found = survey_folders(tmp_path, without_mask="skip")
    assert [finding.kind for finding in found.findings] == ["skipped-image"]
    told: list[str] = []
    assert samples_from_folders(tmp_path, without_mask="skip", tell=told.append) == found.splits
    assert told == [f"{tmp_path}/images/train: left out 1 of 4 images, without a mask: alone.jpg"]


def test_all_orphans_are_listed_and_the_rest_is_paired(tmp_path):
    folders(tmp_path, "train", "val")
    touch(tmp_path, *(f"images/train/lonely{i}.png" for i in range(30)), "masks/val/other.png")
    with pytest.raises(DataError, match="30 of 33 images have no mask"):
        samples_from_folders(tmp_path)
    found = survey_folders(tmp_path)
    assert [finding.kind for finding in found.findings] == ["orphan-image"] * 30 + ["orphan-mask"]
    assert found.findings[2].files == ("images/train/lonely2.png",)
    assert [len(samples) for samples in found.splits.values()] == [3, 3]


def test_orphans_with_similar_names_are_named(tmp_path):
    folders(tmp_path, "train", "val")
    touch(tmp_path, "images/train/tile_0042.png", "masks/train/tile_042.png")
    texts = [finding.text for finding in survey_folders(tmp_path).findings]
    assert texts == [
        "no mask tile_0042.* in masks/train; the most alike without a partner: tile_042.png",
        "no image tile_042.* in images/train; the most alike without a partner: tile_0042.png",
    ]


def test_of_many_orphans_no_similar_names_are_sought(tmp_path):
    folders(tmp_path, "train", "val")
    touch(tmp_path, *(f"images/train/a{i}.png" for i in range(CLOSE_NAMES + 1)))
    touch(tmp_path, *(f"masks/train/a{i}_.png" for i in range(CLOSE_NAMES + 1)))
    assert not any("most alike" in finding.text for finding in survey_folders(tmp_path).findings)


def test_one_folder_is_one_split_that_needs_not_be_train(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    found = survey_pair(tmp_path, "images", "masks")
    assert (list(found.splits), len(found.splits["all"]), found.findings) == (["all"], 1, ())


def test_a_folder_without_a_pair_is_an_empty_split(tmp_path):
    touch(tmp_path, "images/a.png")
    kinds = [finding.kind for finding in survey_pair(tmp_path, "images", "masks").findings]
    assert kinds == ["orphan-image", "empty-split"]


def test_fractions_of_too_few_pairs_leave_a_split_empty(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    found = survey_fractions(tmp_path, "images", "masks", "", fractions=THIRDS, seed=0, block_size=1)
    assert [finding.kind for finding in found.findings] == ["empty-split"] * 2


def test_there_must_be_something_to_list(tmp_path):
    with pytest.raises(DataError, match="holds no folder of images, looked for .*images/train"):
        survey_folders(tmp_path)
    with pytest.raises(DataError, match="holds no folder images and no folder masks"):
        survey_pair(tmp_path, "images", "masks")
    (tmp_path / "t.csv").write_text("image,mask\n")
    with pytest.raises(DataError, match="got the columns image, mask"):
        survey_table(tmp_path, tmp_path / "t.csv")


CONFIG = """name: t
labels: {{names: [a, b]}}
data: {data}
model: {{name: unet}}
loss: [{{name: dice}}]
training: {{epochs: 1, batch_size: 1}}
"""
LAYOUTS = {
    "folders": "{name: folders, root: ROOT}",
    "fractions": "{name: fractions, root: ROOT, images: images/train, masks: masks/train, block_size: 1, "
    "train: 0.4, val: 0.3, test: 0.3}",
    "table": "{name: table, root: ROOT, table: t.csv}",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_configuration_is_listed_by_its_data_section(tmp_path, layout):
    folders(tmp_path, "train", "val")
    rows = [f"images/{s}/{s}{i}.jpg,masks/{s}/{s}{i}.png,{s}" for s in ("train", "val") for i in (1, 2)]
    (tmp_path / "t.csv").write_text("\n".join(["image,mask,split", *rows]))
    (tmp_path / "c.yaml").write_text(CONFIG.format(data=LAYOUTS[layout].replace("ROOT", str(tmp_path))))
    found = survey(load_config(tmp_path / "c.yaml"))
    assert found.root == tmp_path
    sizes = {split: len(samples) for split, samples in found.splits.items()}
    assert sizes == {"folders": {"train": 3, "val": 3}, "fractions": {"train": 1, "val": 1, "test": 1},
                     "table": {"train": 2, "val": 2}}[layout]  # fmt: skip
    assert found.findings == ()


def test_a_root_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG.format(data=LAYOUTS["folders"].replace("ROOT", str(tmp_path / "none"))))
    with pytest.raises(DataError, match="data.root: got '.*none', which is no folder"):
        survey(load_config(tmp_path / "c.yaml"))


def test_every_kind_of_finding_has_words_for_people():
    for kind, about in KINDS.items():
        assert kind == kind.lower() and " " not in kind
        assert about.meaning and about.advice
