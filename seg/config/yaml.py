"""A configuration as YAML: reading it, changing keys of it, writing it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from seg.config.messages import shown
from seg.config.rules import validate
from seg.config.tree import Config
from seg.errors import ConfigError


def load_config(path: Path | str, overrides: Sequence[str] = (), *, trains: bool = True) -> Config:
    """Reads and validates a configuration file.

    Args:
        path: A YAML file.
        trains: False: sections that only a training needs may be missing, as of a file with `data` and `labels` alone.
        overrides: `key.sub=value` texts; the value is read as YAML, so `training.epochs=3` and
            `loss=[{name: dice}]` both work, and `loss.0.coefficient=2` reaches into a list.

    Raises:
        ConfigError: With every problem found, a line each.
    """
    tree = read_yaml(Path(path))
    for override in overrides:
        apply_override(tree, override)
    if not trains:
        labels = tree.get("labels")
        encoding = labels.get("encoding") if isinstance(labels, dict) else None
        if isinstance(encoding, dict) and encoding.get("name") == "multi_label":  # the default loss is of one class
            tree = {"loss": [{"name": "binary_cross_entropy"}]} | tree
        tree = {"name": "data", "training": {"epochs": 1000, "batch_size": 1}} | tree
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
