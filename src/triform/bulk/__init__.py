"""Answers to many rows: from a file to a file, with a policy for bad rows, and resumed after an interruption."""

from triform.bulk.run import answer_file, answer_rows
from triform.bulk.writers import IfExists, Summary
from triform.tasks.runner import ErrorPolicy

__all__ = ["ErrorPolicy", "IfExists", "Summary", "answer_file", "answer_rows"]
