"""The engine: the imperative shell of the hot path. Commands in, committed rows out."""

from tokentill.engine.answers import Answer
from tokentill.engine.engine import Engine

__all__ = ["Answer", "Engine"]
