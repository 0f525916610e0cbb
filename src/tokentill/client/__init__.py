"""A small client of the till's HTTP API, sync and async. Imports nothing else of tokentill."""

from tokentill.client.clients import AsyncTillClient, TillClient
from tokentill.client.errors import (
    AccountNotFound,
    ActionNotFound,
    IdempotencyConflict,
    InsufficientTokens,
    InvalidRequest,
    TillError,
    Unavailable,
)
from tokentill.client.wire import Action, Balance, HoldReceipt, Receipt

__all__ = [
    "AccountNotFound",
    "Action",
    "ActionNotFound",
    "AsyncTillClient",
    "Balance",
    "HoldReceipt",
    "IdempotencyConflict",
    "InsufficientTokens",
    "InvalidRequest",
    "Receipt",
    "TillClient",
    "TillError",
    "Unavailable",
]
