"""pydantic's validation errors in our words: the key as the user wrote it, what was got, what is allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from seg.config.tree import Config
from seg.section import Problem


def validation_problems(error: ValidationError, key: str, section: Any) -> list[Problem]:
    """One problem a key.

    Args:
        error: What pydantic found in a top-level section.
        key: The section's key.
        section: What JSON made of the section, so that every key is text.
    """
    merged: dict[str, str] = {}
    for details in error.errors():
        if details["type"] == "too_short" and details["input"]:
            continue  # pydantic calls a list with invalid items too short as well; only an empty one is
        dotted, text = _problem(details, key, section)
        if dotted in merged and merged[dotted] != text:  # a value that fits no branch of a union (a number or 'auto')
            text = f"{merged[dotted]} or {text.partition('allowed: ')[2]}"
        merged[dotted] = text
    return list(merged.items())


def _problem(details: ErrorDetails, key: str, value: Any) -> Problem:
    """One pydantic error in our words."""
    kind, context = details["type"], details.get("ctx", {})
    path, parent, annotation = _resolve((key, *details["loc"]), value, kind)
    dotted = ".".join(map(str, path))
    got = shown(details["input"])
    variants = _names(annotation)
    if kind == "extra_forbidden":
        return dotted, unknown_key(str(path[-1]), list(_members(parent)[0].model_fields))
    if kind == "json_invalid":
        return dotted, f"cannot be read: {context['error']}"
    if kind == "missing" and isinstance(path[-1], int):  # of a list of fixed length
        return ".".join(map(str, path[:-1])), f"got {got}, allowed: {len(get_args(_container(parent)))} items"
    if kind == "missing":
        names = get_args(annotation) if get_origin(annotation) is Literal else ()
        return dotted, f"missing, allowed: {', '.join(names)}" if names else "missing, and there is no default"
    if kind == "union_tag_not_found":
        return f"{dotted}.name", f"missing, allowed: {', '.join(variants)}"
    if kind == "union_tag_invalid":
        name = details["input"]["name"]
        return f"{dotted}.name", f"got {shown(name)}, allowed: {', '.join(variants)}{nearest(str(name), variants)}"
    if kind == "literal_error":
        allowed = re.findall(r"\w+", context["expected"].replace(" or ", ", "))
        hint = nearest(details["input"], allowed) if isinstance(details["input"], str) else ""
        return dotted, f"got {got}, allowed: {', '.join(allowed)}{hint}"
    if variants:
        return dotted, f"got {got}, allowed: a mapping of keys with name: {', '.join(variants)}"
    if kind == "string_type" and isinstance(details["input"], bool | int | float):
        return dotted, f"got {got}, allowed: text; write it in quotes"
    return dotted, f"got {got}, allowed: {_allowed(kind, context, details['msg'])}"


def _allowed(kind: str, context: Mapping[str, Any], message: str) -> str:
    """What a pydantic error type allows."""
    limits = {"greater_than": ("above", "gt"), "greater_than_equal": ("at least", "ge"),
              "less_than": ("below", "lt"), "less_than_equal": ("at most", "le")}  # fmt: skip
    if kind in limits:
        word, limit = limits[kind]
        return f"{word} {context[limit]:.15g}"
    types = {"int_type": "a whole number", "int_parsing": "a whole number",
             "int_from_float": "a whole number", "float_type": "a number",
             "finite_number": "a finite number", "string_type": "text", "string_too_short": "text that is not empty",
             "bool_type": "true or false", "tuple_type": "a list", "dict_type": "a mapping of keys",
             "model_type": "a mapping of keys", "string_pattern_mismatch": "letters, digits, '.', '_' and '-', "
             "a letter or digit first", "too_short": "at least one item"}  # fmt: skip
    if kind in types:
        return types[kind]
    if kind == "too_long":
        return f"{context['max_length']} items"
    if kind == "value_error":
        return str(context["error"])
    return message[0].lower() + message[1:]


def _resolve(location: tuple[Any, ...], value: Any, kind: str) -> tuple[list[Any], Any, Any]:
    """The dotted path as the user wrote it, and the annotations of what holds its last key and of the key itself.

    pydantic's location also has the tag of a union's variant in it (`data.folders.root`) and the branch of a plain
    union (`class_weights.beta.float`), which no YAML has.
    """
    path: list[Any] = [location[0]]
    parent: Any = None
    annotation: Any = Config.model_fields[location[0]].annotation
    for position, part in enumerate(location[1:], 2):
        variant = _variant(annotation, part)
        is_missing = kind == "missing" and position == len(location)
        if variant is not None:
            annotation = variant
        elif is_missing or _has(value, part):
            path.append(part)
            parent, annotation = annotation, _annotation_of(annotation, part)
            value = None if is_missing else value[part]
    return path, parent, annotation


def _has(value: Any, part: Any) -> bool:
    """Whether a part of a location is a key or an index of the value."""
    return part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)


def _annotation_of(annotation: Any, part: Any) -> Any:
    """The annotation of a key of a section, or of the items of a list or a mapping; None for an unknown key."""
    container = _container(annotation)
    if container is not None:
        return get_args(container)[get_origin(container) is dict]
    field = _members(annotation)[0].model_fields.get(str(part))
    return field.annotation if field else None


def _container(annotation: Any) -> Any:
    """The tuple or dict type in an annotation such as `Size | None`, if there is one."""
    if get_origin(annotation) in (tuple, dict):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _container(inner)) is not None), None)


def _variant(annotation: Any, tag: Any) -> type[BaseModel] | None:
    """The member of a union of sections whose `name` is `tag`, if there is one."""
    return dict(zip(_names(annotation), _members(annotation), strict=False)).get(tag)


def _names(annotation: Any) -> list[str]:
    """The names of a union of sections; empty for everything else."""
    members = _members(annotation) if _container(annotation) is None else []
    return [get_args(member.model_fields["name"].annotation)[0] for member in members] if len(members) > 1 else []


def _members(annotation: Any) -> list[type[BaseModel]]:
    """All section classes in an annotation, however deep it is wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [member for inner in get_args(annotation) for member in _members(inner)]


def unknown_key(key: str, allowed: Sequence[str], kind: str = "key") -> str:
    """The problem of a key or a class that does not exist, with the nearest that does."""
    return f"unknown {kind}{nearest(key, allowed)}; allowed: {', '.join(allowed)}"


def nearest(word: str, allowed: Sequence[str]) -> str:
    """' (did you mean ...?)' with the nearest of the allowed words, or nothing."""
    matches = difflib.get_close_matches(word, allowed, n=1)
    return f" (did you mean '{matches[0]}'?)" if matches and matches[0] != word else ""


def shown(value: Any) -> str:
    """A value as a person would write it, cut short."""
    if value is None:
        return "nothing"
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
