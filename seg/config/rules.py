"""What goes together in a configuration: sections that are each valid by themselves, and all problems at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from seg.config.balance import ClassWeights
from seg.config.messages import nearest, unknown_key, validation_problems
from seg.config.sampler import Sampler
from seg.config.tree import Config
from seg.errors import ConfigError
from seg.section import Problem, Section


def validate(tree: dict[str, Any], source: str) -> Config:
    """A checked `Config`, or one `ConfigError` with every problem.

    Sections are checked one by one, so that a problem in one does not hide those of another.
    """
    problems: list[Problem] = []
    sections: dict[str, Any] = {}
    for key in tree:
        if key not in Config.model_fields:
            problems.append((str(key), unknown_key(str(key), list(Config.model_fields))))
    for key, field in Config.model_fields.items():
        if key not in tree:
            if field.is_required():
                problems.append((key, "missing, and there is no default"))
            else:
                sections[key] = field.default
            continue
        adapter: TypeAdapter[Any] = TypeAdapter(_annotated(key))
        text = json.dumps(tree[key])
        try:
            # JSON mode is strict about types but takes a list where a tuple is meant, and 1 where a float is.
            sections[key] = adapter.validate_json(text)
        except ValidationError as error:
            problems += validation_problems(error, key, json.loads(text))
        else:
            problems += _section_problems(sections[key], key)
    problems += _cross_problems(sections)
    if problems:
        lines = [f"  {key}: {text}" for key, text in dict.fromkeys(problems)]
        count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
        raise ConfigError("\n".join([f"{source}: {count}", *lines]))
    return Config.model_validate(sections)


def _annotated(key: str) -> Any:
    """A top-level field's type with its constraints."""
    field = Config.model_fields[key]
    return Annotated[field.annotation, field]


def _section_problems(section: Any, path: str) -> Iterator[Problem]:
    """What a section and the sections within it say about themselves."""
    if isinstance(section, Section):
        yield from ((f"{path}.{key}", text) for key, text in section.problems())
        inner: Iterable[tuple[Any, Any]] = section
    else:
        inner = enumerate(section) if isinstance(section, tuple) else ()
    for key, value in inner:
        yield from _section_problems(value, f"{path}.{key}")


