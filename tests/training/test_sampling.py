"""From the `sampler` section to draws, counts for the class weights, files and warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seg.balance import ClassCounts, count_masks
from seg.config import validate
from seg.config.tree import Config
from seg.data.masks.reading import IndexEncoding
from seg.data.samples.pairs import Sample
from seg.data.sampling.sampler import ClassPresence, CropTargets, RepeatFactor
from seg.errors import ConfigError, DataError
from seg.labels import LabelSet
from seg.training.sampling import sampling, sampling_warnings

NAMES = ["ground", "road", "boat", "bird"]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Eight pairs of 40 x 40: road in half of them, one boat of 16 pixels in one, no bird."""
    found = []
    for number in range(8):
        mask = np.zeros((40, 40), np.uint8)
        if number % 2:
            mask[10:14] = 1
        if number == 5:
            mask[20:24, 20:24] = 2
        mask[:, 39] = 255
        sample = Sample(tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png")
        cv2.imwrite(str(sample.image), np.full((40, 40, 3), number, np.uint8))
        cv2.imwrite(str(sample.mask), mask)
        found.append(sample)
    return found


def config(root: Path, **sections: Any) -> Config:
    tree: dict[str, Any] = {
        "name": "test",
        "labels": {"names": NAMES},
        "data": {"name": "folders", "root": str(root)},
        "input": {"crop": [16, 16], "crops_per_image": 2},
        "augmentation": {"horizontal_flip": 0.5},
        "training": {"epochs": 6, "batch_size": 4},
    }
    return validate(tree | sections, "test")


def natural(samples: list[Sample], root: Path) -> ClassCounts:
    labels = LabelSet.from_names(NAMES, ignore_index=255)
    return count_masks([sample.mask for sample in samples], labels, IndexEncoding(), root=root)


CENTRED = {"crops": {"share": 0.5, "classes": {"boat": 2, "road": 1}, "jitter": 0.25}}


def test_without_the_section_there_is_no_sampling(samples: list[Sample], tmp_path: Path) -> None:
    assert sampling(config(tmp_path), samples) is None


def test_every_part_gets_its_settings(samples: list[Sample], tmp_path: Path) -> None:
    images = {"images": {"name": "repeat_factor", "threshold": 0.5}}
    built = sampling(config(tmp_path, sampler=images | CENTRED), samples)
    assert built is not None
    assert built.sampler.images == RepeatFactor(0.5)
    assert built.sampler.crops == CropTargets(0.5, (0.0, 1.0, 2.0, 0.0), 0.25)
    assert built.sampler.index.located.tolist() == [1, 2]
    presence = {"images": {"name": "class_presence", "weights": {"boat": 3}}}
    other = sampling(config(tmp_path, sampler=presence), samples)
    assert other is not None and other.sampler.images == ClassPresence((1.0, 1.0, 3.0, 1.0))


def test_class_weights_come_from_what_is_drawn(samples: list[Sample], tmp_path: Path) -> None:
    """Images by class presence: boat's image in every third draw instead of every eighth. Sampling and weights
    together give each class what weights alone give it: inverse frequency makes every class count alike."""
    section = {"images": {"name": "class_presence"}}
    built_config = config(tmp_path, sampler=section, class_weights={"scheme": "inverse_frequency"})
    built = sampling(built_config, samples)
    counts = natural(samples, tmp_path)
    assert built is not None and built.effective.exact and built.effective.num_draws == 6 * 16
    drawn = built.counts(counts)
    assert drawn.num_images == counts.num_images and drawn.fingerprint == counts.fingerprint
    assert drawn.frequencies[2] > 2.5 * counts.frequencies[2]
    np.testing.assert_allclose(drawn.frequencies, built.effective.frequencies, atol=1e-3)  # of whole pixels
    weights = built_config.class_weights.build(drawn)
    totals = weights[:3] * built.effective.frequencies[:3]  # what each class adds to the loss of the stream
    np.testing.assert_allclose(totals / totals.sum(), 1 / 3, atol=0.01)
    twice = built_config.class_weights.build(counts)[:3] * built.effective.frequencies[:3]
    assert twice[2] > 2 * twice[0]  # the natural counts would correct for the boat again


def test_counts_hold_together(samples: list[Sample], tmp_path: Path) -> None:
    for section in (CENTRED, {"images": {"name": "repeat_factor", "threshold": 1.0}}):
        built = sampling(config(tmp_path, sampler=section), samples)
        assert built is not None
        counts = built.counts(natural(samples, tmp_path))
        counts.save(tmp_path / "drawn.json")
        assert ClassCounts.load(tmp_path / "drawn.json") == counts  # its own checks find no contradiction
        assert counts.pixel_counts[3] == counts.image_counts[3] == 0


def test_the_table_and_the_json(samples: list[Sample], tmp_path: Path) -> None:
    counts = natural(samples, tmp_path)
    built = sampling(config(tmp_path, sampler=CENTRED), samples)
    assert built is not None
    stored = json.loads(json.dumps(built.to_json(counts)))
    assert stored["basis"] == "the first draws of the run" and stored["draws"] == 2048
    assert list(stored["classes"]) == NAMES
    assert stored["classes"]["boat"]["natural"] == counts.frequencies[2]
    assert stored["classes"]["boat"]["effective"] > 5 * counts.frequencies[2]
    share, error = (100 * stored["classes"]["boat"][key] for key in ("effective", "standard_error"))
    assert built.effective_texts()[2] == f"{share:.3f}% ± {error:.2g}"
    assert built.told() == "drawn: the share in the run's first 2,048 draws and its standard error"
    exact = sampling(config(tmp_path, sampler={"images": {"name": "class_presence"}}), samples)
    assert exact is not None
    assert exact.told() == "drawn: the share in what the sampler draws, over all 96 draws of the run"
    assert exact.effective_texts()[3] == "0.000%" and exact.to_json(counts)["basis"] == "every draw of the run"


def test_a_stored_index_is_read_and_another_is_not(samples: list[Sample], tmp_path: Path) -> None:
    built_config, told = config(tmp_path, sampler=CENTRED), []

    def progress(name: str):
        told.append(name)
        return lambda done, total: None

    file = tmp_path / "index.npz"
    built = sampling(built_config, samples, file, progress)
    assert built is not None and told == ["locating classes", "drawing crops to count"]
    built.sampler.index.save(file, natural(samples, tmp_path).fingerprint)
    again = sampling(built_config, samples, file, progress)
    assert again is not None and told[2:] == ["drawing crops to count"]
    np.testing.assert_array_equal(again.effective.pixels, built.effective.pixels)
    sampling(built_config, samples[:6], file, progress)
    assert told[3:] == ["locating classes", "drawing crops to count"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"crops": {"share": 0.5, "classes": {"bird": 1, "boat": 1}}},
            "sampler.crops.classes: no pixel of bird in 8 training masks; allowed: classes that have some",
        ),
    ],
)
def test_classes_that_cannot_be_sampled(samples: list[Sample], tmp_path: Path, section: dict, message: str) -> None:
    with pytest.raises(DataError) as error:
        sampling(config(tmp_path, sampler=section), samples)
    assert str(error.value) == message


