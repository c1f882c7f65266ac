import asyncio
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorflow import make_ndarray

from seg.balance import ClassCounts
from seg.config.tensorboard import TensorBoard
from seg.labels import LabelSet
from seg.losses import CrossEntropy
from seg.metrics.confusion import ConfusionMatrix
from seg.pictures.confusion import confusion_picture
from seg.training.tensorboard import SegmentationTensorBoard, is_due

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("water", "boat", "never labelled")
LABELS = LabelSet.from_names(NAMES)
random = np.random.default_rng(0)
IMAGES = random.normal(size=(6, 8, 6, 3)).astype(np.float32)
MASKS = (random.random((6, 8, 6)) < 0.2).astype(np.uint8)
MASKS[:, :2] = 255
LIMITS = TensorBoard(rare_share=0.3, look_every=3)


def counts(names=NAMES):
    pixels = [int((index == MASKS).sum()) for index in range(len(names))]
    images, around = [6, 6, 0][: len(names)], [216, 216, 0][: len(names)]
    return ClassCounts(
        tuple(names), 255, "index", np.array(pixels), np.array(images), np.array(around), 72, 6, "0" * 64
    )


def conv_model(metrics=None, **options):
    keras.utils.set_random_seed(2)
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(3, 1)(images))
    loss = options.pop("loss", None) or CrossEntropy(class_weights=[1.0, 4.0, 0.0])
    model.compile(keras.optimizers.SGD(0.125), loss, metrics=metrics or [ConfusionMatrix(NAMES)], **options)
    return model


def board(folder, **options):
    options = {"counts": counts(), "class_weights": [1.0, 4.0, 0.0], "limits": LIMITS} | options
    return SegmentationTensorBoard(folder, LABELS, samples=2, **options)


def fit(model, callback, epochs=4, **options):
    data = {"validation_data": (IMAGES, MASKS)} | options
    extra = data.pop("callbacks", [])
    return model.fit(IMAGES, MASKS, batch_size=3, epochs=epochs, verbose=0, callbacks=[callback, *extra], **data)


def read(folder, run):
    return EventAccumulator(str(folder / run), size_guidance={"tensors": 0}).Reload()


def points(events, tag):
    return [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]


def steps(events, tag):
    return [event.step for event in events.Tensors(tag)]


class Weights(keras.callbacks.Callback):
    """Keeps the weights of each epoch's end."""

    def on_train_begin(self, logs=None):
        self.kept = []

    def on_epoch_end(self, epoch, logs=None):
        self.kept.append(self.model.get_weights())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, model, its weights after each of 4 epochs, fit's history) of a plain Keras model."""
    folder, model, weights = tmp_path_factory.mktemp("run"), conv_model(), Weights()
    callback = board(folder, texts={"config": "**seed** 0"}, hparams={"scheme": "manual"}, sample_names=["x", "x"])
    history = fit(model, callback, callbacks=[weights])
    return folder, model, weights.kept, history.history


# --- scalars ----------------------------------------------------------------------------------------------------------
def test_every_epoch_has_every_scalar_once(run):
    train, val = read(run[0], "train"), read(run[0], "val")
    for events in (train, val):
        for tag in ("loss", "mean_iou", "mean_iou_rare", "pixel_accuracy", "iou/boat", "recall/water", "dice/boat"):
            assert steps(events, tag) == [1, 2, 3, 4]
    for tag in ("learning_rate", "images_per_second", "input_wait_share"):
        assert steps(train, tag) == [1, 2, 3, 4]
    assert [value for _, value in points(train, "learning_rate")] == [0.125] * 4
    assert all(0 <= value <= 1 for _, value in points(train, "input_wait_share"))


