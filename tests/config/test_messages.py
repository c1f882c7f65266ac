"""Every problem that a configuration can have, by the text that the user reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg.config import load_config
from seg.config.training import Output, Training
from seg.errors import ConfigError

BASE = """\
name: test
labels: {names: [sky, road]}
data: {name: folders, root: somewhere}
training: {epochs: 3, batch_size: 2}
"""
SECTIONS = (
    "name, seed, labels, data, input, augmentation, class_weights, sampler, pixel_weights, model, loss, optimizer, "
    "schedule, training, checkpoints, output, tensorboard"
)
SCHEMES = (
    "uniform, inverse_frequency, inverse_square, inverse_sqrt, median_frequency, log_frequency, effective_number, "
    "manual"
)
TRAINING = ", ".join(Training.model_fields)
LESS = "allowed: less than training.epochs (3)"
LOSSES = (
    "cross_entropy, binary_cross_entropy, focal, top_k_cross_entropy, dice, jaccard, tversky, generalised_dice, lovasz"
)


def problems(tmp_path: Path, *overrides: str, text: str = BASE) -> list[str]:
    """The lines below the heading of the error that a configuration gives."""
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    heading, *lines = str(error.value).split("\n")
    count = f"{len(lines)} problem{'s' * (len(lines) != 1)}"
    assert heading == " ".join([str(path), *overrides]) + f": {count}"
    assert all(line.startswith("  ") for line in lines)
    return [line[2:] for line in lines]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        # unknown keys, with the nearest
        ("trainig.epochs=3", f"trainig: unknown key (did you mean 'training'?); allowed: {SECTIONS}"),
        ("zzz=3", f"zzz: unknown key; allowed: {SECTIONS}"),
        (
            "training.epoch=3",
            f"training.epoch: unknown key (did you mean 'epochs'?); allowed: {TRAINING}",
        ),
        (
            "model.filters=3",
            "model.filters: unknown key (did you mean 'base_filters'?); "
            "allowed: name, depth, base_filters, norm, dropout, upsampling, one_logit, encoder",
        ),  # fmt: skip
        # of a union's variant: its keys, not those of the others
        (
            "loss=[{name: dice, gamma: 2}]",
            "loss.0.gamma: unknown key; allowed: coefficient, weighted, reduction, absent, name, smooth",
        ),
        (
            "optimizer={name: adam, weight_decay: 1e-4}",
            "optimizer.weight_decay: unknown key; allowed: learning_rate, clip, name, beta_1, beta_2, epsilon",
        ),  # fmt: skip
        (
            "schedule={name: constant, power: 1}",
            "schedule.power: unknown key; allowed: warmup_epochs, warmup_steps, name",
        ),
        (
            "labels.encoding={name: binary, treshold: 3}",
            "labels.encoding.treshold: unknown key (did you mean 'threshold'?); allowed: name, threshold",
        ),  # fmt: skip
        # keys that are also names inside pydantic's locations
        (
            "data.folders=3",
            "data.folders: unknown key; allowed: name, root, images, masks, mask_suffix, without_mask, slices",
        ),
        ("training.int=3", f"training.int: unknown key; allowed: {TRAINING}"),
        # wrong types
        ("training.epochs=2.5", "training.epochs: got 2.5, allowed: a whole number"),
        ("training.epochs=abc", "training.epochs: got 'abc', allowed: a whole number"),
        ("training.epochs=true", "training.epochs: got true, allowed: a whole number"),
        ("training.epochs=", "training.epochs: got nothing, allowed: a whole number"),
        ("training.epochs='3'", "training.epochs: got '3', allowed: a whole number"),
        ("input.mean=dark", "input.mean: got 'dark', allowed: a number"),
        ("input.mean=.nan", "input.mean: got NaN, allowed: a finite number"),
        ("input.mean=-.inf", "input.mean: got -Infinity, allowed: a finite number"),
        ("optimizer.learning_rate=1e999", "optimizer.learning_rate: got Infinity, allowed: a finite number"),
        ("data.root=3", "data.root: got 3, allowed: text; write it in quotes"),
        ("data.root=1e-3", "data.root: got 0.001, allowed: text; write it in quotes"),
        ("data.root=", "data.root: got nothing, allowed: text"),
        ("data.root=[a]", 'data.root: got ["a"], allowed: text'),
        ("labels.names=[sky, true]", "labels.names.1: got true, allowed: text; write it in quotes"),
        ("labels.names=[sky, '']", "labels.names.1: got '', allowed: text that is not empty"),
        ("labels.names=sky", "labels.names: got 'sky', allowed: a list"),
        ("loss=[{name: tversky, alpha: -1}]", "loss.0.alpha: got -1, allowed: at least 0"),
        ("loss=[{name: tversky, gamma: 0}]", "loss.0.gamma: got 0, allowed: above 0"),
        ("loss=[{name: jaccard, smooth: -1}]", "loss.0.smooth: got -1, allowed: at least 0"),
        ("loss=[{name: lovasz, reduction: class}]", "loss.0.reduction: got 'class', allowed: batch, image"),
        ("loss=[{name: generalised_dice, absent: 0}]", "loss.0.absent: got 0, allowed: skip, count"),
        ("loss=[{name: top_k_cross_entropy, fraction: 1}]", "loss.0.fraction: got 1, allowed: below 1"),
        ("loss=[{name: top_k_cross_entropy, fraction: 0}]", "loss.0.fraction: got 0, allowed: above 0"),
        (
            "loss=[{name: lovasz, smooth: 1}]",
            "loss.0.smooth: unknown key; allowed: coefficient, weighted, reduction, absent, name",
        ),  # fmt: skip
        ("loss=[{name: dice, weighted: yes}]", "loss.0.weighted: got 'yes', allowed: true or false"),
        ("loss={name: dice}", """loss: got {"name": "dice"}, allowed: a list"""),
        ("training=3", "training: got 3, allowed: a mapping of keys"),
        ("augmentation=", "augmentation: got nothing, allowed: a mapping of keys"),
        (
            "class_weights={scheme: manual, manual: [1, 2]}",
            "class_weights.manual: got [1, 2], allowed: a mapping of keys",
        ),  # fmt: skip
        (f"training.epochs={'x' * 99}", f"training.epochs: got '{'x' * 56}..., allowed: a whole number"),
        # out of range
        ("training.epochs=0", "training.epochs: got 0, allowed: at least 1"),
        ("seed=2147483648", "seed: got 2147483648, allowed: below 2147483648"),
        ("input.std=0", "input.std: got 0, allowed: above 0"),
        ("augmentation.horizontal_flip=1.5", "augmentation.horizontal_flip: got 1.5, allowed: at most 1"),
        ("model.dropout=1", "model.dropout: got 1, allowed: below 1"),
        ("labels.encoding={name: binary, threshold: 255}", "labels.encoding.threshold: got 255, allowed: at most 254"),
        ("labels.colours=[[0, 0, 0], [0, 0, 256]]", "labels.colours.1.2: got 256, allowed: at most 255"),
        (
            "class_weights={scheme: manual, manual: {sky: 1, road: -1}}",
            "class_weights.manual.road: got -1, allowed: at least 0",
        ),  # fmt: skip
        ("name=a b", "name: got 'a b', allowed: letters, digits, '.', '_' and '-', a letter or digit first"),
        ("name=../x", "name: got '../x', allowed: letters, digits, '.', '_' and '-', a letter or digit first"),
        # lists of fixed length
        ("input.resize=[180]", "input.resize: got [180], allowed: 2 items"),
        ("input.resize=[]", "input.resize: got [], allowed: 2 items"),
        ("input.resize=[180, 240, 3]", "input.resize: got [180, 240, 3], allowed: 2 items"),
        ("labels.colours=[[0, 0, 0], [1, 2]]", "labels.colours.1: got [1, 2], allowed: 3 items"),
        ("loss=[]", "loss: got [], allowed: at least one item"),
        # one of several words
        (
            "class_weights.scheme=inverse_sqr",
            f"class_weights.scheme: got 'inverse_sqr', allowed: {SCHEMES} (did you mean 'inverse_sqrt'?)",
        ),
        ("input.bands=0", "input.bands: got 0, allowed: at least 1 or a list"),
        ("input.bands='3'", "input.bands: got '3', allowed: a whole number or a list"),
        ("input.bands=[]", "input.bands: got [], allowed: a whole number or at least one item"),
        # a number or a word
        (
            "class_weights={scheme: effective_number, unit: images, beta: atuo}",
            "class_weights.beta: got 'atuo', allowed: a number or auto (did you mean 'auto'?)",
        ),  # fmt: skip
        (
            "class_weights={scheme: effective_number, unit: images, beta: 1}",
            "class_weights.beta: got 1, allowed: below 1 or auto",
        ),  # fmt: skip
        (
            "class_weights={scheme: effective_number, unit: images, beta: {}}",
            "class_weights.beta: got {}, allowed: a number or auto",
        ),  # fmt: skip
        # missing
        ("training={epochs: 3}", "training.batch_size: missing, and there is no default"),
        ("data={name: table, root: x}", "data.table: missing, and there is no default"),
        ("model={depth: 3}", "model.name: missing, allowed: unet"),
        # the name that says which variant a section is
        ("data={root: x}", "data.name: missing, allowed: folders, table, fractions, patterns"),
        ("loss=[{coefficient: 2}]", f"loss.0.name: missing, allowed: {LOSSES}"),
        (
            "data.name=foldr",
            "data.name: got 'foldr', allowed: folders, table, fractions, patterns (did you mean 'folders'?)",
        ),  # fmt: skip
        ("optimizer={name: 3}", "optimizer.name: got 3, allowed: adam, adamw, nadam, sgd, rmsprop, lion"),
        ("model.name=unt", "model.name: got 'unt', allowed: unet (did you mean 'unet'?)"),
        (
            "labels.encoding=index",
            "labels.encoding: got 'index', allowed: a mapping of keys with name: index, palette, colour, binary, "
            "values, multi_label",
        ),  # fmt: skip
        ("loss=[dice]", f"loss.0: got 'dice', allowed: a mapping of keys with name: {LOSSES}"),
        # what JSON cannot carry
        (f"output={'[' * 250 + ']' * 250}", "output: cannot be read: recursion limit exceeded at line 1 column 202"),
    ],
)
def test_a_value_that_is_wrong_by_itself(tmp_path: Path, override: str, problem: str):
    assert problems(tmp_path, override) == [problem]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("labels.names=[sky]", "labels.names: got 1 classes, allowed: 2 to 255"),
        ("labels.names=[sky, sky]", "labels.names: 'sky' stands twice, allowed: each name once"),
        ("labels.colours=[[1, 2, 3]]", "labels.colours: got 1 colours for 2 names, allowed: one colour a class"),
        ("labels.colours=[[1, 2, 3], [1, 2, 3]]", "labels.colours: [1, 2, 3] stands twice, allowed: each colour once"),
        ("labels.ignore_index=1", "labels.ignore_index: got 1, which is class 'road'; allowed: 2 to 255"),
        (
            "labels.encoding={name: colour}",
            "labels.colours: missing; the colour encoding needs the masks' RGB colour of each class",
        ),  # fmt: skip
        (
            "labels={names: [a, b, c], encoding: {name: binary}}",
            "labels.names: got 3 classes, allowed with the binary encoding: 2",
        ),  # fmt: skip
        (
            "labels={names: [a, b], colours: [[0, 0, 0], [9, 9, 9]], "
            "encoding: {name: colour, void_colours: [[9, 9, 9], [1, 1, 1]]}}",
            "labels.encoding.void_colours: [9, 9, 9] is also a class's colour, allowed: one meaning a colour",
        ),
        (
            "labels={names: [a, b], colours: [[0, 0, 0], [9, 9, 9]], "
            "encoding: {name: colour, void_colours: [[1, 1, 1], [1, 1, 1]]}}",
            "labels.encoding.void_colours: [1, 1, 1] stands twice, allowed: each colour once",
        ),
        ("data.images=images", "data.images: got 'images', allowed: a folder with {split} in it"),
        ("data.masks=masks", "data.masks: got 'masks', allowed: a folder with {split} in it"),
        ("data={name: fractions, root: x, train: 0.5}", "data.train: train + val + test is 0.8, allowed: 1"),
        (
            "input={crop: [64, 32], resize: [32, 64]}",
            "input.crop: got [64, 32], allowed: at most input.resize [32, 64]",
        ),
        ("augmentation.scale=[2, 1]", "augmentation.scale: got [2.0, 1.0], allowed: [smallest, largest]"),
        ("class_weights.scheme=manual", "class_weights.manual: missing; scheme 'manual' needs it"),
        (
            "class_weights={scheme: effective_number, unit: images}",
            "class_weights.beta: missing; scheme 'effective_number' needs it",
        ),  # fmt: skip
        (
            "class_weights={scheme: effective_number, beta: auto}",
            "class_weights.unit: missing; scheme 'effective_number' needs it",
        ),  # fmt: skip
        (
            "class_weights={scheme: manual, manual: {sky: 0, road: 0}}",
            "class_weights.manual: every weight is 0, allowed: at least one above 0",
        ),  # fmt: skip
        # between sections
        (
            "class_weights={scheme: manual, manual: {sky: 1}}",
            "class_weights.manual.road: missing; every class needs its weight",
        ),  # fmt: skip
        (
            "class_weights={scheme: manual, manual: {sky: 1, road: 2, raod: 2}}",
            "class_weights.manual.raod: unknown class (did you mean 'road'?); allowed: sky, road",
        ),  # fmt: skip
        (
            "schedule={name: cosine, warmup_epochs: 3}",
            "schedule.warmup_epochs: got 3, allowed: less than training.epochs (3)",
        ),  # fmt: skip
        ("loss=[{name: tversky, alpha: 0, beta: 0}]", "loss.0.alpha: got 0, allowed with beta 0: above 0"),
        (
            "pixel_weights={name: border, classes: [raod]}",
            "pixel_weights.classes: unknown class (did you mean 'road'?); allowed: sky, road",
        ),  # fmt: skip
        (
            "pixel_weights={name: border, classes: [sky, sky]}",
            "pixel_weights.classes: 'sky' stands twice, allowed: each class once",
        ),  # fmt: skip
        (
            "training={epochs: 3, batch_size: 2, distribution: mirrored, ema: 0.9}",
            "training.ema: works on one device; allowed with distribution 'mirrored': leave it out",
        ),
        (
            "training={epochs: 3, batch_size: 2, distribution: mirrored, accumulation: 2}",
            "training.accumulation: works on one device; allowed with distribution 'mirrored': leave it out",
        ),
        ("loss=[{name: dice}, {name: dice}]", "loss: 'dice' stands twice, allowed: each term once"),
    ],
)
def test_values_that_do_not_go_together(tmp_path: Path, override: str, problem: str):
    assert problems(tmp_path, override) == [problem]


def test_synchronised_statistics_need_devices_that_share_a_batch(tmp_path: Path):
    found = problems(tmp_path, "model.norm=sync_batch")
    assert found == [
        "model.norm: got 'sync_batch' with training.distribution 'none', where it has no effect; allowed: batch"
    ]


def test_one_logit_is_for_two_classes(tmp_path: Path):
    text = BASE.replace("[sky, road]", "[sky, road, car]")
    found = problems(tmp_path, "model.one_logit=true", text=text)
    assert found == ["model.one_logit: got true with 3 classes, allowed: with 2"]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["input.crops_per_image=2"], "input.crops_per_image: got 2, which has no effect without input.crop"),
        (
            ["input={crop: [32, 64], resize: [32, 64]}"],
            "input.crop: got [32, 64], which has no effect: images already have this size by input.resize",
        ),
        (
            ["augmentation.colour_jitter=0.1", "input.bands=1"],
            "augmentation.colour_jitter: is for 3-band 8-bit images (input.bands is 1), allowed: 0; for these images: "
            "horizontal_flip, vertical_flip, rotate90, scale, rotate, brightness, contrast, elastic",
        ),
        (
            ["augmentation.colour_jitter=0.1", "input.bands=[4, 3]"],
            "augmentation.colour_jitter: is for 3-band 8-bit images (input.bands is [4, 3]), allowed: 0; for these "
            "images: horizontal_flip, vertical_flip, rotate90, scale, rotate, brightness, contrast, elastic",
        ),
        (["input.bands=[2, 2]"], "input.bands: got [2, 2], allowed: each band once"),
        (["input.clip={}"], "input.clip.values: allowed: either values or percentiles"),
        (
            ["input.clip={values: [0, 1], percentiles: [1, 99]}"],
            "input.clip.values: allowed: either values or percentiles",
        ),
        (["input.clip={values: [5, 5]}"], "input.clip.values: got [5.0, 5.0], allowed: [low, high]"),
        (["input.clip={percentiles: [98, 2]}"], "input.clip.percentiles: got [98.0, 2.0], allowed: [low, high]"),
        (["input.clip={percentiles: [0, 101]}"], "input.clip.percentiles.1: got 101, allowed: at most 100"),
        (
            ["input.clip={values: [0, 9]}", "input.max_value=9"],
            "input.max_value: got 9, which has no effect with input.clip",
        ),
        (
            ["input.normalize=counted", "input.std=0.2"],
            "input.std: got 0.2, which has no effect with input.normalize: counted",
        ),
        (
            ["data={name: fractions, root: ., slices: {axis: 3}}"],
            "data.slices.axis: got 3, allowed: 0, 1, 2",
        ),
        (
            ["class_weights.manual={sky: 1, road: 2}"],
            "class_weights.manual: has no effect with scheme 'uniform', allowed only with 'manual'",
        ),
        (
            ["class_weights={scheme: inverse_sqrt, beta: 0.9}"],
            "class_weights.beta: has no effect with scheme 'inverse_sqrt', allowed only with 'effective_number'",
        ),
        (
            ["class_weights={scheme: inverse_sqrt, unit: pixels}"],
            "class_weights.unit: has no effect with scheme 'inverse_sqrt', allowed only with 'effective_number'",
        ),
        (["class_weights.cap=3"], "class_weights.cap: has no effect with scheme 'uniform', whose weights are equal"),
        # A ratio of 1 and a beta of 0 would make every scheme uniform.
        (["class_weights={scheme: inverse_sqrt, cap: 1}"], "class_weights.cap: got 1, allowed: above 1"),
        (
            ["class_weights={scheme: effective_number, unit: images, beta: 0}"],
            "class_weights.beta: got 0, allowed: above 0 or auto",
        ),
        (
            ["class_weights.scheme=inverse_sqrt", "loss=[{name: dice, weighted: false}]"],
            "class_weights.scheme: has no effect: no loss term has weighted: true",
        ),
        (
            ["class_weights.normalize=sum_one", "loss=[{name: dice, weighted: false}]"],
            "class_weights.normalize: has no effect: no loss term has weighted: true",
        ),
        (
            ["loss=[{name: focal, normalize: weights}]"],
            "loss.0.normalize: 'weights' has no effect without class weights, allowed: valid",
        ),
        (
            [
                "class_weights.scheme=inverse_sqrt",
                "loss=[{name: dice}, {name: cross_entropy, normalize: weights, weighted: false}]",
            ],
            "loss.1.normalize: 'weights' has no effect without class weights, allowed: valid",
        ),
        (
            ["class_weights.online=0.9"],
            "class_weights.online: has no effect with scheme 'uniform', whose weights do not come from counts",
        ),
        (
            ["class_weights={scheme: manual, manual: {sky: 1, road: 2}, online: 0.9}"],
            "class_weights.online: has no effect with scheme 'manual', whose weights do not come from counts",
        ),
        (
            ["pixel_weights={name: border, classes: [sky]}", "loss=[{name: dice}]"],
            "pixel_weights: has no effect: no loss term weighs pixels, "
            "allowed: with cross_entropy, focal or top_k_cross_entropy",
        ),
        (["training.early_stopping=3"], "training.early_stopping: got 3, which has no effect in 3 epochs"),
        (
            ["optimizer={name: sgd, momentum: 0, nesterov: true}"],
            "optimizer.nesterov: has no effect with momentum 0, allowed: false",
        ),
        (
            ["training.freeze={epochs: 3}", "model.encoder={name: efficientnet_lite0}"],
            "training.freeze.epochs: got 3, allowed: less than epochs (3), or left out",
        ),
        (
            ["training.freeze={}"],
            "training.freeze.layers: got encoder, allowed: with model.encoder, whose weights are pretrained",
        ),
        (["training.accumulation=4"], "training.accumulation: got 4, allowed: divisors of batch_size (2)"),
        (["schedule={name: plateau, patience: 3}"], "schedule.patience: got 3, which has no effect in 3 epochs"),
        (
            ["schedule={name: plateau, patience: 2}", "training.early_stopping=2"],
            "schedule.patience: got 2, allowed: less than training.early_stopping (2)",
        ),
        (
            ["schedule={name: poly, warmup_epochs: 1, warmup_steps: 2}"],
            "schedule.warmup_steps: stands beside warmup_epochs, allowed: one of them",
        ),
        (["schedule={name: poly, warmup_epochs: 3}"], f"schedule.warmup_epochs: got 3, {LESS}"),
        (["schedule={name: step, epochs: [1, 3]}"], f"schedule.epochs.1: got 3, {LESS}"),
        (
            ["schedule={name: step, epochs: [2, 1]}"],
            "schedule.epochs: got [2, 1], allowed: ascending numbers of epochs, each once",
        ),
        (
            ["schedule={name: step, epochs: [1], warmup_epochs: 1}"],
            "schedule.epochs.0: got 1, allowed: more than warmup_epochs (1)",
        ),
        (
            ["training.monitor=iou/rod"],
            "training.monitor: got 'iou/rod' (did you mean 'iou/road'?); "
            "allowed: mean_iou, mean_iou_rare, iou/sky, iou/road, loss, loss/cross_entropy",
        ),
    ],
)
def test_a_setting_that_would_have_no_effect(tmp_path: Path, overrides: list[str], problem: str):
    assert problems(tmp_path, *overrides) == [problem]


def test_all_problems_are_told_at_once(tmp_path: Path):
    text = """\
