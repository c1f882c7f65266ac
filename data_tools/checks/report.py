"""A check's findings as lines of text, JSON and Markdown. Names are relative to the dataset's folder everywhere."""

from __future__ import annotations

from typing import Any

from data_tools.checks.dataset import CheckReport
from data_tools.checks.findings import KINDS, Finding, Grade
from seg.data.masks.values import SetValues
from seg.tables import Table

FORMAT = 1  # of the JSON; raise it when a key changes its meaning


def summary(report: CheckReport) -> str:
    """One sentence: pairs and findings by grade."""
    pairs = ", ".join(f"{number:,} {split}" for split, number in report.pairs.items())
    numbers = [(report.number(grade), grade) for grade in Grade]
    found = ", ".join(f"{number:,} {grade}{'' if number == 1 else 's'}" for number, grade in numbers)
    return f"{sum(report.pairs.values()):,} pairs ({pairs}): {found}"


def finding_line(finding: Finding) -> str:
    """File and text of a finding; a second file stands in the text or follows."""
    if not finding.files or finding.kind in ("small-components", "ignored-files", "missing-file"):
        return finding.text
    first, *others = finding.files
    hidden = [name for name in others if name not in finding.text]
    return f"{first}{f' ({_some(hidden)})' if hidden else ''}: {finding.text}"


def _some(names: list[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def kinds_table(report: CheckReport) -> Table:
    """Each kind found, the worst first: how often, what it means and what to do."""
    rows = []
    for kind, findings in report.by_kind().items():
        about = KINDS[kind]
        rows.append((str(about.grade), kind, f"{len(findings):,}", about.meaning, about.advice))
    return Table(("grade", "kind", "findings", "meaning", "what to do"), rows, left=(0, 1, 3, 4))


def to_json(report: CheckReport) -> dict[str, Any]:
    """All findings, and what was counted on the way."""
    rules = report.rules
    names = (*rules.labels.names, "void")
    return {
        "format": FORMAT,
        "summary": {str(grade): report.number(grade) for grade in Grade},
        "settings": {
            "encoding": rules.encoding.name,
            "bands": rules.bands,
            "nodata": rules.nodata,
            "small_pixels": rules.small_pixels,
            "near_bits": rules.near_bits,
            "near_correlation": rules.near_correlation,
        },
        "splits": {
            split: {"pairs": number, "pixels": dict(zip(names, report.pixels[split].tolist(), strict=True))}
            for split, number in report.pairs.items()
        },
        "values": None if report.values is None else values_to_json(report.values),
        "findings": [finding.to_json() for finding in report.findings],
    }


def values_to_json(values: SetValues) -> dict[str, Any]:
    """All values of the masks, and a section that reads them."""
    rows = [
        {"value": row.value, "pixels": row.pixels, "files": row.files, "meaning": row.meaning} for row in values.rows
    ]
    told = {"causes": values.causes(), "section": values.section()}
    return {"masks": values.masks, "unread": values.unread, "rows": rows, **told}


def markdown(report: CheckReport, shown: int) -> str:
    """A table of the kinds, then up to `shown` findings of each."""
    parts = ["# Dataset check", "", summary(report) + "."]
    if report.values is not None:
        parts += ["", f"{report.values.summary()}:", "", report.values.table().markdown().rstrip()]
        parts += ["", "```yaml", report.values.section(), "```"]
    if report.findings:
        parts += ["", kinds_table(report).markdown().rstrip()]
    for kind, findings in report.by_kind().items():
        parts += ["", f"## {kind}", ""]
        parts += [f"- {_escaped(finding_line(finding))}" for finding in findings[:shown]]
        if len(findings) > shown:
            parts.append(f"- and {len(findings) - shown:,} more")
    return "\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|" else letter for letter in text)
