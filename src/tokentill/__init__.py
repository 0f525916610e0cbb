"""tokentill: the till of an AI app. It sells, grants, drips, spends and explains prepaid tokens."""

from tokentill.errors import (
    AccountNotFound,
    IdempotencyConflict,
    InsufficientTokens,
    InvalidRequest,
    TillError,
    Unavailable,
)
from tokentill.till import Till

__version__ = "0.1.0"

__all__ = [
    "AccountNotFound",
    "IdempotencyConflict",
    "InsufficientTokens",
    "InvalidRequest",
    "Till",
    "TillError",
    "Unavailable",
    "__version__",
]