@pytest.mark.parametrize("epoch", [0, 3])
def test_validation_scores_are_scikit_learns(run, epoch):
    folder, model, weights, _ = run
    model.set_weights(weights[epoch])
    truth = MASKS[MASKS != 255]
    said = model.predict(IMAGES, verbose=0).argmax(-1)[MASKS != 255]
    val = read(folder, "val")
    options = {"labels": [0, 1, 2], "average": None, "zero_division": np.nan}
    present = [((truth == index) | (said == index)).any() for index in range(3)]
    expected = {
        "iou": np.where(present, jaccard_score(truth, said, labels=[0, 1, 2], average=None, zero_division=0), np.nan),
        "precision": precision_score(truth, said, **options),
        "recall": recall_score(truth, said, **options),
        "dice": f1_score(truth, said, **options),
    }
    for score, values in expected.items():
        for name, value in zip(NAMES, values, strict=True):
            tag = f"{score}/{name}"
            found = dict(points(val, tag)) if tag in val.Tags()["tensors"] else {}
            assert found.get(epoch + 1, np.nan) == pytest.approx(value, rel=1e-6, nan_ok=True), tag  # float32
    assert dict(points(val, "pixel_accuracy"))[epoch + 1] == pytest.approx((truth == said).mean(), rel=1e-6)
    # `boat` and `never labelled` have less than 0.3 of the training pixels; the latter counts where it is predicted.
    rare = [i for i in (1, 2) if ((truth == i) | (said == i)).any()]
    expected = np.mean([jaccard_score(truth == i, said == i) for i in rare])
    assert dict(points(val, "mean_iou_rare"))[epoch + 1] == pytest.approx(expected, rel=1e-6)


def test_losses_and_ious_are_those_of_the_history(run):
    folder, _, _, history = run
    for key, values in history.items():
        events = read(folder, "val" if key.startswith("val_") else "train")
        tag = key.removeprefix("val_")
        expected = {step: value for step, value in enumerate(values, 1) if not math.isnan(value)}
        found = dict(points(events, tag)) if tag in events.Tags()["tensors"] else {}
        assert found == pytest.approx(expected)


def test_train_scores_are_of_the_epoch_s_training_matrix(tmp_path):
    # Learning rate 0: the model stays, so the matrix that training summed is the one it has afterwards.
    model = conv_model()
    model.optimizer.learning_rate.assign(0.0)
    fit(model, board(tmp_path), epochs=1, validation_data=(IMAGES[:1], MASKS[:1]))
    said = model.predict(IMAGES, verbose=0).argmax(-1)
    expected = precision_score(MASKS[MASKS != 255] == 1, said[MASKS != 255] == 1)
    assert dict(points(read(tmp_path, "train"), "precision/boat")) == pytest.approx({1: expected})


def test_without_validation_there_is_a_train_run(tmp_path):
    fit(conv_model(), board(tmp_path), epochs=2, validation_data=None)
    assert steps(read(tmp_path, "train"), "recall/boat") == [1, 2]
    assert "loss" not in read(tmp_path, "val").Tags()["tensors"]


def test_shares_are_written_at_each_look_and_sum_to_1(run):
    val = read(run[0], "val")
    for kind in ("pixel", "loss", "gradient"):
        by_class = [points(val, f"{kind}_share/{name}") for name in NAMES]
        assert [step for step, _ in by_class[0]] == [1, 3, 4]
        assert sum(values[0][1] for values in by_class) == pytest.approx(1)
    boats = (MASKS[:3] == 1).sum() / (MASKS[:3] != 255).sum()  # the first of two batches is looked at
    assert points(val, "pixel_share/boat")[0][1] == pytest.approx(boats, rel=1e-6)


def test_pr_curves_are_of_the_looked_at_epochs(run):
    folder, model, weights, _ = run
    model.set_weights(weights[3])
    p = keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(IMAGES, verbose=0)))[MASKS != 255][:, 1]
    truth = MASKS[MASKS != 255] == 1
    val = read(folder, "val")
    assert steps(val, "pr_curve/boat") == [1, 3, 4]
    assert "pr_curve/never labelled" not in val.Tags()["tensors"]  # without a pixel there is nothing to find
    curve = make_ndarray(val.Tensors("pr_curve/boat")[-1].tensor_proto)
    for step in (0, 10, 50, 100):
        (tn, fp), (fn, tp) = confusion_matrix(truth, np.floor(p * 100) >= step, labels=[False, True])
        assert curve[:4, step].tolist() == [tp, fp, tn, fn]


