"""The mask_frequencies command: what it prints and writes, its messages and exit codes, and that it starts fast."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools.mask_frequencies import main
from data_tools.scenes.scene import SCENE_LABELS, write_scenes
from seg.balance import ClassCounts, cache
from seg.config import load_config

REPOSITORY = Path(__file__).resolve().parents[2]
CAMVID = REPOSITORY / ".." / "shared" / "data" / "camvid" / "masks" / "train"
COMMAND = [sys.executable, "-m", "data_tools.mask_frequencies"]


def write(path: Path, mask: list[list[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.array(mask, np.uint8))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder stays as it is."""
    monkeypatch.setattr(cache, "user_cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "masks" / "a.png", [[0, 0, 0], [1, 0, 255]])
    write(tmp_path / "masks" / "more" / "b.png", [[0, 0], [0, 0]])
    (tmp_path / "masks" / "notes.txt").write_text("not a mask")
    return tmp_path / "masks"


def test_the_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--class-names", "field,boat"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()]
    # 8 field pixels in both masks, 1 boat pixel in one
    assert ["field", "8", "88.889", "2", "88.889"] in rows
    assert ["boat", "1", "11.111", "1", "20.000"] in rows  # 1 of the 5 labelled pixels of its mask
    assert "void in masks: 1 of 10 pixels (10.00%)" in out
    assert "the commonest class has 8.0 times the rarest's pixels" in out
    assert "class weights by scheme, normalised to mean_one" in out
    # inverse frequency 9/16, 9/2, its mean over pixels (8 * 9/16 + 9/2) / 9 = 1: half of the loss each, and a variance
    # factor of (8 * (9/16)^2 + (9/2)^2) / 9 = 2.53
    field = next(row for row in rows if row[:3] == ["field", "1", "0.5625"])
    boat = next(row for row in rows if row[:3] == ["boat", "1", "4.5"])
    assert len(field) == len(boat) == 9
    assert next(row for row in rows if row[:3] == ["field", "88.89", "50.00"])
    assert next(row for row in rows if row[:4] == ["variance", "factor", "1", "2.53"])
    assert ["boat", "1", "a.png"] in rows  # the richest in the rare class
    assert "recommended: scheme inverse_sqrt: the classes differ 8 times" in out
    assert "class_weights:\n  scheme: inverse_sqrt\n" in out
    assert "\x1b" not in out + err  # plain when piped
    assert "│" not in out


def test_normalize_is_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--num-classes", "2", "--normalize", "sum_one"]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert ["class_0", "0.5", "0.1111"] in rows  # 1/8 : 1/1 with sum 1
    assert ["class_1", "0.5", "0.8889"] in rows


def test_an_absent_class_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--class-names", "field,boat,[red] :car:"]) == 0
    out = capsys.readouterr().out
    assert out.count("warning: no labelled pixel of [red] :car: in 2 masks: weight 0") == 1


def test_the_counts_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "counts.json"
    assert main([str(folder), "--num-classes", "2", "--out", str(out), "--threads", "1"]) == 0
    counts = ClassCounts.load(out)
    assert counts.pixel_counts.tolist() == [8, 1]
    assert counts.void_pixels == 1
    assert f"wrote {out}" in capsys.readouterr().out


def test_the_charts(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    charts = tmp_path / "new" / "charts"
    assert main([str(folder), "--class-names", "field,boat,ship", "--charts", str(charts)]) == 0
    assert sorted(file.name for file in charts.iterdir()) == ["co_occurrence.png", "frequencies.png", "weights.png"]
    for file in charts.iterdir():
        picture = cv2.imread(str(file))
        assert picture is not None
        assert picture.std() > 10  # not blank
    assert f"wrote {charts / 'weights.png'}" in capsys.readouterr().out


def test_every_output(folder: Path, tmp_path: Path) -> None:
    out = {kind: tmp_path / "out" / f"balance.{kind}" for kind in ("json", "csv", "markdown", "html")}
    options = [text for kind, path in out.items() for text in (f"--{kind}", str(path))]
    assert (
        main([f"train={folder}", f"val={folder / 'more'}", "--class-names", "field,boat", "--components", *options])
        == 0
    )
    content = json.loads(out["json"].read_text("utf-8"))
    assert list(content["splits"]) == ["train", "val"]
    assert content["splits"]["train"]["counts"]["pixel_counts"] == [8, 1]
    assert content["splits"]["train"]["components"][0] == {"components": 2, "area_5": 4, "area_50": 4, "area_95": 4}
    assert content["schemes"]["inverse_frequency"]["loss_shares"] == [0.5, 0.5]
    assert content["recommended"]["class_weights"] == {"scheme": "inverse_sqrt"}
    assert "val shows no pixel of boat, which other splits do" in content["warnings"]
    rows = list(csv.DictReader(out["csv"].read_text("utf-8").splitlines()))
    assert [(row["split"], row["class"], row["pixels"]) for row in rows] == [
        ("train", "field", "8"), ("train", "boat", "1"), ("val", "field", "4"), ("val", "boat", "0"),
    ]  # fmt: skip
    assert float(rows[0]["weight inverse_frequency"]) == 0.5625
    assert "| boat | 1 | 11.111 | 1 | 20.000 | 1 | 1 | 1 | 1 |" in out["markdown"].read_text("utf-8")
    page = out["html"].read_text("utf-8")
    assert page.count("<img ") == 3
    assert "http" not in page  # it loads nothing


def test_the_recommendation_is_a_valid_section(tmp_path: Path) -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[0, :9] = [1, 1, 1, 2, 2, 2, 3, 3, 3]
    write(tmp_path / "rare" / "a.png", mask.tolist())
    assert main([str(tmp_path / "rare"), "--num-classes", "4", "--json", str(tmp_path / "out.json")]) == 0
    section = json.loads((tmp_path / "out.json").read_text("utf-8"))["recommended"]["class_weights"]
    assert section["scheme"] == "inverse_sqrt"
    assert section["cap"] > 1
    overrides = [f"class_weights={json.dumps(section)}"]
    config = load_config(REPOSITORY / "configs" / "quickstart.yaml", overrides)
    assert config.class_weights.cap == section["cap"]


# --- broken masks, the cache ---


def test_a_broken_mask_is_skipped_with_exit_code_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.png").write_bytes(b"")
    assert main([str(folder), "--num-classes", "2"]) == 2
    assert "broken.png: is no image that can be read (it is empty)" in capsys.readouterr().err
    assert main([str(folder), "--num-classes", "2", "--on-error", "skip"]) == 3
    out, err = capsys.readouterr()
    assert out.startswith("2 masks in ")
    assert err.startswith(f"skipped broken.png: {folder / 'broken.png'}: is no image")


def test_a_second_run_reads_what_is_new(folder: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in folder.rglob("*.png"):
        os.utime(path, (1, 1))
    time.sleep(2.1)  # a file changed just now is not trusted
    arguments = [str(folder), "--num-classes", "2"]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert "were counted before" not in first
    write(folder / "c.png", [[1]])
    assert main(arguments) == 0
    second = capsys.readouterr().out
    assert second.startswith("3 masks in ")
    assert "2 of them were counted before and are unchanged" in second
    assert main([*arguments, "--no-cache"]) == 0
    uncached = capsys.readouterr().out
    assert uncached.splitlines()[1:] == second.splitlines()[2:]


def test_a_cache_that_cannot_be_used_is_a_warning(
    folder: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_cache.write_text("a file where the folder should be")
    assert main([str(folder), "--num-classes", "2"]) == 0
    assert "cannot be used as a cache" in capsys.readouterr().out


def test_binary_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.png", [[0, 100, 200, 255]])
    assert main([str(tmp_path), "--num-classes", "2", "--encoding", "binary"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["class_0", "2", "50.000", "1", "50.000"] in rows
    assert ["class_1", "2", "50.000", "1", "50.000"] in rows


def test_all_void(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.png", [[255, 255]])
    assert main([str(tmp_path), "--num-classes", "2", "--out", str(tmp_path / "counts.json")]) == 0
    assert "warning: all 2 pixels are void, there is nothing to balance" in capsys.readouterr().out
    assert ClassCounts.load(tmp_path / "counts.json").void_pixels == 2


def test_an_all_void_dataset_has_no_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.png", [[255, 255]])
    assert main([str(tmp_path), "--num-classes", "2", "--charts", str(tmp_path / "charts")]) == 2
    assert "--charts: nothing to draw, the 1 masks have no labelled pixel" in capsys.readouterr().err
    assert not (tmp_path / "charts").exists()


def test_from_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "scenes"
    write_scenes(root, {"train": 3, "val": 1}, size=64, seed=0)
    config = REPOSITORY / "configs" / "quickstart.yaml"
    if not config.is_file():
        pytest.skip("configs/quickstart.yaml is not written yet")
    out = tmp_path / "counts.json"
    data = f"data={{name: folders, root: {root}}}"
    assert main(["--config", str(config), data, "--out", str(out)]) == 0, capsys.readouterr().err
    counts = ClassCounts.load(out)
    assert counts.names == SCENE_LABELS.names
    assert counts.num_images == 3  # the training masks only
    assert counts.pixel_counts.sum() + counts.void_pixels == 3 * 64 * 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "MASKS: got none, allowed: folders or URLs of masks, or --config FILE"),
        (["one", "two"], "MASKS: got two folders for split 'masks', allowed: one a split, as in val=DIR"),
        (["nowhere", "--num-classes", "2"], "nowhere: no such folder of masks"),
        (["nope://x", "--num-classes", "2"], "nope://x: cannot be listed (ValueError: Protocol not known: nope)"),
        (["."], "--num-classes: missing, needed with MASKS (or --class-names, or --config FILE instead)"),
        ([".", "--num-classes", "1"], "labels.names: got 1 classes, allowed: 2 to 255"),
        ([".", "--num-classes", "3", "--class-names", "a,b"], "--class-names: got 2 names, --num-classes says 3"),
        ([".", "--num-classes", "2", "--ignore-index", "1"], "labels.ignore_index: got 1, which is class 'class_1'"),
        ([".", "--num-classes", "2"], ".: no masks in it, looked for .gif, .jpeg, .jpg, .nii, .nii.gz, .png"),
        ([".", "--num-classes", "2", "--workers", "0"], "--workers: got 0, allowed: 1 or more"),
        ([".", "--threads", "2", "--workers", "2"], "--threads and --workers: got together, allowed: one of them"),
        (["--config", "c.yaml", "--num-classes", "2"], "--num-classes: has no effect with --config, which says it"),
        (["--config", "c.yaml", "--ignore-index", "0"], "--ignore-index: has no effect with --config, which says it"),
    ],
)
def test_messages(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_wrong_label_value_names_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "wrong.png", [[0, 7]])
    assert main([str(folder), "--num-classes", "2"]) == 2
    assert str(folder / "wrong.png") in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--encoding", "jpeg"], ["--unknown"], ["--num-classes", "many"]])
def test_usage_errors_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_help_answers_fast_and_needs_no_tensorflow() -> None:
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from data_tools.mask_frequencies import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'tensorflow', 'keras', 'matplotlib', 'numba', 'distributed', 'fsspec'}\n"
        "print(slow & set(sys.modules), file=sys.stderr)\n"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    assert "SPLIT=MASKS" in result.stdout
    assert result.stderr.strip() == "set()"
    assert seconds < 5  # it takes 0.5 s on an idle machine; the room is for busy ones


def test_a_terminal_gets_lines_and_progress(folder: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [*COMMAND, str(folder), "--num-classes", "2"], cwd=REPOSITORY, env=environment, stdout=follower, stderr=follower
    )
    os.close(follower)
    output = b""
    while True:
        try:
            chunk = os.read(leader, 4096)
        except OSError:  # Linux's end of file: the other side is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(leader)
    assert process.wait() == 0
    text = output.decode()
    assert "│" in text
    assert "files/s" in text
    assert "2/2" in text


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs the CamVid masks in ../shared/data/camvid")
def test_camvid_shares_are_those_of_its_readme(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(CAMVID), "--num-classes", "11", "--ignore-index", "11"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shares = [float(next(row for row in rows if row and row[0] == f"class_{index}")[2]) for index in range(11)]
    documented = [17.5, 24.2, 1.0, 33.0, 4.7, 10.1, 1.2, 1.2, 6.1, 0.67, 0.30]
    np.testing.assert_allclose(shares, documented, atol=0.06)  # the README's rounding
