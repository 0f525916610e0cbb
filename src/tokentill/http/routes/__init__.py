"""The routes that FastAPI serves, with their bodies beside them."""
