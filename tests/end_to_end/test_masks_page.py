"""docs/masks.md: every configuration in it is valid, every command's options exist, every encoding is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
import yaml

from data_tools import convert_masks, split_dataset, tile_rasters
from seg.config import validate
from seg.config.labels import Labels

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "masks.md").read_text("utf-8")
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]
TOOLS = {"convert_masks": convert_masks, "split_dataset": split_dataset, "tile_rasters": tile_rasters}
OTHER = {
    "name": "page",
    "labels": {"names": ["a", "b"]},
    "data": {"name": "folders", "root": "data"},
    "training": {"epochs": 1, "batch_size": 1},
}


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_is_valid(snippet: str) -> None:
    validate(OTHER | yaml.safe_load(snippet), "docs/masks.md")


def test_every_encoding_has_a_snippet() -> None:
    sections = get_args(Labels.model_fields["encoding"].annotation)
    names = {section.model_fields["name"].annotation.__args__[0] for section in sections}
    shown = {yaml.safe_load(snippet).get("labels", {}).get("encoding", {}).get("name") for snippet in SNIPPETS}
    assert names <= shown


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    assert words[:2] == ["python", "-m"]
    with pytest.raises(SystemExit):
        TOOLS[words[2].removeprefix("data_tools.")].main(["--help"])
    text = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", text), option
    for path in (word for word in words if word.startswith("configs/")):
        assert (ROOT / path).exists()
