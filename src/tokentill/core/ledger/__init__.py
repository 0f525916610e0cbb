"""The ledger: what a command does to an account."""
