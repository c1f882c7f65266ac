"""The check_dataset command: its table, files, exit codes and messages, and what it says of generated scenes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools.check_dataset import main
from data_tools.checks import KINDS, reading
from data_tools.scenes.scene import SCENE_LABELS, write_scenes

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = REPOSITORY / ".." / "shared" / "data"
NAMES = ",".join(SCENE_LABELS.names)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "scenes"
    write_scenes(root, {"train": 16, "val": 8, "test": 8}, size=192, seed=4)
    return root


@pytest.fixture
def scenes(drawn: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    for path in drawn.rglob("*.png"):
        copy = tmp_path / "scenes" / path.relative_to(drawn)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path / "scenes"


def test_generated_scenes_have_no_errors_and_no_warnings(drawn, capsys):
    # With --strict: a warning would fail. Hints may be: some single trees have fewer than 5 pixels, and that is so.
    assert main([str(drawn), "--class-names", NAMES, "--strict"]) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert "32 pairs (16 train, 8 val, 8 test): 0 errors, 0 warnings" in out
    assert {line.split()[1] for line in out.splitlines() if line.startswith(("error", "warning"))} == set()


def test_errors_exit_with_1_and_all_is_written(scenes, tmp_path, capsys):
    (scenes / "images/train/0003.png").unlink()
    data = (scenes / "masks/val/0001.png").read_bytes()
    (scenes / "masks/val/0001.png").write_bytes(data[:100])
    out = [tmp_path / "r" / "check.json", tmp_path / "r" / "check.md"]
    arguments = [str(scenes), "--class-names", NAMES, "--json", str(out[0]), "--markdown", str(out[1])]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "masks/train/0003.png: no image 0003.* in images/train" in printed
    assert "masks/val/0001.png: its PNG data are cut short or corrupt (100 bytes)" in printed
    assert "2 errors, 0 warnings" in printed
    report = json.loads(out[0].read_text("utf-8"))
    assert report["format"] == 1
    assert report["summary"]["error"] == 2
    errors = [finding for finding in report["findings"] if finding["grade"] == "error"]
    assert [(one["kind"], one["files"], one["split"]) for one in errors] == [
        ("orphan-mask", ["masks/train/0003.png"], "train"),
        ("unreadable-mask", ["masks/val/0001.png"], "val"),
    ]
    assert report["splits"]["train"]["pairs"] == 15
    assert sum(report["splits"]["val"]["pixels"].values()) == 7 * 192 * 192
    text = out[1].read_text("utf-8")
    assert "| error | orphan-mask | 1 | a mask without an image | add the image, or remove the mask |" in text
    for written in (*out,):
        assert str(tmp_path) not in written.read_text("utf-8")


def test_warnings_exit_with_1_if_strict(scenes):
    cv2.imwrite(str(scenes / "images/test/0000.png"), np.full((192, 192, 3), 9, np.uint8))
    arguments = [str(scenes), "--class-names", NAMES]
    assert main(arguments) == 0
    assert main([*arguments, "--strict"]) == 1


def test_show_bounds_what_is_printed_and_not_the_json(scenes, tmp_path, capsys):
    for index in range(9):
        (scenes / f"masks/train/{index:04d}.png").write_bytes(b"")
    arguments = [str(scenes), "--class-names", NAMES, "--json", str(tmp_path / "j.json"), "--show"]
    assert main([*arguments, "2"]) == 1
    out = capsys.readouterr().out
    assert out.count(": is no image that can be read (it is empty)") == 2
    assert "and 7 more (--json has all of them)" in out
    assert main([*arguments, "0"]) == 1
    assert "is empty" not in capsys.readouterr().out
    kinds = [finding["kind"] for finding in json.loads((tmp_path / "j.json").read_text())["findings"]]
    assert kinds.count("unreadable-mask") == 9


def test_one_folder_without_splits(drawn, tmp_path, capsys):
    root = tmp_path / "flat"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
        for index in range(3):
            suffix = "_gt" if kind == "masks" else ""
            (root / kind / f"{index}{suffix}.png").write_bytes((drawn / kind / f"train/000{index}.png").read_bytes())
    assert main([str(root), "--class-names", NAMES, "--mask-suffix", "_gt"]) == 0
    assert "3 pairs (3 all): 0 errors" in capsys.readouterr().out


def test_a_configuration_and_its_overrides(tmp_path, tiny_config, capsys):
    scenes = shutil.copytree(tiny_config.parent / "scenes", tmp_path / "s")
    assert main(["--config", str(tiny_config), f"data.root={scenes}", "--small-pixels", "0"]) == 0
    out = capsys.readouterr().out
    assert "8 pairs (4 train, 2 val, 2 test): 0 errors" in out
    assert "small-components" not in out


def test_small_components_are_as_small_as_asked(drawn, tmp_path):
    def components(pixels: int) -> int:
        out = tmp_path / f"{pixels}.json"
        main([str(drawn), "--class-names", NAMES, "--small-pixels", str(pixels), "--json", str(out)])
        return len([one for one in json.loads(out.read_text())["findings"] if one["kind"] == "small-components"])

    assert components(0) == components(1) == 0
    assert components(1000) == 7  # every class has components of fewer than 1000 pixels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "DIR: got none, allowed: one folder with images/ and masks/, or --config FILE"),
        (["a", "b", "--num-classes", "2"], "DIR: got 2 folders, allowed: one folder"),
        (["."], "--num-classes: missing, needed with DIR (or --class-names, or --config FILE instead)"),
        (["nowhere", "--num-classes", "2"], "nowhere: no such folder"),
        ([".", "--num-classes", "2"], ".: holds no folder images and no folder masks"),
        ([".", "--num-classes", "3", "--class-names", "a,b"], "--class-names: got 2 names, --num-classes says 3"),
        ([".", "--num-classes", "1"], "the classes and their encoding: 1 problem\n  labels.names: got 1 "),
        (["--config", "c.yaml", "--values", "1=a"], "--values: has no effect with --config, which says it"),
        (["--config", "c.yaml", "--bands", "1"], "--bands: has no effect with --config, which says it"),
        (["--config", "c.yaml"], "c.yaml: no such file"),
        ([".", "--num-classes", "2", "--threads", "0"], "--threads: got 0, allowed: 1 or more"),
        ([".", "--num-classes", "2", "--small-pixels", "-1"], "--small-pixels: got -1, allowed: 0 or more"),
        ([".", "--num-classes", "2", "--near-bits", "15"], "--near-bits: got 15, allowed: 0 to 14"),
        ([".", "--num-classes", "2", "--near-correlation", "nan"], "--near-correlation: got nan, allowed: -1 to 1"),
        ([".", "--num-classes", "2", "--json", "o", "--markdown", "o"], "--json and --markdown: both are o"),
    ],
)
def test_messages(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_all_values_of_the_set_come_first(tmp_path, capsys):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, values in enumerate(([1, 2], [2, 3], [4, 1])):
        image = np.random.default_rng(number).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), image)
        mask = np.repeat([values], 8, 0).repeat(4, 1).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"masks/{number}.png"), mask)
    report = tmp_path / "report.json"
    assert main([str(tmp_path), "--class-names", "a,b,c,d", "--json", str(report)]) == 1
    text = capsys.readouterr().out
    assert text.startswith("3 masks hold 4 value(s), of which 1 are no class\n")
    assert "values: {1: a, 2: b, 3: c, 4: d}" in text
    assert [row["pixels"] for row in json.loads(report.read_text())["values"]["rows"]] == [64, 64, 32, 32]
    values = ["--encoding", "values", "--values", "1=a", "2=b", "3=c", "4=d"]
    assert main([str(tmp_path), "--class-names", "a,b,c,d", *values]) == 0
    assert "no class" not in capsys.readouterr().out


def test_a_configuration_of_data_and_labels_alone(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(f"labels: {{names: [a, b]}}\ndata: {{name: fractions, root: {tmp_path}/nowhere}}\n")
    assert main(["--config", str(config)]) == 2
    assert capsys.readouterr().err.startswith(f"error: data.root: got '{tmp_path}/nowhere', which is no folder")


def test_ctrl_c_ends_it_and_writes_nothing(drawn, tmp_path, monkeypatch, capsys):
    real, calls = reading.perceptual_hash, []

    def interrupted(image):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(image)

    monkeypatch.setattr(reading, "perceptual_hash", interrupted)
    assert main([str(drawn), "--class-names", NAMES, "--json", str(tmp_path / "report.json"), "--threads", "2"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not (tmp_path / "report.json").exists()
    assert len(calls) < 32


def test_a_signal_ends_it_without_a_traceback(drawn):
    command = [sys.executable, "-c", "import data_tools.check_dataset as c, data_tools.checks.dataset as d, time\n"
               "real = d.check_pair\n"
               "def slow(*a):\n    print('started', flush=True); time.sleep(0.2); return real(*a)\n"
               f"d.check_pair = slow\nraise SystemExit(c.main([{str(drawn)!r}, '--num-classes', '7']))"]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "interrupted\n")


def test_a_terminal_gets_colours_and_progress(drawn):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "data_tools.check_dataset", str(drawn), "--class-names", NAMES]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=follower, stderr=follower)
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
    assert "checking" in output.decode() and "32/32" in output.decode()
    assert "\x1b[" in output.decode()


def test_help_is_quick_and_light():
    code = (
        "import sys, time\nfrom data_tools.check_dataset import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "slow = {'tensorflow', 'keras', 'matplotlib', 'numba', 'albumentations'}\n"
        "print(slow & set(sys.modules), file=sys.stderr)\n"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "--near-bits" in result.stdout
    assert result.stderr.strip() == "set()"
    assert time.perf_counter() - start < 10  # 0.7 s on an idle machine


def test_the_documentation_explains_every_kind():
    text = (REPOSITORY / "docs" / "checking.md").read_text("utf-8")
    rows = [line.split("|")[1].strip(" `") for line in text.splitlines() if line.startswith("| `")]
    assert rows == list(KINDS)
    for kind, about in KINDS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{kind}`"))
        assert f"| {about.grade} |" in row


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the data in ../shared/data")
@pytest.mark.parametrize(
    ("name", "kind", "file"),
    [
        ("camvid", "near-duplicate", "images/test/0001TP_008550.jpg"),  # the frame after the last one of train
        ("aerial_city", "shifted-mask", "images/image_part_082.jpg"),  # a smaller mask in the corner, the rest filled
    ],
)
def test_what_is_wrong_with_real_data(name, kind, file, tmp_path):
    out = tmp_path / "report.json"
    config = REPOSITORY / "configs" / f"{name}.yaml"
    assert main(["--config", str(config), f"data.root={SHARED_DATA / name}", "--json", str(out)]) == 0
    found = [one for one in json.loads(out.read_text("utf-8"))["findings"] if one["grade"] == "warning"]
    assert [(one["kind"], one["files"][0]) for one in found] == [(kind, file)]
