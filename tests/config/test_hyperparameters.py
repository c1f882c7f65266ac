from pathlib import Path

from seg.config import load_config

ROOT = Path(__file__).resolve().parents[2]


def test_the_quickstart():
    values = load_config(ROOT / "configs" / "quickstart.yaml").hyperparameters()
    assert values["loss"] == "1 cross_entropy + 1 dice (unweighted)"
    assert values["class_weights"] == "inverse_sqrt"
    assert values["learning_rate"] == 2e-3
    assert (values["crop"], values["resize"]) == ("128 x 128", "")
    assert (values["pixel_weights"], values["sampler"]) == ("", "")


def test_what_is_set_is_told():
    overrides = [
        "class_weights={scheme: inverse_sqrt, cap: 5, online: 0.99}",
        "pixel_weights={name: border, classes: [boat]}",
        "sampler={images: {name: repeat_factor, threshold: 0.3}, crops: {share: 0.5, classes: {boat: 1}}}",
    ]
    values = load_config(ROOT / "configs" / "quickstart.yaml", overrides).hyperparameters()
    assert values["class_weights"] == "inverse_sqrt, cap 5, online 0.99"
    assert values["pixel_weights"] == "border"
    assert values["sampler"] == "repeat_factor, crops 0.5"


def test_every_value_is_of_a_kind_that_tensorboard_takes():
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        for key, value in load_config(path).hyperparameters().items():
            assert isinstance(value, bool | int | float | str), key
