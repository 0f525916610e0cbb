"""The services: what the till can do beyond one account's decision."""
