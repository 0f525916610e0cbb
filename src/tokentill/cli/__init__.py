"""The command line: `till`. Each command is one thing that the till can do; `--json` is for programs."""

from tokentill.cli.app import main

__all__ = ["main"]
