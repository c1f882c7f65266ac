"""docs/data.md: every snippet is part of a configuration that loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from seg.config import validate

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^## ([^\n]+)\n.*?```yaml\n(.*?)```", DOCUMENT, re.MULTILINE | re.DOTALL)
REST = {
    "name": "snippet",
    "labels": {"names": ["background", "organ"]},
    "data": {"name": "folders", "root": "data"},
    "training": {"epochs": 1, "batch_size": 1},
}


@pytest.mark.parametrize("snippet", [text for _, text in SNIPPETS], ids=[title for title, _ in SNIPPETS])
def test_a_snippet_is_part_of_a_configuration(snippet: str) -> None:
    given = yaml.safe_load(snippet)
    config = validate(REST | given, "docs/data.md")
    for section, keys in given.items():
        for key, value in keys.items():
            loaded = getattr(getattr(config, section), key)
            plain = loaded.model_dump(exclude_unset=True) if hasattr(loaded, "model_dump") else loaded
            assert yaml.safe_load(yaml.safe_dump(value)) == listed(plain)


def listed(value: object) -> object:
    """Tuples as lists, within dictionaries too."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    return [listed(item) for item in value] if isinstance(value, tuple) else value


def test_every_part_has_its_snippet() -> None:
    assert [title for title, _ in SNIPPETS] == re.findall(r"^## (.+)$", DOCUMENT, re.MULTILINE)
    assert len(SNIPPETS) == DOCUMENT.count("```yaml") == 6
