import pytest

from seg.config import validate
from seg.config.changes import changes
from seg.errors import ConfigError


def config(**sections):
    tree = {
        "name": "test",
        "labels": {"names": ["sky", "road"]},
        "data": {"name": "folders", "root": "somewhere"},
        "training": {"epochs": 10, "batch_size": 2},
    }
    return validate(tree | sections, "test.yaml")


def test_nothing_changed_is_nothing_to_tell():
    assert changes(config(), config()) == []


def test_what_changes_no_batch_and_no_model_may_change():
    after = config(
        data={"name": "folders", "root": "elsewhere"},
        training={"epochs": 20, "batch_size": 2, "workers": 1, "on_nonfinite": "back"},
        optimizer={"name": "adamw", "learning_rate": 1e-4},
        checkpoints={"steps": 100},
    )
    assert changes(config(), after) == [
        "checkpoints.steps: 100, was None",
        "data.root: 'elsewhere', was 'somewhere'",
        "optimizer.learning_rate: 0.0001, was 0.001",
        "training.epochs: 20, was 10",
        "training.on_nonfinite: 'back', was 'stop'",
        "training.workers: 1, was None",
    ]


@pytest.mark.parametrize(
    ("after", "line"),
    [
        ({"seed": 1}, "  seed: got 1, allowed: 0, as in the run"),
        ({"training": {"epochs": 10, "batch_size": 4}}, "  training.batch_size: got 4, allowed: 2, as in the run"),
        ({"tensorboard": {"rare_share": 0.5}}, "  tensorboard.rare_share: got 0.5, allowed: 0.01, as in the run"),
        (
            {"labels": {"names": ["sky", "sea"]}},
            "  labels.names: got ['sky', 'sea'], allowed: ['sky', 'road'], as in",
        ),
    ],
)
def test_what_would_make_two_halves_needs_a_new_run(after, line):
    with pytest.raises(ConfigError) as raised:
        changes(config(), config(**after))
    message = str(raised.value)
    assert message.startswith("--resume: 1 change needs a new run; allowed to change: data.root, input.cache, ")
    assert line in message


def test_epochs_stay_where_the_class_weights_follow_from_them():
    sampler = {"images": {"name": "class_presence"}}
    longer = {"epochs": 20, "batch_size": 2}
    with pytest.raises(ConfigError, match="training.epochs: the class weights follow from what sampler.images draws"):
        changes(config(sampler=sampler), config(sampler=sampler, training=longer))
