"""Pairs from a CSV file that lists them. Reads no pixels."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from seg.data.files.storage import LimitedMask
from seg.data.samples.pairs import SPLITS, Sample, Splits, check_splits, few, nearest_split
from seg.errors import DataError

COLUMNS = ("image", "mask", "split", "group", "valid", "annotated")
REQUIRED_COLUMNS = COLUMNS[:3]


def samples_from_table(root: Path, table: Path, valid_values: tuple[int, ...] | None = None) -> Splits:
    """Samples from a CSV file with the columns image, mask, split and, optionally, group and valid.

    Args:
        root: What the paths in the table are relative to.
        table: The CSV file, UTF-8, separated by commas, with a header line.
        valid_values: What the files of the column valid hold where masks count; None: all but 0.

    Returns:
        Samples of each split in the table's order.

    Raises:
        DataError: A column, cell, file or split is missing, unknown or repeated, or a file or group is in two splits.
    """
    splits: Splits = {}
    missing = []
    for line, row in table_rows(table):
        split = row["split"]
        if split not in SPLITS:
            raise DataError(
                f"{table}, line {line}: split '{split}', allowed: {', '.join(SPLITS)}{nearest_split(split)}"
            )
        sample = row_sample(root, row, valid_values)
        missing += [path for path in map(Path, map(str, sample.files)) if not path.is_file()]
        splits.setdefault(split, []).append(sample)
    if missing:
        raise DataError(f"{table}: {len(missing)} file(s) do not exist: {few(map(str, missing))}")
    check_splits(splits, table)
    return {split: splits[split] for split in SPLITS if split in splits}


def row_sample(root: Path, row: Mapping[str, str], valid_values: tuple[int, ...] | None) -> Sample:
    """The sample of a row of a table; an empty cell in the column valid is no validity mask, in the column annotated it
    means all classes."""
    mask: Path | LimitedMask = Path(root, row["mask"])
    names = tuple(name.strip() for name in row.get("annotated", "").split(";") if name.strip())
    if row.get("valid") or names:
        valid = Path(root, row["valid"]) if row.get("valid") else None
        mask = LimitedMask(Path(root, row["mask"]), valid, valid_values if valid else None, names or None)
    return Sample(Path(root, row["image"]), mask, row.get("group", ""))


def table_rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, cells by column) of a CSV file of samples whose shape has been checked.

    Raises:
        DataError: It cannot be read, or a column or cell is missing, unknown or one too many.
    """
    try:
        with Path(table).open(encoding="utf-8-sig", newline="") as file:  # -sig: spreadsheets write a byte order mark
            reader = csv.DictReader(file, restkey="", restval="", skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read ({error})") from error
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS or columns.count(name) > 1]
    if missing or unknown:
        raise DataError(
            f"{table}: got the columns {', '.join(columns) or 'none'}; "
            "allowed: image, mask, split and optionally group, valid and annotated, separated by commas"
        )
    if not rows:
        raise DataError(f"{table}: holds no rows")
    for line, row in rows:
        if "" in row:
            raise DataError(f"{table}, line {line}: has more cells than the {len(columns)} columns")
        empty = [name for name in REQUIRED_COLUMNS if not row[name].strip()]
        if empty:
            raise DataError(f"{table}, line {line}: {', '.join(empty)} is empty")
    return [(line, {name: cell.strip() for name, cell in row.items()}) for line, row in rows]