# --- pictures, texts, layout ------------------------------------------------------------------------------------------
def decoded(event):
    return cv2.imdecode(np.frombuffer(event.tensor_proto.string_val[2], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_pictures(run):
    folder, model, weights, _ = run
    val = read(folder, "val")
    tags = {tag for tag in val.Tags()["tensors"] if val.SummaryMetadata(tag).plugin_data.plugin_name == "images"}
    # Two samples of one name stay two tags.
    assert tags - {"worst/boat/1", "worst/water/1"} == {"confusion", "overlay/x (0)", "overlay/x (1)"}
    assert steps(val, "overlay/x (0)") == [1, 3, 4]
    assert steps(val, "confusion") == [1, 2, 3, 4]
    model.set_weights(weights[1])
    said = model.predict(IMAGES, verbose=0).argmax(-1)
    matrix = confusion_matrix(MASKS[MASKS != 255], said[MASKS != 255], labels=[0, 1, 2])
    np.testing.assert_array_equal(decoded(val.Tensors("confusion")[1]), confusion_picture(matrix, NAMES))
    train = read(folder, "train")
    assert decoded(train.Tensors("class_balance")[0]).std() > 10


def test_pictures_of_an_epoch_stand_before_the_next_epoch_s_values(run):
    (path,) = (run[0] / "val").glob("events.out.tfevents.*")
    events = [Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))][1:]
    assert [event.step for event in events] == sorted(event.step for event in events)
    assert [event.step for event in events if any(v.tag == "confusion" for v in event.summary.value)] == [1, 2, 3, 4]


def test_what_drawing_raises_ends_the_fit(tmp_path, monkeypatch):
    def panel(*_, **__):
        raise ValueError("no picture of this")

    monkeypatch.setattr("seg.training.class_board.panel", panel)
    with pytest.raises(ValueError, match="no picture of this"):
        fit(conv_model(), board(tmp_path), epochs=1)


def test_texts_layout_and_hparams_are_written_once(run):
    train, val = read(run[0], "train"), read(run[0], "val")
    for events, tag in (
        (train, "config"),
        (train, "classes"),
        (train, "custom_scalars__config__"),
        (val, "_hparams_/session_start_info"),
    ):
        assert steps(events, tag) == [0]
    table = make_ndarray(train.Tensors("classes")[0].tensor_proto).item().decode()
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| never labelled", "| boat", "| water"]
    pixels = int((MASKS == 1).sum())
    assert f"| boat | {pixels:,} | {pixels / (MASKS != 255).sum():.3%} | 6/6 | 4.000 | rare |" in table


def test_when_looks_and_pictures_are_due():
    assert [step for step in range(1, 13) if is_due(step, 12, None)] == [1, 4, 8, 12]
    assert sum(is_due(step, 120, None) for step in range(1, 121)) == 11
    assert [step for step in range(1, 8) if is_due(step, 7, 4)] == [1, 4, 7]
    assert is_due(1, 1, None)


def test_a_full_folder_gets_no_more_pictures_but_every_curve(tmp_path):
    limits = TensorBoard(max_mb=0.001, look_every=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # Keras's own, which pyproject.toml allows, are among them
        fit(conv_model(), board(tmp_path, limits=limits), epochs=2)
    (note,) = [str(warning.message) for warning in caught if "max_mb" in str(warning.message)]
    assert "the limit (max_mb) is 0.001: no more pictures from epoch 1 on; the curves go on" in note
    val = read(tmp_path, "val")
    assert not {"confusion", "overlay/0000"} & set(val.Tags()["tensors"])
    assert steps(val, "iou/boat") == steps(val, "gradient_share/boat") == [1, 2]
    assert steps(val, "limit") == [1]


def test_no_pictures_are_wanted(tmp_path):
    limits = TensorBoard(confusion_every=0, tile_classes=0, curve_classes=0)
    fit(conv_model(), SegmentationTensorBoard(tmp_path, LABELS, samples=0, limits=limits), epochs=1)
    tags = set(read(tmp_path, "val").Tags()["tensors"])
    assert not {tag for tag in tags if tag.startswith(("confusion", "overlay", "worst", "pr_curve"))}
    assert "iou/boat" in tags


def test_150_classes_are_written_within_the_stated_size(tmp_path):
    names = tuple(f"class {index}" for index in range(150))
    labels = LabelSet.from_names(names)
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(150, 1)(images))
    model.compile("sgd", CrossEntropy(), metrics=[ConfusionMatrix(names)])
    masks = random.integers(0, 150, (2, 64, 64)).astype(np.uint8)
    inputs = random.normal(size=(2, 64, 64, 3)).astype(np.float32)
    callback = SegmentationTensorBoard(tmp_path, labels)
    logs = model.fit(inputs, masks, validation_data=(inputs, masks), verbose=0, callbacks=[callback]).history
    assert len(read(tmp_path, "val").Tags()["tensors"]) > 4 * 150
    size = sum(path.stat().st_size for path in tmp_path.rglob("events*"))
    assert size < 3e6  # docs/tensorboard.md: a look at 150 classes, noise that no PNG makes small
    assert len(logs) == 2 * (150 + 2)  # the logs have loss, mean IoU and the IoUs; the rest is in the event files alone


