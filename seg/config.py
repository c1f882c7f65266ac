"""Loading a configuration: every key is checked, and all problems are reported at once, before anything else happens.

`load_config` reads a YAML file, applies `key.sub=value` overrides and validates. Each problem is one line with the
dotted key, the value got, what is allowed and, for a typo, the nearest key. `python -m seg.config` writes the JSON
schema that editors complete and check YAML files by. Nothing here imports TensorFlow: a wrong config answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter, ValidationError

from seg.config_losses import OverlapTerm
from seg.config_messages import shown, unknown_key, validation_problems
from seg.config_multi_label import multi_label_problems
from seg.config_sampler import Sampler
from seg.config_section import Problem, Section
from seg.config_tree import ClassWeights, Config, CosineSchedule
from seg.errors import ConfigError, run_command

__all__ = ["Config", "dump_config", "load_config", "main", "validate"]


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Reads and validates a configuration file.

    Args:
        path: A YAML file.
        overrides: `key.sub=value` texts; the value is read as YAML, so `training.epochs=3` and
            `loss=[{name: dice}]` both work, and `loss.0.coefficient=2` reaches into a list.

    Raises:
        ConfigError: With every problem found, a line each.
    """
    tree = read_yaml(Path(path))
    for override in overrides:
        apply_override(tree, override)
    return validate(tree, " ".join([str(path), *overrides]))


def dump_config(config: Config) -> str:
    """The configuration as YAML that `load_config` reads back to an equal one, defaults spelled out."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


# --- reading ----------------------------------------------------------------------------------------------------------
class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice (PyYAML: the last wins), and aliases and tags: all values are plain."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        found = f"alias *{event.anchor}" if isinstance(event, yaml.AliasEvent) else f"tag {event.tag}"
        if isinstance(event, yaml.AliasEvent) or event.tag is not None:
            raise yaml.composer.ComposerError(None, None, f"{found}; allowed: the value itself", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: list[Any] = []
        for key_node, _ in node.value:
            keys.append(str(self.construct_object(key_node, deep=True)))  # 0 and "0" are one key in JSON
            if keys[-1] in keys[:-1]:
                problem = f"key '{keys[-1]}' stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that `_Loader` would read as something else."""

    yaml_implicit_resolvers: dict[str, Any] = {}


# YAML 1.2's scalars. PyYAML's own, of 1.1, read 1e-3 as text, `no` as false, 010 as 8 and 1:30 as 90.
for _tag, _pattern in {
    "null": r"~|null|",
    "bool": r"true|false|True|False",
    "int": r"[-+]?(0|[1-9]\d*)",
    "float": r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+|[-+]?\.inf|\.nan",
}.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^({_pattern})$"), None)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    tree = _parse(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: got {shown(tree)}, allowed: a YAML mapping of sections")
    return tree


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - _Loader is a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise ConfigError(
            f"{where}: not valid YAML: {getattr(error, 'problem', None) or ' '.join(str(error).split())}"
        ) from None
    except (ValueError, RecursionError) as error:  # thousands of digits or brackets
        raise ConfigError(f"{source}: not valid YAML: {error}") from None


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Sets one `key.sub=value` in a tree, in place. In a section that is left out it changes the default."""
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"override '{override}': allowed: key.sub=value, for example training.epochs=3")
    value = _parse(text, f"override '{override}'")
    if len(parts) > 1 and parts[0] in Config.model_fields:
        tree.setdefault(parts[0], _default(parts[0]))
    node: Any = tree
    for depth, part in enumerate(parts):
        where = ".".join(parts[:depth])
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                allowed = f"an index from 0 to {len(node) - 1}" if node else "nothing: it is empty"
                raise ConfigError(f"override '{override}': {where} is a list; got '{part}', allowed: {allowed}")
            index: Any = int(part)
        elif isinstance(node, dict):
            index = part
        else:
            raise ConfigError(f"override '{override}': {where} is {shown(node)}, which has no keys")
        if depth == len(parts) - 1:
            node[index] = value
        else:
            node = node[index] if isinstance(node, list) else node.setdefault(index, {})


def _default(key: str) -> Any:
    """A top-level section's default as plain data, or {} where there is none; without the keys that have defaults."""
    field = Config.model_fields[key]
    if field.is_required():
        return {}
    return TypeAdapter(Any).dump_python(field.default, mode="json", exclude_unset=True)


# --- checking ---------------------------------------------------------------------------------------------------------
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
    if isinstance(schedule, CosineSchedule) and training and schedule.warmup_epochs >= training.epochs:
        yield (
            "schedule.warmup_epochs",
            f"got {schedule.warmup_epochs}, allowed: less than training.epochs ({training.epochs})",
        )
    yield from multi_label_problems(sections)
    model = sections.get("model")
    if labels and model and model.one_logit and len(labels.class_names) != 2:
        yield "model.one_logit", f"got true with {len(labels.class_names)} classes, allowed: with 2"
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
    if loss and borders and all(isinstance(term, OverlapTerm) for term in loss):
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
        yield "crops", "has no effect without input.crop, allowed: with it"
    if sampler.copy_paste and sections.get("pixel_weights"):
        yield (
            "copy_paste",
            "got it with pixel_weights, whose maps are of the masks as they are; allowed: one of the two",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the JSON schema of the configuration."""
    parser = argparse.ArgumentParser(prog="python -m seg.config", description=main.__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("configs/schema.json"), help="default: %(default)s")
    args = parser.parse_args(argv)

    def write() -> None:
        temporary = args.out.with_name(f"{args.out.name}.tmp")
        try:
            temporary.write_text(json.dumps(Config.model_json_schema(), indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, args.out)
        except OSError as error:
            raise ConfigError(f"{args.out}: cannot be written: {error.strerror}") from None

    return run_command(write)


if __name__ == "__main__":
    sys.exit(main())
