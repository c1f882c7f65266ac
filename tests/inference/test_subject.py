from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seg.balance import ClassCounts
from seg.config import load_config
from seg.data.samples.pairs import Sample
from seg.errors import ConfigError, DataError
from seg.inference import subject as module
from seg.inference.results import image_table
from seg.inference.settings import Settings
from seg.inference.subject import Subject, check_comparable, comparison


@pytest.fixture
def subject(tiny_config, tmp_path):
    """Three images with masks, two of one flight, under the tiny configuration; nothing of it can be read."""
    config = load_config(tiny_config, [f"data.root={tmp_path}"])
    samples = []
    for name, group in (("a", "flight 1"), ("b", "flight 1"), ("c", "")):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
        samples.append(Sample(tmp_path / "images" / f"{name}.png", tmp_path / f"{name}.png", group))
    pixels = np.array([900, 50, 30, 10, 5, 3, 2])
    counts = ClassCounts(config.labels.names, 255, "index", pixels, pixels * 0 + 1, pixels * 0 + 1000, 0, 1, "0" * 64)
    plain = config.input.preprocessing()
    return Subject(Path("runs/x"), Path("best.keras"), config, plain, counts, samples, [], np.ones(7), None, Settings())


def test_facts_are_plain_and_do_not_depend_on_where_the_data_lies(subject):
    facts = subject.facts()
    assert (facts["run"], facts["checkpoint"], facts["images"]) == ("runs/x", "best.keras", 3)
    assert (facts["image_size"], facts["tta"], facts["tile"], facts["overlap"]) == ("as stored", "none", 1024, 128)
    assert subject.image_names() == ["images/a.png", "images/b.png", "images/c.png"]
    assert len(facts["fingerprint"]) == 64
    assert subject.groups() == ["flight 1", "flight 1", ""]


def test_rare_is_a_share_of_the_training_pixels(subject):
    assert subject.rare() == [6, 5, 4]  # 0.2, 0.3 and 0.5 %; the road has 1.0
    assert replace(subject, settings=Settings(rare_share=0.02)).rare() == [6, 5, 4, 3]


def test_a_run_is_comparable_with_itself(subject):
    check_comparable(subject, replace(subject, path=Path("runs/y")))


def changes(subject):
    fewer = subject.samples[:2]
    other_mask = [*fewer, replace(subject.samples[2], mask=subject.samples[0].mask)]
    other_group = [*fewer, replace(subject.samples[2], group="flight 2")]
    labels = subject.config.labels
    names = ("meadow", *labels.names[1:])
    return [
        ({"samples": fewer}, "images of split test (3 and 2); groups of the images"),
        ({"samples": other_mask}, "masks of split test (their fingerprints, of names and sizes)"),
        ({"samples": other_group}, "groups of the images"),
        (
            {"config": subject.config.model_copy(update={"labels": labels.model_copy(update={"names": names})})},
            f"classes ({', '.join(labels.names)} and {', '.join(names)})",
        ),
    ]


@pytest.mark.parametrize("index", range(4))
def test_other_pixels_are_refused(subject, index):
    change, words = changes(subject)[index]
    with pytest.raises(DataError) as caught:
        check_comparable(subject, replace(subject, path=Path("runs/y"), **change))
    allowed = "allowed: two runs evaluated on the same pixels"
    assert str(caught.value) == f"--against: runs/x and runs/y differ in {words}; {allowed}"


def test_labels_that_were_read_otherwise_are_refused(subject, made_up_scores):
    scores, other = made_up_scores(), made_up_scores()
    other[0].sums[0, 0, 1] += 1
    with pytest.raises(DataError, match="runs/x and runs/x read other labels from the same masks; allowed: one labels"):
        comparison(subject, scores, subject, other)


def opened(config, counts, settings):
    weights = {name: float(1 + index) for index, name in enumerate(config.labels.names)}
    return Subject.of_run(Path("runs/x"), Path("k"), config, config.input.preprocessing(), counts, weights, settings)


def test_the_split_must_be_there_and_the_loss_must_fit(tiny_config, subject):
    config = load_config(tiny_config)
    with pytest.raises(DataError, match=r"--split: got 'nightly', which runs/x's data does not have; allowed: train,"):
        opened(config, subject.counts, Settings(split="nightly"))
    with pytest.raises(ConfigError, match=r"runs/x: prior correction: the loss is cross_entropy \+ dice"):
        opened(config, subject.counts, Settings(prior_correction=True))
    found = opened(config, subject.counts, Settings(split="val"))
    assert found.weights.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert [len(found.samples), len(found.val)] == [2, 2] and found.posterior_weights is None


class Echo:
    """A model whose logits are its images."""

    def predict_on_batch(self, images):
        return images


def test_the_views_of_a_large_raster_are_one_image(subject, monkeypatch):
    labels = np.random.default_rng(0).integers(0, 7, (4, 1, 6, 6)).astype(np.uint8)
    labels[1, :, :, :3] = 255  # the second view's margin
    logits = 5 * np.eye(8, 7, dtype=np.float32)[np.where(labels == 255, 7, labels)]
    a, b, c = subject.samples
    views = [SimpleNamespace(sample=sample) for sample in (a, a, b, c)]
    monkeypatch.setattr(module, "evaluation_views", lambda samples, preprocessing: views)
    monkeypatch.setattr(Subject, "_batches", lambda self, samples: zip(logits, labels, strict=True))
    scores = subject.scores(subject.predictor(Echo()))[0]
    assert scores.sums[:, :, 1].sum(axis=1).tolist() == [36 + 18, 36, 36]
    assert scores.total.matrix.sum() == 126 and len(subject.results([scores])["classes"]) == 7
    assert len(image_table(scores, subject.names, subject.image_names(), subject.groups()).rows) == 3