# --- resuming ---------------------------------------------------------------------------------------------------------
def test_a_resumed_fit_has_no_step_twice(tmp_path):
    model = conv_model()
    fit(model, board(tmp_path, texts={"config": "x"}), epochs=3)
    first = points(read(tmp_path, "val"), "iou/boat")[:2]
    fit(model, board(tmp_path, texts={"config": "x"}), epochs=5, initial_epoch=2)  # epoch 3 had got no checkpoint
    for run in ("train", "val"):
        events = read(tmp_path, run)
        assert steps(events, "iou/boat") == steps(events, "loss") == [1, 2, 3, 4, 5]
    assert points(read(tmp_path, "val"), "iou/boat")[:2] == first
    assert steps(read(tmp_path, "train"), "config") == [0]


def test_a_fit_from_the_start_replaces_the_run(tmp_path):
    fit(conv_model(), board(tmp_path), epochs=3)
    fit(conv_model(), board(tmp_path), epochs=1)
    assert steps(read(tmp_path, "val"), "loss") == [1]
    assert steps(read(tmp_path, "train"), "classes") == [0]


def test_one_callback_goes_on_after_an_interrupted_fit(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations >= 3:
                raise KeyboardInterrupt

    model, callback = conv_model(), board(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(model, callback, epochs=2, callbacks=[Stop()])
    fit(model, callback, epochs=3, initial_epoch=1)
    assert steps(read(tmp_path, "train"), "loss") == [1, 2, 3]
    model.evaluate(IMAGES, MASKS, verbose=0)
    assert steps(read(tmp_path, "val"), "loss") == [1, 2, 3]  # an evaluation outside of fit writes nothing


def test_one_callback_goes_on_with_a_model_that_is_compiled_anew(tmp_path):
    model, callback = conv_model(), board(tmp_path)
    fit(model, callback, epochs=1)
    model.compile("sgd", CrossEntropy(), metrics=[ConfusionMatrix(NAMES)])
    history = fit(model, callback, epochs=2, initial_epoch=1).history
    assert history["val_mean_iou"] == [
        pytest.approx(model.evaluate(IMAGES, MASKS, verbose=0, return_dict=True)["mean_iou"])
    ]
    assert steps(read(tmp_path, "val"), "mean_iou_rare") == [1, 2]


# --- other models -----------------------------------------------------------------------------------------------------
@keras.saving.register_keras_serializable(package="test")
class NoMatrix(keras.metrics.Metric):
    """As of masks with several labels a pixel: per-class IoUs without a (C, C) matrix."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass

    def result(self):
        return {"mean_iou": keras.ops.convert_to_tensor(0.5), "iou/boat": keras.ops.convert_to_tensor(0.25)}


def test_a_metric_without_a_matrix_leaves_its_panels_out(tmp_path):
    model = conv_model(metrics=[NoMatrix()], loss="mse")
    targets = np.zeros((6, 8, 6, 3), np.float32)
    model.fit(IMAGES, targets, validation_data=(IMAGES, targets), verbose=0, callbacks=[board(tmp_path)])
    val = read(tmp_path, "val")
    assert points(val, "iou/boat") == [(1, 0.25)]
    assert points(val, "mean_iou") == [(1, 0.5)]
    assert not {tag for tag in val.Tags()["tensors"] if tag.startswith(("confusion", "recall", "pr_curve", "overlay"))}


def test_other_classes_are_refused(tmp_path):
    message = r"metric 'confusion': got the classes water, boat, car, allowed: those of labels, water, boat, never"
    with pytest.raises(ValueError, match=message):
        fit(conv_model(metrics=[ConfusionMatrix(("water", "boat", "car"))]), board(tmp_path))
    with pytest.raises(ValueError, match="counts: got the classes water, boat, allowed: water, boat, never labelled"):
        board(tmp_path, counts=counts(NAMES[:2]))
    with pytest.raises(ValueError, match=r"class_weights: got shape \(2,\), allowed: \(3,\), one a class"):
        board(tmp_path, class_weights=[1, 2])
    with pytest.raises(ValueError, match="curve_classes: got 'car', allowed: water, boat, never labelled"):
        board(tmp_path, limits=TensorBoard(curve_classes=("car",)))


def test_named_curve_classes(tmp_path):
    fit(conv_model(), board(tmp_path, limits=TensorBoard(curve_classes=("water",))), epochs=1)
    assert [tag for tag in read(tmp_path, "val").Tags()["tensors"] if tag.startswith("pr_curve")] == ["pr_curve/water"]


def test_training_is_the_same_with_and_without(tmp_path, run):
    plain = conv_model()
    plain.fit(IMAGES, MASKS, batch_size=3, epochs=4, verbose=0, validation_data=(IMAGES, MASKS))
    for ours, theirs in zip(run[2][3], plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_documented_example_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "tensorboard.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    exec(example, {})  # noqa: S102 - our own page
    capsys.readouterr()
    val = read(tmp_path / "logs" / "mine", "val")
    assert steps(val, "iou/field") == steps(val, "loss") == [1, 2, 3]
    assert {"overlay/0000", "gradient_share/boat", "confusion"} <= set(val.Tags()["tensors"])


# --- a browser --------------------------------------------------------------------------------------------------------
@pytest.fixture
def served(run):
    """The address of a TensorBoard that shows the run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(run[0]), "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--load_fast", "false"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{address}/data/plugin/scalars/tags", timeout=10) as answer:
                    if b"iou/boat" in answer.read():
                        break
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                pass
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait()


# The text of a page with what Polymer keeps in shadow roots, which no dump of the page has.
ALL_TEXT = """(function text(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent;
  if (["SCRIPT", "STYLE", "TEMPLATE"].includes(node.nodeName)) return "";
  const inside = node.shadowRoot ? [...node.shadowRoot.childNodes] : [];
  return [...inside, ...node.childNodes].map(text).join(" ");
})(document.body)"""


async def page_text(port_file, address, wanted):
    """The text of a page in a browser that listens at the port in a file, once it has all that is wanted."""
    websocket = pytest.importorskip("tornado.websocket", reason="speaks to Chromium; comes with distributed")
    for _ in range(240):
        if port_file.exists() and "\n" in port_file.read_text():
            break
        await asyncio.sleep(0.25)
    port = port_file.read_text().splitlines()[0]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/json/new?{urllib.parse.quote(address, safe='')}", method="PUT"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        page = await websocket.websocket_connect(json.loads(answer.read())["webSocketDebuggerUrl"])
    text = ""
    for number in range(1, 121):
        question = {"id": number, "method": "Runtime.evaluate", "params": {"expression": ALL_TEXT}}
        await page.write_message(json.dumps(question))
        answer = json.loads(await page.read_message())
        text = " ".join(str(answer.get("result", {}).get("result", {}).get("value", "")).split())
        if all(part in text for part in wanted):
            break
        await asyncio.sleep(0.5)
    page.close()
    return text


def test_a_browser_shows_the_classes(served, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet]
    command += [f"--user-data-dir={tmp_path}", "--remote-debugging-port=0", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wanted = ("1 overview", "2 rare: never labelled", "2 rare: boat", "boat: precision and recall")
    try:
        text = asyncio.run(page_text(tmp_path / "DevToolsActivePort", f"{served}/#custom_scalars", wanted))
    finally:
        browser.terminate()
        browser.wait()
    places = [text.find(part) for part in wanted]
    assert -1 not in places
    assert places == sorted(places)  # rare classes first, the rarest before the others
