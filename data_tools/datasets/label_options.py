"""The classes and the mask encoding from a tool's command line: flags, a configuration, or both."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seg.config import Config, load_config, validate
from seg.config.labels import Labels
from seg.config.masks import KINDS
from seg.errors import ConfigError
from seg.labels import numbered_names

ENCODINGS = tuple(name for name, kind in KINDS.items() if not kind.multi_label)


LABEL_OPTIONS = (
    "class_names", "num_classes", "ignore_index", "colours", "void_colours", "tolerance", "values", "ignore_values",
    "threshold",
)  # fmt: skip


def add_label_options(
    parser: argparse.ArgumentParser, title: str = "classes (each overrides the configuration's)"
) -> None:
    """Adds `LABEL_OPTIONS`, which `labels_from_options` reads."""
    group = parser.add_argument_group(title)
    group.add_argument("--class-names", metavar="A,B,...", help="class names in the order of their indices")
    group.add_argument("--num-classes", type=int, metavar="N", help="instead of names")
    group.add_argument("--ignore-index", type=int, metavar="I", help="the index that means void (default: 255)")
    group.add_argument(
        "--colours", nargs="+", metavar="R,G,B", help="one a class, for the encodings colour and palette"
    )
    group.add_argument("--void-colours", nargs="+", metavar="R,G,B", help="colours that mean void")
    group.add_argument(
        "--tolerance", type=float, metavar="D", help="distance to the nearest colour (RGB) or value that is allowed"
    )
    group.add_argument(
        "--values", nargs="+", metavar="V=NAME", help="file values of the encoding values: 0=ground 120-136=cell"
    )
    group.add_argument("--ignore-values", nargs="+", type=int, metavar="V", help="file values that mean void")
    group.add_argument("--threshold", type=int, metavar="T", help="of the encoding binary (default: 127)")


def config_and_inputs(arguments: argparse.Namespace, inputs: Sequence[str]) -> tuple[Config | None, list[str]]:
    """The configuration of --config with the overrides among `inputs`, and the other inputs."""
    if arguments.config is None:
        return None, list(inputs)
    overrides = [text for text in inputs if "=" in text and not Path(text).exists()]
    return load_config(arguments.config, overrides, trains=False), [text for text in inputs if text not in overrides]


def labels_from_options(arguments: argparse.Namespace, config: Config | None, encoding: str | None) -> Labels:
    """The `labels` section that the options describe, checked as a configuration's is.

    Args:
        arguments: With the options of `add_label_options`.
        config: What the options change; None: they say everything.
        encoding: The name of the encoding; None: the configuration's, or index.

    Raises:
        ConfigError: With every problem.
    """
    tree: dict[str, Any] = {} if config is None else config.labels.model_dump(mode="json")
    if arguments.class_names is not None:
        tree["names"] = [name.strip() for name in arguments.class_names.split(",")]
    elif arguments.num_classes is not None:
        tree["names"] = numbered_names(arguments.num_classes)
    elif config is None:
        raise ConfigError("--class-names: missing, needed without --config (or --num-classes)")
    if arguments.ignore_index is not None:
        tree["ignore_index"] = arguments.ignore_index
    if arguments.colours is not None:
        tree["colours"] = [_colour(text, "--colours") for text in arguments.colours]
    if arguments.ignore_values is not None:
        tree["ignore_values"] = arguments.ignore_values
    known: dict[str, Any] = tree.get("encoding", {"name": "index"})
    name = encoding or known["name"]
    given = {
        "void_colours": arguments.void_colours and [_colour(text, "--void-colours") for text in arguments.void_colours],
        "tolerance": _tolerance(arguments.tolerance, name),
        "threshold": arguments.threshold,
        "values": arguments.values and dict(map(_value, arguments.values)),
    }
    tree["encoding"] = {"name": name}
    for key in KINDS[name].model_fields:
        value = given[key] if given.get(key) is not None else known.get(key)
        if key in given and value is not None:
            tree["encoding"][key] = value
    if name in ENCODINGS and not KINDS[name].ignores_values:
        tree["ignore_values"] = []
    return _checked(tree)


def check_label_options(arguments: argparse.Namespace, *sections: Labels) -> None:
    """Refuses an option of `add_label_options` that changes nothing in any of the sections made with it.

    Raises:
        ConfigError: Names the option and the encodings that it is for.
    """
    for key in ("void_colours", "tolerance", "values", "threshold"):
        if getattr(arguments, key) is not None and not any(hasattr(one.encoding, key) for one in sections):
            _refuse_option(key, sections, (name for name, kind in KINDS.items() if key in kind.model_fields))
    if arguments.ignore_values is not None and not any(one.encoding.ignores_values for one in sections):
        _refuse_option("ignore_values", sections, (name for name, kind in KINDS.items() if kind.ignores_values))
    if arguments.colours is not None and not {one.encoding.name for one in sections} & {"colour", "palette"}:
        _refuse_option("colours", sections, ("colour", "palette"))


def _refuse_option(key: str, sections: Sequence[Labels], fitting: Iterable[str]) -> None:
    used = " and ".join(dict.fromkeys(one.encoding.name for one in sections))
    raise ConfigError(
        f"--{key.replace('_', '-')}: has no effect on the encoding {used}; allowed: with {', '.join(fitting)}"
    )


def _tolerance(given: float | None, name: str) -> float | int | None:
    """A number of file values is whole."""
    return int(given) if given is not None and name == "values" and given.is_integer() else given


def _checked(labels: dict[str, Any]) -> Labels:
    other: dict[str, Any] = {"data": {"name": "folders", "root": "."}, "training": {"epochs": 1, "batch_size": 1}}
    if labels["encoding"]["name"] == "multi_label":
        other["loss"] = [{"name": "binary_cross_entropy"}]  # the default is for one class a pixel
    return validate({"name": "masks", "labels": labels, **other}, "the classes and their encoding").labels


def _colour(text: str, option: str) -> list[int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"{option}: got '{text}', allowed: R,G,B, as in 255,0,0")
    return [int(part) for part in parts]


def _value(text: str) -> tuple[str, str]:
    value, equals, name = text.partition("=")
    if not equals or not all(end.isdecimal() for end in value.split("-", 1)):
        raise ConfigError(f"--values: got '{text}', allowed: VALUE=NAME or FIRST-LAST=NAME, as in 120-136=cell")
    return value, name
