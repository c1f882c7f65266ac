"""What is wrong with a dataset, said before training: every pair opened, every finding with its file."""

from data_tools.checks.dataset import CheckReport, check_dataset
from data_tools.checks.findings import KINDS, Finding, Grade
from data_tools.checks.pairs import Rules
from data_tools.checks.survey import Survey

__all__ = ["KINDS", "CheckReport", "Finding", "Grade", "Rules", "Survey", "check_dataset"]
