"""What the class indices mean: names, colours and the index that means 'no label'."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seg.errors import ConfigError

Colour = tuple[int, int, int]

VOID_COLOUR: Colour = (0, 0, 0)
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's: control characters, halves of a character, line separators
MAX_CLASSES = 255  # masks are uint8 and one value is left for void
MAX_PLANES = 128  # of a multi-label mask: what OpenCV 5 moves in one piece


def numbered_names(number: int) -> list[str]:
    """class_0, class_1, ... for whoever has no names.

    Raises:
        ConfigError: There are more than a mask can hold.
    """
    if not 1 <= number <= MAX_CLASSES:
        raise ConfigError(f"--num-classes: got {number}, allowed: 1 to {MAX_CLASSES} (a mask in memory has 8 bits)")
    return [f"class_{index}" for index in range(number)]


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset.

    Attributes:
        names: One name per class; class index = position. 2 to 255 names, unique, not empty; 1 to 128 if `multi_label`.
        colours: One RGB colour (0-255) per class, unique: what overlays use, and what `colour` masks are decoded by.
        ignore_index: The uint8 value that marks void (unlabelled) pixels. Not a class index; never counted in
            `num_classes`, a loss or a metric.
        multi_label: Whether classes may overlap. If not, a mask in memory is (H, W) uint8 class indices. If so, it is
            (H, W, K) uint8, for each class 0 where it is absent, 1 where it is present, `ignore_index` where that is
            not known; there is no background class.
        partial: Lists of class indices, ascending: in some samples only these were annotated. There a pixel of any
            other class is one of the unlisted ones, which it is not known: in a mask in memory it is the list's `codes`
            value. None with `multi_label`, where an unlisted class is not known.

    Raises:
        ConfigError: A name or colour is repeated, the counts differ, or `ignore_index` is a class index.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignore_index: int = 255
    multi_label: bool = False
    partial: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        problems = label_problems(self.names, self.colours, self.ignore_index, self.multi_label)
        if self.num_classes + len(self.partial) > MAX_CLASSES:
            most = MAX_CLASSES - self.num_classes
            problems.append(("partial", f"got {len(self.partial)} lists, allowed: at most {most} beside the classes"))
        if problems:
            raise ConfigError("; ".join(f"labels.{key}: {problem}" for key, problem in problems))

    @classmethod
    def from_names(
        cls, names: tuple[str, ...] | list[str], ignore_index: int = 255, multi_label: bool = False
    ) -> LabelSet:
        """A label set with distinct colours chosen for the caller."""
        return cls(tuple(names), distinct_colours(len(names)), ignore_index, multi_label)

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @cached_property
    def codes(self) -> tuple[int, ...]:
        """The mask value of each list of `partial`: the first ones that are no class and not void."""
        free = [value for value in range(self.num_classes, 256) if value != self.ignore_index]
        return tuple(free[: len(self.partial)])

    @property
    def sets(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """(mask value, the classes of which its pixels are one) for each list of `partial`."""
        every = range(self.num_classes)
        unlisted = (tuple(index for index in every if index not in listed) for listed in self.partial)
        return tuple(zip(self.codes, unlisted, strict=True))

    def annotated(self, mask: np.ndarray, classes: Collection[str]) -> np.ndarray:
        """A mask of which only some classes were annotated.

        Raises:
            KeyError: No list of `partial` has these classes, or one of them is no class.
        """
        listed = tuple(index for index, name in enumerate(self.names) if name in classes)
        if len(listed) < len(set(classes)):
            raise KeyError(", ".join(sorted(set(classes) - set(self.names))))
        if self.multi_label:
            known = np.isin(np.arange(self.num_classes), listed)
            return np.where(known, mask, np.uint8(self.ignore_index))
        if len(listed) >= self.num_classes - 1:  # what is no other class is the one left
            return mask
        if listed not in self.partial:
            raise KeyError(", ".join(classes))
        code = np.uint8(self.codes[self.partial.index(listed)])
        return np.where(np.isin(mask, (*listed, self.ignore_index)), mask, code)

    def known(self, mask: np.ndarray) -> np.ndarray:
        """The mask with void in the place of the values of `codes`."""
        return np.where(np.isin(mask, self.codes), mask.dtype.type(self.ignore_index), mask) if self.partial else mask

    @property
    def mask_axes(self) -> tuple[int, ...]:
        """What the shape of a mask in memory has behind height and width: () or (K,)."""
        return (self.num_classes,) if self.multi_label else ()

    def predicted(self, logits: np.ndarray) -> np.ndarray:
        """The mask that logits (..., C) mean: (...) uint8, the class of the largest, the first among equals; if
        `multi_label` (..., C) uint8, 1 where a logit is above 0, which is a probability above 0.5."""
        if self.multi_label:
            return (logits > 0).astype(np.uint8)
        return logits.argmax(axis=-1).astype(np.uint8)

    def plane(self, mask: np.ndarray, index: int) -> np.ndarray:
        """Where a mask of either kind shows a class: (H, W) uint8, 0 absent, 1 present, `ignore_index` not known."""
        if self.multi_label:
            return mask[..., index]
        if self.partial:
            could_be = [value for value, classes in self.sets if index in classes]
            mask = np.where(np.isin(mask, could_be), mask.dtype.type(self.ignore_index), mask)
        return np.where(mask == self.ignore_index, self.ignore_index, mask == index).astype(np.uint8)

    def void(self, mask: np.ndarray) -> np.ndarray:
        """Where a mask of either kind tells nothing of any class: (H, W) bool."""
        nowhere = mask == self.ignore_index
        return nowhere.all(axis=-1) if self.multi_label else nowhere

    def colour_table(self) -> np.ndarray:
        """(256, 3) uint8 RGB look-up table: class colours, black for void and for every unused index."""
        table = np.full((256, 3), VOID_COLOUR, np.uint8)
        table[: self.num_classes] = self.colours
        return table


def label_problems(
    names: tuple[str, ...], colours: tuple[Colour, ...], ignore_index: int, multi_label: bool = False
) -> list[tuple[str, str]]:
    """(key, problem) for everything wrong with a label set, so that a config can report all of it at once."""
    problems = []
    fewest, most = (1, MAX_PLANES) if multi_label else (2, MAX_CLASSES)
    if not fewest <= len(names) <= most:
        problems.append(("names", f"got {len(names)} classes, allowed: {fewest} to {most}"))
    for repeated in sorted({name for name in names if names.count(name) > 1}):
        problems.append(("names", f"'{repeated}' stands twice, allowed: each name once"))
    for name in names:
        if any(unicodedata.category(letter) in UNPRINTABLE for letter in name):
            problems.append(("names", f"{name!r} has a line break or control character, allowed: one line of text"))
    if len(colours) != len(names):
        problems.append(("colours", f"got {len(colours)} colours for {len(names)} names, allowed: one colour a class"))
    for twice in sorted({colour for colour in colours if colours.count(colour) > 1}):
        problems.append(("colours", f"{list(twice)} stands twice, allowed: each colour once"))
    if any(not 0 <= value <= 255 for colour in colours for value in colour):
        problems.append(("colours", "a value is outside 0 to 255"))
    if not 0 <= ignore_index <= 255:
        problems.append(("ignore_index", f"got {ignore_index}, allowed: 0 to 255"))
    elif multi_label and ignore_index < 2:
        meaning = ("absent", "present")[ignore_index]
        problems.append(
            ("ignore_index", f"got {ignore_index}, which means {meaning} in every plane; allowed: 2 to 255")
        )
    elif not multi_label and ignore_index < len(names):
        problems.append(
            (
                "ignore_index",
                f"got {ignore_index}, which is class '{names[ignore_index]}'; allowed: {len(names)} to 255",
            )
        )
    return problems


def distinct_colours(count: int) -> tuple[Colour, ...]:
    """`count` different colours: hues a golden angle apart, so that neighbouring classes look unlike, in shifting
    brightness, so that 255 classes still differ."""
    colours = []
    for index in range(count):
        hue = (index * 0.618034) % 1.0
        saturation = (0.75, 0.5, 0.95)[index % 3]
        value = (0.95, 0.75, 0.55)[(index // 3) % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    if len(set(colours)) != count:  # rounding may not merge two classes
        raise AssertionError(f"distinct_colours({count}) repeats a colour")
    return tuple(colours)
