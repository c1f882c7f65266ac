"""No tool replaces what it reads, and each says so, and where it cannot write, before its work."""

import importlib

import pytest

from data_tools.scenes.scene import SCENE_LABELS, write_scenes

TOOLS = {  # the arguments of a report, and of what else the tool needs
    "check_dataset": (["--config", "{config}", "--json"], ".json"),
    "mask_frequencies": (["--config", "{config}", "--html"], ".html"),
    "browse": (["--config", "{config}", "--out"], ".html"),
    "split_dataset": (["--config", "{config}", "--overwrite", "--out"], ".csv"),
    "convert_masks": (["--config", "{config}", "--out", "{root}/new", "--json"], ".json"),
    "tile_rasters": (["{root}/scenes/images/train", "{root}/scenes/masks/train", "--size", "64", "--void", "255",
                      "--out", "{root}/tiles", "--json"], ".json"),
    "make_scenes": (["{root}/more", "--size", "64", "--count", "3", "--preview"], ".png"),
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    write_scenes(folder / "scenes", {"train": 1, "val": 1}, size=64, seed=0)
    (folder / "config.yaml").write_text(
        f"name: a\nlabels: {{names: [{', '.join(SCENE_LABELS.names)}]}}\n"
        f"data: {{name: folders, root: {folder}/scenes}}\ntraining: {{epochs: 1, batch_size: 1}}\n"
    )
    return folder


def call(tool, root, out):
    arguments, _ = TOOLS[tool]
    filled = [text.format(root=root, config=root / "config.yaml") for text in arguments]
    return importlib.import_module(f"data_tools.{tool}").main([*filled, str(out)])


@pytest.mark.parametrize("tool", TOOLS)
def test_a_file_where_a_folder_should_be_is_told_before_the_work(tool, root, capsys):
    (root / "file").write_text("")
    before = sorted(root.rglob("*"))
    assert call(tool, root, root / "file" / f"report{TOOLS[tool][1]}") == 2
    assert capsys.readouterr().err == f"error: {root}/file: is no folder; allowed: a folder, or a new name\n"
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool not in ("make_scenes", "convert_masks")])
def test_a_mask_under_the_name_of_a_report_is_never_replaced(tool, root, capsys):
    mask = root / "scenes/masks/train/0000.png"
    content = mask.read_bytes()
    assert call(tool, root, mask) == 2
    assert "is one of the files that are read; allowed: another name" in capsys.readouterr().err
    assert mask.read_bytes() == content


@pytest.mark.parametrize("tool", TOOLS)
def test_a_configuration_is_never_replaced(tool, root, capsys):
    content = (root / "config.yaml").read_bytes()
    assert call(tool, root, root / "config.yaml") == 2
    assert "exists and is no report; allowed: a new name" in capsys.readouterr().err
    assert (root / "config.yaml").read_bytes() == content
