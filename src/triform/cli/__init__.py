"""The command line: parses, calls, prints."""

from triform.cli.main import main

__all__ = ["main"]
