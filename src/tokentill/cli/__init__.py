"""The command line: `till`. Each command is one thing that the till can do; `--json` is for programs."""

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run `till` and exit."""
    try:
        from tokentill.cli import app
    except KeyboardInterrupt:  # While it is still loading.
        sys.exit(130)
    app.main(args)
