"""Where commands print: text as it is, on a terminal of any width, into a pipe, in any encoding."""

from __future__ import annotations

from rich.console import Console

PIPED_WIDTH = 400  # rich would squeeze tables into 80 columns where there is no terminal


def text_console(*, soft_wrap: bool = False) -> Console:
    """Prints text as it is: square brackets in the name of a folder or class are no markup, ':boat:' no picture.

    Args:
        soft_wrap: Long lines are left to the terminal to wrap, so that a path can be copied out of them.
    """
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=soft_wrap)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console