def test_a_threshold_that_changes_nothing(samples: list[Sample], tmp_path: Path) -> None:
    section = {"images": {"name": "repeat_factor", "threshold": 0.1}}
    with pytest.raises(ConfigError, match=r"sampler\.images\.threshold: got 0\.1, which repeats no image: the rarest"):
        sampling(config(tmp_path, sampler=section), samples)


def test_correcting_twice_is_warned_of(tmp_path: Path) -> None:
    manual = {"class_weights": {"scheme": "manual", "manual": dict.fromkeys(NAMES, 1.0)}}
    assert sampling_warnings(config(tmp_path, **manual)) == []
    assert sampling_warnings(config(tmp_path, sampler=CENTRED, class_weights={"scheme": "inverse_sqrt"})) == []
    (warning,) = sampling_warnings(config(tmp_path, sampler=CENTRED, **manual))
    assert warning.startswith("class_weights.manual is used as it is, although the sampler shows the rare classes more")
    assert "corrected twice" in warning


def test_training_data_wants_the_sampler(samples: list[Sample], tmp_path: Path) -> None:
    built_config = config(tmp_path, sampler=CENTRED)
    with pytest.raises(ValueError, match="sampler: got None, allowed with a sampler in the configuration: that of"):
        built_config.training_data(samples)
    built = sampling(built_config, samples)
    assert built is not None
    batches = list(built_config.training_data(samples, 4, built.sampler).as_numpy_iterator())
    assert len(batches) == 2 * 4 and batches[0][0].shape == (4, 16, 16, 3)
    shown = np.concatenate([labels for _, labels in batches])
    assert (shown == 2).any(axis=(1, 2)).mean() > 0.3
