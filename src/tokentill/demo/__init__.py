"""A small believable world to try the till on: made-up customers, calls and responses."""
