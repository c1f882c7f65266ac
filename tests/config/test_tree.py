"""From sections to objects: every variant of every union, with the values that the config holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from data_tools import make_scenes
from seg.balance import ClassCounts, class_weights
from seg.config import load_config, validate
from seg.config.tree import Config
from seg.data.batches.pixel_cache import PixelCache
from seg.data.masks.reading import BinaryEncoding, ColourEncoding, IndexEncoding, PaletteEncoding
from seg.data.views.border_map import BorderWeights
from seg.errors import ConfigError, DataError
from seg.losses.cross_entropy import CrossEntropy
from seg.losses.dice import Dice
from seg.losses.focal import Focal
from seg.losses.generalised_dice import GeneralisedDice
from seg.losses.lovasz import Lovasz
from seg.losses.top_k import TopKCrossEntropy
from seg.losses.tversky import Tversky
from seg.models.blocks import BilinearUpsampling, FusedBatchNormalization

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["sky", "road"]


def config(**sections) -> Config:
    tree = {
        "name": "test",
        "labels": {"names": NAMES},
        "data": {"name": "folders", "root": "somewhere"},
        "training": {"epochs": 10, "batch_size": 2},
    }
    return validate(tree | sections, "test")


def counts() -> ClassCounts:
    return ClassCounts(
        names=tuple(NAMES),
        ignore_index=255,
        encoding="index",
        pixel_counts=np.array([900, 100]),
        image_counts=np.array([10, 5]),
        image_pixels=np.array([1000, 500]),
        void_pixels=0,
        num_images=10,
        fingerprint="0" * 64,
    )


# --- labels and data --------------------------------------------------------------------------------------------------
def test_the_label_set():
    labels = {"names": NAMES, "colours": [[1, 2, 3], [4, 5, 6]], "ignore_index": 9}
    assert config(labels=labels).labels.label_set().colours == ((1, 2, 3), (4, 5, 6))
    assert config(labels=labels).labels.label_set().ignore_index == 9


@pytest.mark.parametrize(
    ("section", "encoding"),
    [
        ({"name": "index"}, IndexEncoding()),
        ({"name": "palette"}, PaletteEncoding()),
        ({"name": "colour", "void_colours": [[9, 9, 9]]}, ColourEncoding(((9, 9, 9),))),
        ({"name": "binary", "threshold": 3}, BinaryEncoding(3)),
    ],
)
def test_mask_encodings(section: dict, encoding: object):
    labels = {"names": NAMES, "colours": [[1, 2, 3], [4, 5, 6]], "encoding": section}
    assert config(labels=labels).labels.mask_encoding() == encoding


def write_pairs(root: Path, images: str, masks: str, stems: str, mask_suffix: str = "", size: int = 8) -> None:
    for folder in (root / images, root / masks):
        folder.mkdir(parents=True)
    for stem in stems:
        cv2.imwrite(str(root / images / f"{stem}.png"), np.zeros((8, 8, 3), np.uint8))
        cv2.imwrite(str(root / masks / f"{stem}{mask_suffix}.png"), np.zeros((size, 8), np.uint8))


def stems(splits: dict) -> dict[str, str]:
    return {split: "".join(sample.image.stem for sample in samples) for split, samples in splits.items()}


def test_samples_from_folders(tmp_path: Path):
    write_pairs(tmp_path, "train/x", "train/y", "abc", "_mask")
    write_pairs(tmp_path, "val/x", "val/y", "d", "_mask")
    data = {"name": "folders", "root": str(tmp_path), "images": "{split}/x", "masks": "{split}/y"}
    splits = config(data=data | {"mask_suffix": "_mask"}).samples()
    assert stems(splits) == {"train": "abc", "val": "d"}
    assert splits["val"][0].mask == tmp_path / "val/y/d_mask.png"


def test_samples_from_a_table(tmp_path: Path):
    write_pairs(tmp_path, "x", "y", "ab")
    (tmp_path / "list.csv").write_text("image,mask,split\nx/a.png,y/a.png,val\nx/b.png,y/b.png,train\n")
    splits = config(data={"name": "table", "root": str(tmp_path), "table": "list.csv"}).samples()
    assert stems(splits) == {"train": "b", "val": "a"}


def test_samples_from_fractions(tmp_path: Path):
    write_pairs(tmp_path, "x", "y", "abcdefgh")
    data = {"name": "fractions", "root": str(tmp_path), "images": "x", "masks": "y", "block_size": 2, "seed": 3}
    found = stems(config(data=data | {"train": 0.5, "val": 0.25, "test": 0.25}).samples())
    assert {split: len(names) for split, names in found.items()} == {"train": 4, "val": 2, "test": 2}
    assert found["val"] in ("ab", "cd", "ef", "gh")  # blocks stay together
    without_test = stems(config(data=data | {"train": 0.5, "val": 0.5, "test": 0}).samples())
    assert sorted(without_test) == ["train", "val"]


def test_samples_from_patterns(tmp_path: Path):
    write_pairs(tmp_path, "x", "y", "abcdefgh", "_gt")
    one = {"image": "x/{id}.png", "mask": "y/{id}_gt.png", "valid": "y/{id}_gt.png"}
    data = {"name": "patterns", "root": str(tmp_path), "train": one, "val_share": 0.25, "block_size": 2}
    found = config(data=data).samples()
    assert stems(found)["val"] in ("ab", "cd", "ef", "gh") and len(found["train"]) == 6
    assert found["val"][0].mask.valid == found["val"][0].mask.mask
    assert stems(config(data=data | {"train": [one]}).samples()) == stems(found)


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        (
            {"train": {"image": "a/{id}.png", "msk": "b"}, "val_share": 0.5},
            [
                "data.train.mask: missing, and there is no default",
                "data.train.msk: unknown key (did you mean 'mask'?); allowed: image, mask, valid, annotated",
            ],
        ),
        (
            {"train": {"image": "a/{id}.png", "mask": "b/{nr}.png"}, "seed": 3, "valid_values": [1]},
            [
                "data.val: missing, allowed: val, the patterns, or val_share, a share of train",
                "data.seed: has no effect without val_share",
                "data.valid_values: has no effect without valid in a pattern",
                "data.train.mask: got the field {nr}, allowed: those of image: id",
            ],
        ),
        (
            {"train": [{"image": "a.png", "mask": "b/{id}.png"}], "val_share": 0.5},
            ["data.train.0.image: got 'a.png', allowed: a path with a {field} in it, as in images/{id}.png"],
        ),
        ({"train": 3, "val_share": 0.5}, ["data.train: got 3, allowed: a mapping of keys"]),
        ({"train": [], "val_share": 0.5}, ["data.train: got [], allowed: at least one item"]),
    ],
)
def test_what_is_wrong_with_patterns(settings: dict, problems: list[str]):
    with pytest.raises(ConfigError) as error:
        config(data={"name": "patterns", "root": "x"} | settings)
    assert [line[2:] for line in str(error.value).splitlines()[1:]] == problems


def test_a_root_that_is_no_folder():
    with pytest.raises(DataError) as error:
        config().samples()
    message = "data.root: got 'somewhere', which is no folder; allowed: the folder that holds the data"
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["quickstart", "multi_label"])
def test_the_scenes_of_a_shipped_configuration_are_drawn_by_the_command_that_it_is_told(name, tmp_path, monkeypatch):
    shipped = load_config(ROOT / "configs" / f"{name}.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        shipped.samples()
    told, _, command = str(error.value).partition("; to draw the generated scenes: python -m data_tools.make_scenes ")
    root = shipped.data.root
    assert told == f"data.root: got '{root}', which is no folder; allowed: the folder that holds the data"
    assert make_scenes.main([*command.split(), "--size", "64", "--count", "5"]) == 0
    assert {split: len(samples) for split, samples in shipped.samples().items()} == {
        "train": 3,
        "val": 1,
        "test": 1,
    }


def test_a_mask_of_another_size_than_its_image(tmp_path: Path):
    write_pairs(tmp_path, "images/train", "masks/train", "a", size=7)
    write_pairs(tmp_path, "images/val", "masks/val", "b")
    with pytest.raises(DataError, match="a.png"):
        config(data={"name": "folders", "root": str(tmp_path)}).samples()


def test_preprocessing():
    section = {"bands": 3, "resize": [32, 64], "max_value": 4095, "mean": 0.25, "std": 0.5}
    built = config(input=section).input.preprocessing()
    assert (built.bands, built.resize, built.max_value) == (3, (32, 64), 4095.0)
    assert (built.mean, built.std) == ((0.25,) * 3, (0.5,) * 3)


def test_augmentation_takes_every_setting():
    section = {"horizontal_flip": 0.1, "vertical_flip": 0.2, "rotate90": 0.3, "scale": [0.5, 2], "rotate": 4,
               "brightness": 0.5, "contrast": 0.6, "colour_jitter": 0.7, "elastic": 8}  # fmt: skip
    labels = {"names": NAMES, "ignore_index": 9}
    built = config(augmentation=section, labels=labels, input={"crop": [32, 64]}).build_augmentation()
    assert {key: getattr(built, key) for key in section} == section | {"scale": (0.5, 2.0)}
    assert (built.crop, built.ignore_index, built.bands) == ((32, 64), 9, 3)


def test_training_data_repeats_for_the_epochs_and_evaluation_data_does_not(tmp_path: Path):
    write_pairs(tmp_path, "images/train", "masks/train", "abcd")
    write_pairs(tmp_path, "images/val", "masks/val", "ef")
    section = {"data": {"name": "folders", "root": str(tmp_path)}, "training": {"epochs": 3, "batch_size": 2}}
    built = config(**section, input={"crop": [8, 8], "crops_per_image": 2})
    splits = built.samples()
    assert len(list(built.training_data(splits["train"]))) == 3 * 4 * 2 / 2
    assert len(list(built.training_data(splits["train"], first_epoch=2))) == 4 * 2 / 2
    batches = built.evaluation_data(splits["val"], built.input.preprocessing())
    assert sum(len(images) for images, _ in batches) == 2


def test_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    def built(section: dict | None) -> PixelCache | None:
        return config(input={"crop": [16, 16], "cache": section}).build_cache()

    assert built(None) is None
    memory = built({"name": "memory", "limit_gib": 0.5})
    assert memory is not None and (memory.folder, memory.limit) == (None, 2**29)
    disk, own = built({"name": "disk"}), built({"name": "disk", "folder": str(tmp_path / "own")})
    assert disk is not None and (disk.folder, disk.limit) == (tmp_path / "xdg/seg/decoded", 16 * 2**30)
    assert own is not None and own.folder == tmp_path / "own" and own.reading == memory.reading


# --- weights and loss -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("section", "arguments"),
    [
        ({}, {"scheme": "uniform"}),
        ({"scheme": "inverse_sqrt", "normalize": "sum_one", "cap": 2}, {}),
        ({"scheme": "effective_number", "beta": 0.9, "unit": "images"}, {}),
        ({"scheme": "effective_number", "beta": "auto", "unit": "pixels"}, {}),
        ({"scheme": "manual", "manual": {"sky": 1, "road": 3}, "normalize": "none"}, {}),
    ],
    ids=str,
)
def test_weights(section: dict, arguments: dict):
    expected = class_weights(counts(), **section | arguments)
    np.testing.assert_array_equal(config(class_weights=section).class_weights.build(counts()), expected)


def test_the_schemes_of_the_config_are_those_of_the_weights():
    for scheme in ("inverse_frequency", "inverse_square", "median_frequency", "log_frequency"):
        assert config(class_weights={"scheme": scheme}).class_weights.build(counts()).shape == (2,)


def online(built: Config):
    return built.class_weights.build_online(built.labels.label_set())


def test_online_weights():
    assert online(config(class_weights={"scheme": "inverse_sqrt"})) is None
    section = {
        "scheme": "effective_number",
        "beta": 0.9,
        "unit": "pixels",
        "normalize": "none",
        "cap": 2,
        "online": 0.5,
    }
    found = online(config(class_weights=section, labels={"names": NAMES, "ignore_index": 9}))
    expected = {"num_classes": 2, "ignore_index": 9, "momentum": 0.5, **section}
    del expected["online"]
    assert {key: value for key, value in found.get_config().items() if key != "name"} == expected
    schemes = ("inverse_frequency", "inverse_square", "inverse_sqrt", "median_frequency", "log_frequency")
    for scheme in schemes:
        found = online(config(class_weights={"scheme": scheme, "online": 0.9}))
        assert (found.scheme, found.normalize, found.cap) == (scheme, "mean_one", None)


def test_pixel_weights():
    assert config().build_pixel_weights() is None
    section = {"name": "border", "classes": ["road"], "strength": 4, "sigma": 2}
    assert config(pixel_weights=section).build_pixel_weights() == BorderWeights((1,), strength=4.0, sigma=2.0)


def test_loss_terms_get_their_settings_and_the_weights_only_where_wanted():
    section = [
        {"name": "cross_entropy", "coefficient": 0.5, "label_smoothing": 0.25, "normalize": "all", "weighted": False},
        {"name": "focal", "gamma": 3, "normalize": "weights"},
        {"name": "dice", "coefficient": 2, "smooth": 0, "reduction": "image", "absent": "count"},
    ]
    labels = {"names": NAMES, "ignore_index": 9}
    built = config(loss=section, labels=labels, class_weights={"scheme": "inverse_sqrt"}).build_loss(
        np.array([1.0, 3.0])
    )
    assert [coefficient for coefficient, _ in built.terms] == [0.5, 1.0, 2.0]
    cross_entropy, focal, dice = (term.get_config() for _, term in built.terms)
    assert [type(term) for _, term in built.terms] == [CrossEntropy, Focal, Dice]
    settings = {key: cross_entropy[key] for key in ("label_smoothing", "normalize", "class_weights", "ignore_index")}
    assert settings == {"label_smoothing": 0.25, "normalize": "all", "class_weights": None, "ignore_index": 9}
    settings = {key: focal[key] for key in ("gamma", "normalize", "class_weights", "ignore_index")}
    assert settings == {"gamma": 3.0, "normalize": "weights", "class_weights": [1.0, 3.0], "ignore_index": 9}
    settings = {key: dice[key] for key in ("smooth", "reduction", "absent", "class_weights", "ignore_index")}
    expected = {"smooth": 0.0, "reduction": "image", "absent": "count", "class_weights": [1.0, 3.0], "ignore_index": 9}
    assert settings == expected


@pytest.mark.parametrize(
    ("section", "expected", "settings"),
    [
        ({"name": "top_k_cross_entropy", "fraction": 0.5}, TopKCrossEntropy, {"fraction": 0.5}),
        (
            {"name": "jaccard", "smooth": 3, "reduction": "image", "absent": "count"},
            Tversky,
            {"alpha": 1.0, "beta": 1.0, "gamma": 1.0, "smooth": 3.0, "reduction": "image", "absent": "count"},
        ),
        (
            {"name": "tversky", "alpha": 0.1, "beta": 0.9, "gamma": 1.5, "smooth": 2, "absent": "count"},
            Tversky,
            {"alpha": 0.1, "beta": 0.9, "gamma": 1.5, "smooth": 2.0, "reduction": "batch", "absent": "count"},
        ),
        (
            {"name": "generalised_dice", "reduction": "image", "absent": "count"},
            GeneralisedDice,
            {"reduction": "image", "absent": "count"},
        ),
        (
            {"name": "lovasz", "reduction": "image", "absent": "count"},
            Lovasz,
            {"reduction": "image", "absent": "count"},
        ),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) and "name" in value else None,
)
@pytest.mark.parametrize("weighted", [True, False])
def test_further_terms(section: dict, expected: type, settings: dict, weighted: bool):
    built = config(loss=[section | {"weighted": weighted}], labels={"names": NAMES, "ignore_index": 9}).build_loss(
        np.array([1.0, 3.0])
    )
    (_, term), name = built.terms[0], section["name"]
    given = {"class_weights": [1.0, 3.0] if weighted else None, "ignore_index": 9, "name": name}
    assert type(term) is expected and term.get_config() == settings | given


def test_the_loss_by_hand():
    # One pixel of class 1, equal logits: p = 1/2. Cross-entropy with weight 3: 3 ln 2, times the coefficient 2.
    section = [{"name": "cross_entropy", "coefficient": 2}]
    built = config(loss=section, class_weights={"scheme": "inverse_sqrt"}).build_loss(np.array([1.0, 3.0]))
    value = built(np.ones((1, 1, 1), np.uint8), np.zeros((1, 1, 1, 2), np.float32))
    np.testing.assert_allclose(value, 6 * np.log(2), rtol=1e-6)


# --- optimizer --------------------------------------------------------------------------------------------------------
def learning_rates(built: keras.optimizers.Optimizer, steps: list[int]) -> list[float]:
    """The learning rate at each step, read as the optimizer reads it."""
    rates = []
    for step in steps:
        built.iterations.assign(step)
        rates.append(float(built.learning_rate))
    return rates


def test_a_constant_schedule():
    built = config(optimizer={"name": "adam", "learning_rate": 0.5}, schedule={"name": "constant"}).build_optimizer(
        steps_per_epoch=7
    )
    assert type(built) is keras.optimizers.Adam
    assert learning_rates(built, [0, 70]) == [0.5, 0.5]


def test_cosine_by_hand():
    # 10 epochs of 4 steps, 2 of warm-up: 0 to 0.5 over 8 steps; then half a cosine over 32 steps from 0.5 to
    # 0.2 * 0.5 = 0.1: half-way (step 24) at their mean 0.3; after a quarter (16) at 0.1 + 0.4 (1 + cos 45) / 2.
    section = {"name": "cosine", "warmup_epochs": 2, "final_fraction": 0.2}
    built = config(optimizer={"name": "adam", "learning_rate": 0.5}, schedule=section).build_optimizer(
        steps_per_epoch=4
    )
    expected = [0, 0.25, 0.5, 0.1 + 0.2 * (1 + np.sqrt(0.5)), 0.3, 0.1, 0.1]
    np.testing.assert_allclose(learning_rates(built, [0, 4, 8, 16, 24, 40, 50]), expected, rtol=1e-5, atol=1e-8)


def test_cosine_without_warm_up_starts_at_the_peak():
    built = config(optimizer={"name": "adam", "learning_rate": 0.5}, schedule={"name": "cosine"}).build_optimizer(
        steps_per_epoch=4
    )
    np.testing.assert_allclose(learning_rates(built, [0, 20, 40]), [0.5, 0.25, 0], rtol=1e-5, atol=1e-8)


def test_adamw_decays_kernels_and_nothing_else():
    section = {"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.01}
    built = config(
        optimizer=section, schedule={"name": "constant"}, model={"name": "unet", "depth": 1, "base_filters": 2}
    )
    model = keras.Model(*built.build_model())
    optimizer = built.build_optimizer(steps_per_epoch=1)
    assert type(optimizer) is keras.optimizers.AdamW
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    # With zero gradients only the decay acts: kernels shrink by learning rate * decay = 0.001.
    optimizer.apply([np.zeros(v.shape, np.float32) for v in model.trainable_variables], model.trainable_variables)
    for variable in model.trainable_variables:
        expected = 0.999 if variable.name == "kernel" else 1.0
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6, err_msg=variable.path)


# --- network ----------------------------------------------------------------------------------------------------------
def test_the_network_has_the_configured_shape():
    section = {"name": "unet", "depth": 2, "base_filters": 3, "norm": "group", "dropout": 0.5, "upsampling": "bilinear"}
    images, logits = config(model=section, input={"bands": 1}).build_model()
    assert images.shape == (None, None, None, 1)
    assert logits.shape == (None, None, None, 2)
    layers = keras.Model(images, logits).layers
    assert max(layer.filters for layer in layers if isinstance(layer, keras.layers.Conv2D)) == 3 * 2**2
    assert sum(isinstance(layer, BilinearUpsampling) for layer in layers) == 2
    assert {layer.rate for layer in layers if isinstance(layer, keras.layers.SpatialDropout2D)} == {0.5}
    assert not any(isinstance(layer, FusedBatchNormalization) for layer in layers)


# --- imports ----------------------------------------------------------------------------------------------------------
def test_labels_samples_and_weights_need_no_tensorflow():
    code = "import sys, seg.train\nassert not {'tensorflow', 'keras', 'albumentations'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- encoders ---------------------------------------------------------------------------------------------------------
ENCODER = {"name": "efficientnet_lite0", "weights": "none"}


def test_a_u_net_on_an_encoder():
    own = config(model={"name": "unet", "encoder": ENCODER, "base_filters": 2, "norm": "group"})
    model = keras.Model(*own.build_model())
    assert model.get_layer("encoder_conv_stem").filters == 32
    assert model.get_layer("up0_2_conv").filters == 2 and model.get_layer("logits").filters == 2
    assert validate(own.model_dump(mode="json"), "test") == own  # as a run's folder keeps it
    with pytest.raises(ConfigError, match="model.depth: got 3, which has no effect with an encoder: it has five halvi"):
        config(model={"name": "unet", "encoder": ENCODER, "depth": 3})
    missing = config(model={"name": "unet", "encoder": ENCODER | {"weights": "none.pth"}})
    with pytest.raises(DataError, match=r"none\.pth: cannot be read"):
        missing.build_model()