def _cross_problems(sections: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong between sections; only those that are valid by themselves are looked at."""
    labels, inputs, augmentation = (sections.get(key) for key in ("labels", "input", "augmentation"))
    weights, loss = sections.get("class_weights"), sections.get("loss")
    schedule, training = sections.get("schedule"), sections.get("training")
    if inputs and augmentation and inputs.num_bands != 3 and augmentation.colour_jitter:
        bands = inputs.bands if isinstance(inputs.bands, int) else list(inputs.bands)
        others = ", ".join(key for key in type(augmentation).model_fields if key != "colour_jitter")
        yield (
            "augmentation.colour_jitter",
            f"is for 3-band 8-bit images (input.bands is {bands}), allowed: 0; for these images: {others}",
        )
    if schedule and training:
        wrong = schedule.training_problems(training.epochs, training.early_stopping)
        yield from (("schedule." + key, text) for key, text in wrong)
    if training and training.freeze and "encoder" in training.freeze.layers and "model" in sections:
        encoder = sections["model"].encoder
        if encoder is None or encoder.weights == "none":
            yield "training.freeze.layers", "got encoder, allowed: with model.encoder, whose weights are pretrained"
    if labels and loss and training:
        scores = ("mean_iou", "mean_iou_rare", *(f"iou/{name}" for name in labels.class_names))
        known = [*scores, "loss", *(f"loss/{term.name}" for term in loss)]
        if training.monitor not in known:
            got = f"got '{training.monitor}'{nearest(training.monitor, known)}"
            yield "training.monitor", f"{got}; allowed: {', '.join(known)}"
    yield from _multi_label_problems(sections)
    yield from _partial_problems(sections)
    model = sections.get("model")
    if labels and model:
        wrong = model.label_problems(len(labels.class_names), labels.multi_label)
        yield from (("model." + key, text) for key, text in wrong)
    if model and training and model.norm == "sync_batch" and training.distribution == "none":
        yield (
            "model.norm",
            "got 'sync_batch' with training.distribution 'none', where it has no effect; allowed: batch",
        )
    if labels and weights and weights.manual is not None:
        for name in [name for name in weights.manual if name not in labels.class_names]:
            yield f"class_weights.manual.{name}", unknown_key(name, list(labels.class_names), kind="class")
        for name in [name for name in labels.class_names if name not in weights.manual]:
            yield f"class_weights.manual.{name}", "missing; every class needs its weight"
    borders = sections.get("pixel_weights")
    if labels and borders:
        for name in [name for name in borders.classes if name not in labels.class_names]:
            yield "pixel_weights.classes", unknown_key(name, list(labels.class_names), kind="class")
    board = sections.get("tensorboard")
    if labels and board and isinstance(board.curve_classes, tuple):
        for name in [name for name in board.curve_classes if name not in labels.class_names]:
            yield "tensorboard.curve_classes", unknown_key(name, list(labels.class_names), kind="class")
    if board and training and board.look_every is not None and board.look_every > training.epochs:
        yield (
            "tensorboard.look_every",
            f"got {board.look_every}, allowed: at most training.epochs ({training.epochs})",
        )
    sampler = sections.get("sampler")
    if sampler:
        yield from (("sampler." + key, text) for key, text in _sampler_problems(sampler, sections))
    if loss and borders and not any(term.weighs_pixels for term in loss):
        yield (
            "pixel_weights",
            "has no effect: no loss term weighs pixels, allowed: with cross_entropy, focal or top_k_cross_entropy",
        )
    if loss:
        names = [term.name for term in loss]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "loss", f"'{name}' stands twice, allowed: each term once"
        for index, term in enumerate(loss):
            weighted = term.weighted and not (weights and weights.scheme == "uniform")
            if not weighted and getattr(term, "normalize", None) == "weights":
                yield f"loss.{index}.normalize", "'weights' has no effect without class weights, allowed: valid"
        if weights and not any(term.weighted for term in loss):
            for key, value in weights:
                if key != "counts" and value != ClassWeights.model_fields[key].default:
                    yield f"class_weights.{key}", "has no effect: no loss term has weighted: true"


def _sampler_problems(sampler: Sampler, sections: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong between the sampler and other sections."""
    labels, inputs = sections.get("labels"), sections.get("input")
    for key, name in sampler.class_names():
        if labels and name not in labels.class_names:
            yield key, f"got '{name}': {unknown_key(name, list(labels.class_names), kind='class')}"
    if sampler.crops and inputs and inputs.crop is None:
        yield "crops", "has no effect without input.crop; set input.crop, or remove sampler.crops"


def _multi_label_problems(sections: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong between `labels.encoding` and the sections that are valid by themselves."""
    labels, loss = sections.get("labels"), sections.get("loss") or ()
    if not labels:
        return
    if not labels.multi_label:
        for index, term in enumerate(loss):
            if not term.takes_one_class:
                yield (
                    f"loss.{index}.name",
                    "got 'binary_cross_entropy', allowed with labels.encoding multi_label only; for two classes "
                    "cross_entropy with model.one_logit is the same loss, its class weights (1, w) a pos_weight of w",
                )
        return
    for index, term in enumerate(loss):
        if not term.takes_overlap:
            yield (
                f"loss.{index}.name",
                f"got '{term.name}', which is of one class a pixel; allowed with labels.encoding multi_label: "
                "binary_cross_entropy, dice",
            )
    weights = sections.get("class_weights")
    if weights and weights.normalize != ClassWeights.model_fields["normalize"].default:
        yield "class_weights.normalize", f"has no effect on pos_weight, a ratio; {_MULTI_LABEL}"
    if weights and weights.online is not None:
        yield "class_weights.online", f"takes one class a pixel; {_MULTI_LABEL}"
    if sections.get("sampler"):
        yield "sampler", f"draws by one class a pixel; {_MULTI_LABEL}"
    if sections.get("pixel_weights"):
        yield "pixel_weights", f"the border map takes one class a pixel; {_MULTI_LABEL}"


def _partial_problems(sections: Mapping[str, Any]) -> Iterator[Problem]:
    """What does not go with `labels.partial`."""
    labels = sections.get("labels")
    if not labels or not labels.partial or labels.multi_label:
        return
    for index, term in enumerate(sections.get("loss") or ()):
        if not term.takes_partial:
            yield (
                f"loss.{index}.name",
                f"got '{term.name}', which takes one known class a pixel; allowed with labels.partial: cross_entropy, "
                "dice",
            )
        elif getattr(term, "label_smoothing", 0):
            yield f"loss.{index}.label_smoothing", f"got {term.label_smoothing}, allowed with labels.partial: 0"
    weights = sections.get("class_weights")
    if weights and weights.online is not None:
        yield "class_weights.online", "counts known classes alone; allowed with labels.partial: leave it out"


_MULTI_LABEL = "allowed with labels.encoding multi_label: leave it out"
