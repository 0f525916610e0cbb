"""The functional core: values and decisions. No clock, no network, no database, no randomness."""
