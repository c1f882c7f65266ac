import subprocess
import sys

import cv2
import pytest

from data_tools.make_scenes import main, split_counts
from data_tools.scenes.scene import SCENE_LABELS
from seg.data.masks.reading import IndexEncoding, read_mask


def test_splits_are_60_20_20_and_never_empty():
    assert split_counts(80) == {"train": 48, "val": 16, "test": 16}
    assert split_counts(3) == {"train": 1, "val": 1, "test": 1}


def test_writes_an_ordinary_folder_that_reads_back(tmp_path, capsys):
    assert main([str(tmp_path / "out"), "--count", "5", "--size", "64", "--seed", "3"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 3 train, 1 val, 1 test scenes of 64 x 64\n"
    masks = sorted((tmp_path / "out/masks").rglob("*.png"))
    assert [mask.relative_to(tmp_path / "out/masks").as_posix() for mask in masks] == [
        "test/0000.png",
        "train/0000.png",
        "train/0001.png",
        "train/0002.png",
        "val/0000.png",
    ]
    assert read_mask(masks[0], SCENE_LABELS, IndexEncoding()).shape == (64, 64)


def test_preview_shows_two_scenes_with_labels_and_a_legend(tmp_path):
    main([str(tmp_path / "out"), "--count", "5", "--size", "128", "--preview", str(tmp_path / "preview.png")])
    height, width = cv2.imread(str(tmp_path / "preview.png")).shape[:2]
    assert width == 4 * 128 + 3 * 8
    assert height > 128


def test_help_says_the_shares_as_they_are_read(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "60 % train, 20 % val, 20 % test" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "2"], "--count: got 2, allowed: 3 or more, one a split"),
        (["--size", "32"], "scenes: got size 32, allowed: 64 to 2048"),
        (["--seed", "-1"], "scenes: got seed -1, allowed: 0 or more"),
    ],
)
def test_messages(tmp_path, capsys, arguments, message):
    assert main([str(tmp_path / "out"), *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main([str(tmp_path), "--count", "3", "--size", "64"]) == 2
    message = f"error: {tmp_path} is not empty and holds no scenes.json; allowed: a new or empty folder, or scenes\n"
    assert capsys.readouterr().err == message
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt"}


def test_runs_as_a_command_without_tensorflow(tmp_path):
    code = (
        "import sys; from data_tools.make_scenes import main; "
        f"assert main([{str(tmp_path / 'out')!r}, '--count', '3', '--size', '64']) == 0; "
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
