import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg import predict
from seg.config import load_config
from seg.data.files.reading import read_values
from seg.runs.model_file import MEMBER, describe, read_description, save_model
from seg.training.segmenter import load_segmenter


def command(capsys, *arguments):
    code = predict.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def image_file(path, height, width, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


def test_masks_are_the_models_arg_max_at_any_size(trained_run, tmp_path, capsys):
    odd = image_file(tmp_path / "in/odd.png", 37, 53)
    small = image_file(tmp_path / "in/small.jpg", 9, 8)
    code, out, _ = command(capsys, trained_run, tmp_path / "in", "--out", tmp_path / "out")
    assert code == 0
    assert out.startswith(f"2 masks in {tmp_path / 'out/masks'}")
    config = load_config(trained_run / "config.yaml")
    model, preprocessing = load_segmenter(trained_run / "checkpoints/best.keras"), config.input.preprocessing()
    for path in (odd, small):
        image = read_values(path, 3)[0]
        expected = model.predict_on_batch(preprocessing.prepare(image)[None])[0].argmax(-1)
        mask = cv2.imread(str(tmp_path / "out/masks" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected)
        assert cv2.imread(str(tmp_path / "out/overlays" / f"{path.stem}.png")).shape == image.shape


def test_large_images_go_in_tiles(trained_run, tmp_path, capsys):
    large = image_file(tmp_path / "large.png", 70, 90)
    whole, tiled = tmp_path / "whole", tmp_path / "tiled"
    assert command(capsys, trained_run, large, "--out", whole)[0] == 0
    assert command(capsys, trained_run, large, "--out", tiled, "--tile", 48, "--overlap", 24)[0] == 0
    masks = [cv2.imread(str(folder / "masks/large.png"), cv2.IMREAD_UNCHANGED) for folder in (whole, tiled)]
    assert masks[0].shape == masks[1].shape == (70, 90)
    # Tiles see less context at their borders, so some pixels may differ, but most must not.
    assert (masks[0] == masks[1]).mean() > 0.9


def test_the_runs_resize_is_undone(trained_run, tmp_path, capsys):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(trained_run / "config.yaml", run)
    labels, preprocessing = read_description(trained_run / "checkpoints/best.keras")
    resized = replace(preprocessing, resize=(24, 40))
    save_model(
        load_segmenter(trained_run / "checkpoints/best.keras"),
        run / "checkpoints/best.keras",
        describe(labels, resized),
    )
    image = image_file(tmp_path / "a.png", 61, 90)
    assert command(capsys, run, image, "--out", tmp_path / "out")[0] == 0
    assert cv2.imread(str(tmp_path / "out/masks/a.png"), cv2.IMREAD_UNCHANGED).shape == (61, 90)


def test_the_model_s_file_alone_predicts_as_its_run_does(trained_run, tmp_path, capsys):
    copied = shutil.copy(trained_run / "checkpoints/best.keras", tmp_path / "boats.keras")
    image_file(tmp_path / "in/odd.png", 37, 53)
    for model, out in ((trained_run, "run"), (copied, "file")):
        code, _, err = command(capsys, model, tmp_path / "in", "--out", tmp_path / out)
        assert code == 0, err
    for name in ("masks/odd.png", "overlays/odd.png"):
        assert (tmp_path / "file" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def described(source, path, content):
    """A copy of a model's file with another description, or none."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            if member != MEMBER:
                new.writestr(member, old.read(member))
        if content is not None:
            new.writestr(MEMBER, content)
    return path


def test_a_file_that_is_no_model_of_ours_is_one_error(trained_run, tmp_path, capsys):
    best, image = trained_run / "checkpoints/best.keras", image_file(tmp_path / "a.png", 16, 16)
    with zipfile.ZipFile(best) as archive:
        fewer = json.loads(archive.read(MEMBER))
    for key in ("names", "colours"):
        fewer["labels"][key].pop()
    (tmp_path / "torn.keras").write_bytes(best.read_bytes()[:-500])
    model, nowhere = tmp_path / "x.keras", tmp_path / "nowhere.keras"
    cases = [
        (described(best, tmp_path / "plain.keras", None), "plain.keras: has no readable seg.json ("),
        (
            described(best, model, "{}"),
            "x.keras: has no readable seg.json ('labels'); allowed: a checkpoint that seg.tra",
        ),
        (
            tmp_path / "torn.keras",
            "torn.keras: cannot be read as a model (File is not a zip file); allowed: a checkpoint",
        ),
        (
            described(best, tmp_path / "six.keras", json.dumps(fewer)),
            "six.keras: the model predicts 7 classes, allowed: 6",
        ),
        (nowhere, f"{nowhere}: no such file; allowed: a folder that seg.train made, or a .keras file out of one"),
    ]
    for path, message in cases:
        code, _, err = command(capsys, path, image, "--out", tmp_path / "out")
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
        assert message in err
    volume = tmp_path / "scan.nii.gz"
    volume.write_bytes(b"")
    code, _, err = command(capsys, best, volume, "--out", tmp_path / "out")
    message = f"{volume}: is a volume, whose axis {best} does not say; allowed: with a run folder"
    assert (code, err) == (2, f"error: {message}\n")
    code, _, err = command(capsys, best, image, "--out", tmp_path / "out", "--checkpoint", "last")
    allowed = "allowed: with a run folder"
    assert (code, err) == (2, f"error: --checkpoint: has no effect with a .keras file; {allowed}\n")
    assert not (tmp_path / "out").exists()


def test_messages_come_before_the_model_is_loaded(trained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("seg.training.segmenter.load_segmenter", lambda path: pytest.fail("the model was loaded"))
    first, second = image_file(tmp_path / "a/x.png", 8, 8), image_file(tmp_path / "b/x.jpg", 8, 8)
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    cases = [
        ([tmp_path / "none.png"], f"{tmp_path / 'none.png'}: no such file or folder"),
        (
            [tmp_path / "empty"],
            f"{tmp_path / 'empty'}: no images in it, allowed: .jpeg, .jpg, .nii, .nii.gz, .png, .tif, .tiff",
        ),
        ([first, second], f"{first} and {second}: both would become x; predict them apart"),
        ([first, "--tile", 64, "--overlap", 64], "--overlap: got 64, allowed: 0 to 63 (less than --tile)"),
    ]
    for arguments, message in cases:
        code, _, err = command(capsys, trained_run, *arguments, "--out", out)
        assert (code, err) == (2, f"error: {message}\n")
    assert not out.exists()


def test_a_broken_image_is_named(trained_run, tmp_path, capsys):
    path = image_file(tmp_path / "broken.png", 16, 16)
    path.write_bytes(path.read_bytes()[:100])
    code, _, err = command(capsys, trained_run, path, "--out", tmp_path / "out")
    assert code == 2
    assert "broken.png" in err
    assert "Traceback" not in err


def test_bad_images_are_skipped_where_asked_and_what_was_done_is_told(trained_run, tmp_path, capsys):
    image_file(tmp_path / "in/a.png", 16, 16)
    (tmp_path / "in/b.png").write_bytes((tmp_path / "in/a.png").read_bytes()[:300])
    cv2.imwrite(str(tmp_path / "in/c.png"), np.zeros((16, 16), np.uint8))  # a mask, say
    (tmp_path / "in/._a.png").write_bytes(b"of macOS")
    (tmp_path / "in/d.txt").write_text("a note")
    code, out, err = command(capsys, trained_run, tmp_path / "in", "--out", tmp_path / "out", "--on-error", "skip")
    assert code == 3
    assert "left out 1 files that are no images: 1 file *.txt" in out and "1 masks in" in out
    assert "c.png: has 1 band(s), but the model was trained on images of 3" in err and "b.png: its PNG data are" in err
    assert [path.name for path in (tmp_path / "out/masks").iterdir()] == ["a.png"]
    (tmp_path / "in/c.png").unlink()
    code, _, err = command(capsys, trained_run, tmp_path / "in", "--out", tmp_path / "other")
    assert code == 2 and "1 of 2 images were predicted, in" in err and "to go on behind a bad image: --on-error" in err


def test_another_type_is_refused_before_the_model_is_loaded(trained_run, tmp_path, capsys, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((16, 16, 3), np.uint16))
    monkeypatch.setattr("seg.training.segmenter.load_segmenter", lambda *_: pytest.fail("loaded"))
    code, _, err = command(capsys, trained_run, tmp_path / "a.png", "--out", tmp_path / "out")
    assert (
        code == 2 and "a.png: holds uint16 values, but the model was trained on uint8; allowed: as in training" in err
    )


# --- what lies in OUT -------------------------------------------------------------------------------------------------
def test_predictions_are_replaced_only_when_asked(trained_run, tmp_path, capsys):
    image, out = image_file(tmp_path / "in/a.png", 16, 16), tmp_path / "out"
    assert command(capsys, trained_run, image, "--out", out)[0] == 0
    (out / "masks/a.png").write_bytes(b"corrected by hand")
    code, _, err = command(capsys, trained_run, image, "--out", out)
    assert code == 2
    assert (
        err == f"error: {out}/masks/a.png: exists, and 1 more; allowed: another --out, or --overwrite to replace them\n"
    )
    assert (out / "masks/a.png").read_bytes() == b"corrected by hand"
    assert command(capsys, trained_run, image, "--out", out, "--overwrite")[0] == 0
    assert cv2.imread(str(out / "masks/a.png"), cv2.IMREAD_UNCHANGED).shape == (16, 16)


def test_labels_and_images_are_never_replaced(trained_run, tmp_path, capsys):
    """`--out` among the data that the run was trained on, by its name or by a link, and over the images themselves."""
    root = Path(load_config(trained_run / "config.yaml").data.root)
    image = sorted((root / "images/val").iterdir())[0]
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/masks").symlink_to(root / "masks/val")
    code, _, err = command(capsys, trained_run, image, "--out", tmp_path / "linked", "--overwrite")
    assert code == 2 and "holds masks or images that the run was trained on; allowed: another --out" in err
    # A hard link to a mask stands where the prediction would.
    (tmp_path / "hard/masks").mkdir(parents=True)
    os.link(root / "masks/val" / image.name, tmp_path / "hard/masks" / image.name)
    code, _, err = command(capsys, trained_run, image, "--out", tmp_path / "hard", "--overwrite")
    assert code == 2 and "is one of the data's own files, which are never replaced" in err
    own = image_file(tmp_path / "own/masks/a.png", 16, 16)
    code, _, err = command(capsys, trained_run, own, "--out", tmp_path / "own", "--overwrite")
    assert code == 2 and f"{own}: is one of the data's own files" in err
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
