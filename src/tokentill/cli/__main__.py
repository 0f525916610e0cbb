"""`python -m tokentill.cli` is `till`."""

from tokentill.cli.app import main

main()
