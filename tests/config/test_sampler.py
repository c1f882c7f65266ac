"""The `sampler` and `input.cache` sections: what they take, and every problem in its words."""

from __future__ import annotations

from typing import Any

import pytest

from seg.config import dump_config, load_config, validate
from seg.config.sampler import ClassCentredCrops, ClassPresenceImages, RepeatFactorImages
from seg.config.tree import Config
from seg.errors import ConfigError

NAMES = ["ground", "road", "boat"]


def config(**sections: Any) -> Config:
    tree: dict[str, Any] = {
        "name": "test",
        "labels": {"names": NAMES},
        "data": {"name": "folders", "root": "somewhere"},
        "input": {"crop": [32, 32]},
        "training": {"epochs": 10, "batch_size": 2},
    }
    return validate(tree | sections, "test")


def test_without_the_section_nothing_is_sampled() -> None:
    assert config().sampler is None and config().input.cache is None


def test_every_part(tmp_path) -> None:
    section = {
        "images": {"name": "repeat_factor", "threshold": 0.3},
        "crops": {"share": 0.5, "classes": {"boat": 2, "road": 1}, "jitter": 0.1},
    }
    built = config(sampler=section, input={"crop": [32, 32], "cache": {"name": "disk", "limit_gib": 2, "folder": "x"}})
    assert built.sampler is not None and isinstance(built.sampler.images, RepeatFactorImages)
    assert built.sampler.crops == ClassCentredCrops(share=0.5, classes={"boat": 2.0, "road": 1.0}, jitter=0.1)
    (tmp_path / "again.yaml").write_text(dump_config(built))
    assert load_config(tmp_path / "again.yaml") == built
    presence = config(sampler={"images": {"name": "class_presence", "weights": {"boat": 3}}}).sampler
    assert presence is not None and presence.images == ClassPresenceImages(name="class_presence", weights={"boat": 3.0})


BOAT = {"boat": 1}


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"sampler": {}}, "sampler.images: missing, as is crops: the section has no effect"),
        (
            {"sampler": {"images": {"name": "repeat_factor", "threshold": 0}}},
            "sampler.images.threshold: got 0, allowed: above 0",
        ),
        (
            {"sampler": {"images": {"name": "repeat_factors", "threshold": 1}}},
            "sampler.images.name: got 'repeat_factors', allowed: repeat_factor, class_presence "
            "(did you mean 'repeat_factor'?)",
        ),
        (
            {"sampler": {"images": {"name": "class_presence", "weights": {"baot": 1}}}},
            "sampler.images.weights: got 'baot': unknown class (did you mean 'boat'?)",
        ),
        (
            {"sampler": {"crops": {"share": 0.5, "classes": {}}}},
            "sampler.crops.classes: got none, allowed: a weight",
        ),
        ({"sampler": {"crops": {"share": 0.5, "classes": {"boat": 0}}}}, "sampler.crops.classes.boat: got 0, allowed"),
        ({"sampler": {"crops": {"share": 1.5, "classes": BOAT}}}, "sampler.crops.share: got 1.5, allowed: at most 1"),
        (
            {"sampler": {"crops": {"share": 0.5, "classes": {"bird": 1}}}},
            "sampler.crops.classes: got 'bird': unknown",
        ),
        (
            {"sampler": {"crops": {"share": 0.5, "classes": BOAT}}, "input": {}},
            "sampler.crops: has no effect without input.crop; set input.crop, or remove sampler.crops",
        ),
        (
            {
                "sampler": {
                    "images": {"name": "repeat_factor", "threshold": 0.5},
                    "crops": {"share": 1, "classes": BOAT},
                }
            },
            "sampler.images: has no effect: every crop is class-centred (sampler.crops.share is 1)",
        ),
        ({"input": {"cache": {"name": "ram"}}}, "input.cache.name: got 'ram', allowed: memory, disk"),
        ({"input": {"cache": {"name": "memory", "folder": "x"}}}, "input.cache.folder: unknown key"),
        ({"input": {"cache": {"name": "memory", "limit_gib": 0}}}, "input.cache.limit_gib: got 0, allowed: above 0"),
    ],
)
def test_problems(sections: dict, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(**sections)
    assert problem in str(error.value), str(error.value)
    assert "1 problem\n" in str(error.value)
