from __future__ import annotations

import io

import pytest
from rich.console import Console

from seg.pictures.pages import render
from seg.tables import Score, Table

TABLE = Table(("class", "IoU"), [("a|b", Score("0.500", 0.5)), ("[red]<c>", Score("-", None))], "scores")


def test_csv_has_the_cells_and_line_feeds():
    assert Table(("a", "b"), [(1.5, None), ("x,y", "")]).csv() == 'a,b\n1.5,\n"x,y",\n'


def test_markdown_escapes_bars_and_sets_numbers_right():
    assert TABLE.markdown() == "| class | IoU |\n|---|---:|\n| a\\|b | 0.500 |\n| [red]<c> | - |\n"
    assert Table(("a", "b", "c"), [], left=(0, 2)).markdown() == "| a | b | c |\n|---|---:|---|\n"


def test_a_pipe_gets_columns_and_names_as_they_are():
    out = io.StringIO()
    Console(file=out, width=40).print(TABLE.rich(plain=True))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "class       IoU", "a|b       0.500", "[red]<c>      -",
    ]  # fmt: skip


def test_a_page_sorts_by_the_number_and_escapes_names(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "made_up_pages").mkdir()
    (tmp_path / "made_up_pages/__init__.py").touch()
    template = '{% from "parts.html" import table %}{{ table(content, {"a|b": (1, 2, 3)}, sortable=true) }}'
    (tmp_path / "made_up_pages/page.html").write_text(template, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    page = render("made_up_pages", "page.html", content=TABLE)
    assert '<tr><th><i style="background:rgb(1, 2, 3)"></i>a|b</th><td data-value="0.5">0.500</td></tr>' in page
    assert '<tr><th>[red]&lt;c&gt;</th><td data-value="">-</td></tr>' in page
