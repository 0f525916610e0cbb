"""Draws what `till demo` prints as the picture in the README: `make picture`. It loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

FIRST_LINES, LAST_LINES, WIDTH = 32, 2, 100


def main() -> None:
    (target,) = sys.argv[1:]
    done = subprocess.run([sys.executable, "-m", "tokentill.cli", "demo"], capture_output=True, text=True, check=True)
    # How long things took differs from run to run, and is no part of the picture.
    lines = [line for line in done.stdout.strip().splitlines() if not re.search(r": [\d.]+ s$", line)]
    lines = lines[next(number for number, line in enumerate(lines) if line) :]
    last = [re.sub(r", [\d.]+ s$", "", line) for line in lines[-LAST_LINES:]]
    console = Console(record=True, width=WIDTH, file=sys.stderr, force_terminal=False)
    for line in [*lines[:FIRST_LINES], "  …", *last]:
        indent = len(line) - len(line.lstrip())  # SVG would leave plain spaces out at the beginning of a line.
        console.print(Text("\u00a0" * indent + line.strip()[: WIDTH - indent]), highlight=False)
    # Rich's own frame, but for the fonts that it would fetch.
    frame = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    Path(target).write_text(
        console.export_svg(title="make demo", theme=DIMMED_MONOKAI, code_format=frame) + "\n", "utf-8"
    )


if __name__ == "__main__":
    main()
