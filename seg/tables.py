"""One table for all its readers: CSV and Markdown files, the terminal and the HTML pages."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import JustifyMethod
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """Headings and rows.

    Attributes:
        headings: One a column.
        rows: Cells, one a heading. Of a table that people read they are texts (`Score` where a page sorts by the
            number); of one for programs any values, written by `str` and None as an empty cell.
        title: What it is of.
        left: Columns of words, which stand at the left; numbers stand at the right.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    left: tuple[int, ...] = (0,)

    def csv(self) -> str:
        """The headings and rows with commas, lines ending in a line feed."""
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([self.headings, *self.rows])
        return file.getvalue()

    def markdown(self) -> str:
        """The headings and rows as a Markdown table, without the title."""
        rules = ["---" if column in self.left else "---:" for column in range(len(self.headings))]
        return "\n".join([_markdown_row(self.headings), f"|{'|'.join(rules)}|", *map(_markdown_row, self.rows)]) + "\n"

    def rich(self, styles: Mapping[int, str] | None = None, *, plain: bool = False, **look: Any) -> RichTable:
        """To be printed.

        Args:
            styles: Of rows, by their number.
            plain: Columns without lines, for a pipe.
            look: What else `rich.table.Table` takes, such as a caption.
        """
        from rich.table import Table as RichTable
        from rich.text import Text

        if plain:
            look = {"box": None, "pad_edge": False} | look
        look |= {key: Text(look[key]) for key in ("title", "caption") if look.get(key)}
        drawn = RichTable(header_style="bold", **look)
        for column, heading in enumerate(self.headings):
            # Folded where the terminal is narrow: rich would cut and add an ellipsis, which ASCII has not.
            justify: JustifyMethod = "left" if column in self.left else "right"
            drawn.add_column(Text(heading), justify=justify, overflow="fold")
        for number, row in enumerate(self.rows):
            drawn.add_row(*map(Text, row), style=(styles or {}).get(number))
        return drawn


class Score(str):
    """The text of a number, and the number that a page sorts it by; None, where it is not defined, comes last."""

    __slots__ = ("value",)
    value: float | None

    def __new__(cls, text: str, value: float | None) -> Score:
        score = super().__new__(cls, text)
        score.value = None if value is None else float(value)
        return score


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