labels: {names: [sky, road], ignore_index: 0}
data: {name: folders, rot: x}
input: {bands: 0, std: 0}
model: {name: unet, depth: 9, norm: btch}
loss: [{name: dcie}, {name: focal, gamma: -1}]
class_weights: {scheme: effective_number}
training: {epochs: 0}
colours: red
"""
    assert problems(tmp_path, text=text) == [
        f"colours: unknown key; allowed: {SECTIONS}",
        "name: missing, and there is no default",
        "labels.ignore_index: got 0, which is class 'sky'; allowed: 2 to 255",
        "data.root: missing, and there is no default",
        "data.rot: unknown key (did you mean 'root'?); allowed: name, root, images, masks, mask_suffix, without_mask, "
        "slices",
        "input.bands: got 0, allowed: at least 1 or a list",
        "input.std: got 0, allowed: above 0",
        "class_weights.beta: missing; scheme 'effective_number' needs it",
        "class_weights.unit: missing; scheme 'effective_number' needs it",
        "model.depth: got 9, allowed: at most 7",
        "model.norm: got 'btch', allowed: batch, sync_batch, group, none (did you mean 'batch'?)",
        f"loss.0.name: got 'dcie', allowed: {LOSSES} (did you mean 'dice'?)",
        "loss.1.gamma: got -1, allowed: at least 0",
        "training.epochs: got 0, allowed: at least 1",
        "training.batch_size: missing, and there is no default",
    ]


def test_what_is_missing_from_an_empty_mapping(tmp_path: Path):
    required = ("name", "labels", "data", "training")
    assert problems(tmp_path, text="{}") == [f"{key}: missing, and there is no default" for key in required]


def test_keys_that_are_no_text_are_unknown_keys(tmp_path: Path):
    allowed = ", ".join(Output.model_fields)
    assert problems(tmp_path, text=BASE + "output: {3: 4}\n") == [f"output.3: unknown key; allowed: {allowed}"]
    assert problems(tmp_path, text=BASE + "3: 4\n") == [f"3: unknown key; allowed: {SECTIONS}"]


def test_a_class_may_be_called_by_a_number(tmp_path: Path):
    overrides = ["labels.names=['1', '2']", "class_weights={scheme: manual, manual: {1: 1, 2: -2}}"]
    assert problems(tmp_path, *overrides) == ["class_weights.manual.2: got -2, allowed: at least 0"]
