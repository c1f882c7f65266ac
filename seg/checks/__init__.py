"""What is wrong with a dataset, said before training: every pair opened, every finding with its file."""

from seg.checks.dataset import CheckReport, check_dataset
from seg.checks.findings import KINDS, Finding, Grade
from seg.checks.pairs import Rules
from seg.checks.survey import Survey

__all__ = ["KINDS", "CheckReport", "Finding", "Grade", "Rules", "Survey", "check_dataset"]
