"""What is asked of a till over HTTP and what its answers mean: requests and values, no network.

The sync and the async client differ only in how they send what is built here.

Units: tokens are whole. Times: aware UTC.
"""

import json
import os
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import quote, urlencode
from uuid import UUID

from tokentill.client import errors

User = str | UUID
OnInsufficient = Literal["refuse", "record"]

TTL_DEFAULT = timedelta(minutes=10)
WAIT_FIRST_SECONDS, WAIT_MAX_SECONDS = 0.1, 5.0
RETRIES_MAX = 3
OUTPUT_TOKENS_USUAL = 4_096  # As in `core.prices.actions`.

# The statuses of answers that mean "not now"; 409 is none of them: what is recorded will not change by asking again.
RETRIED = frozenset({408, 429, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. All of them may be sent again: asked twice, they happen once."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        headers = {} if self.body is None else {"Content-Type": "application/json"}
        return headers if self.key is None else {**headers, "Idempotency-Key": self.key}

    @property
    def content(self) -> bytes | None:
        return None if self.body is None else json.dumps(self.body, default=_plain).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldReceipt:
    """What is recorded of a hold. `hold_id` is its address (`hold_…`), which names the account, too."""

    hold_id: str
    user_id: str
    state: Literal["placed", "captured", "voided", "expired"]
    tokens: int
    action_type: str
    model: str | None
    provider: str | None
    metadata: Mapping[str, Any]
    placed_at: datetime
    expires_at: datetime
    closed_at: datetime | None
    captured_seq: int | None
    is_replay: bool
    retries_taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A journal row of AI usage that was written."""

    id: str
    seq: int
    tokens_used: int
    balance_before: int
    balance_after: int
    occurred_at: datetime
    created_at: datetime
    is_replay: bool
    retries_taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an account holds now. A negative balance is debt; `available` = balance − held."""

    user_id: str
    balance: int
    available: int
    held: int
    debt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What an app needs to make a call of this action, and how its users pay for it."""

    key: str
    model: str | None
    provider: str | None
    temperature: float | None
    max_tokens: int | None  # Of the answer, as the model counts.
    system_prompt: str | None
    charge: str  # metered, fixed, cost_plus
    fixed_tokens: int | None
    multiplier: Decimal
    model_multipliers: Mapping[str, Decimal]
    markup: Decimal | None
    cents_per_million_tokens: Decimal | None
    is_active: bool
    revision: int


# -- Requests --------------------------------------------------------------------------------------------------------


def hold(
    user: User, tokens: int, action_type: str, *, ttl: timedelta | int, model: str | None, model_used: str | None,
    provider: str | None, metadata: Mapping[str, Any] | None, idempotency_key: str | None,
) -> Request:  # fmt: skip
    body = {
        "user_id": str(user), "tokens": tokens, "action_type": action_type, "ttl_seconds": _seconds(ttl),
        "model": model, "model_used": model_used, "provider": provider, "metadata": metadata,
    }  # fmt: skip
    return Request(method="POST", path="/v1/holds", body=_given(body), key=idempotency_key or uuid7())


def renew(hold_id: str, *, ttl: timedelta | int) -> Request:
    return Request(method="POST", path=f"/v1/holds/{_part(hold_id)}/renew", body={"ttl_seconds": _seconds(ttl)})


def capture(hold_id: str, tokens: int | None, details: Mapping[str, Any]) -> Request:
    # Repeatable without a key, too: a hold is captured once, and asked again it answers that.
    body, key = _call({"tokens": tokens, **details})
    return Request(method="POST", path=f"/v1/holds/{_part(hold_id)}/capture", body=body, key=key)


def void(hold_id: str) -> Request:
    return Request(method="POST", path=f"/v1/holds/{_part(hold_id)}/void")


def spend(user: User, tokens: int | None, action_type: str, details: Mapping[str, Any]) -> Request:
    body, key = _call({"user_id": str(user), "tokens": tokens, "action_type": action_type, **details})
    return Request(method="POST", path="/v1/usage", body=body, key=key or uuid7())


def balance(user: User) -> Request:
    return Request(method="GET", path=f"/v1/users/{_part(str(user))}/balance")


def action(key: str) -> Request:
    return Request(method="GET", path=f"/v1/ai/actions/{_part(key)}")


def charge(key: str, input_tokens: int, output_tokens: int, model: str | None, provider: str | None) -> Request:
    asked = _given({"input_tokens": input_tokens, "output_tokens": output_tokens, "model": model, "provider": provider})
    return Request(method="GET", path=f"/v1/ai/actions/{_part(key)}/charge?{urlencode(asked)}")


def _call(body: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return what is said of a call as the body and the key of its request."""
    rest = dict(body)
    key = rest.pop("idempotency_key", None)
    return _given(rest), key


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _seconds(ttl: timedelta | int) -> int:
    return int(ttl.total_seconds()) if isinstance(ttl, timedelta) else ttl


def _part(text: str) -> str:
    return quote(text, safe="")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    raise TypeError(f"A {type(value).__name__} cannot be sent.")


def uuid7() -> str:
    """Return a key that nobody else will use; those of one moment lie together in the till's index."""
    number = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    return str(UUID(int=number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62))


# -- Answers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: Mapping[str, Any]
    is_replay: bool
    retries_taken: int


def answer_of(status: int, headers: Mapping[str, str], content: bytes, *, retries_taken: int) -> Answer:
    """Return what was answered. Raises: the TillError that the answer names."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = None
    if 200 <= status < 300 and body is not None:
        is_replay = headers.get("idempotency-replayed") == "true"
        return Answer(status=status, body=body, is_replay=is_replay, retries_taken=retries_taken)
    raise problem_of(status, headers, body or {}, retries_taken=retries_taken)


def problem_of(
    status: int, headers: Mapping[str, str], body: Mapping[str, Any], *, retries_taken: int
) -> errors.TillError:
    """Return the error that a problem (RFC 9457) names, or the kind its status is of where it names none known here."""
    code = body.get("code")
    kind = errors.BY_CODE.get(str(code)) or errors.BY_STATUS.get(status)
    if kind is None:
        # A till that fell over, or something before it: a write under its key, or of its hold, may be asked again.
        kind = errors.Unavailable if status in RETRIED or status >= 500 else errors.TillError
    detail = body.get("detail") or f"The till answered with status {status}."
    known = {"type", "title", "status", "detail", "code", "request_id"}
    return kind(
        str(detail), code=str(code) if code else None, status=status, retries_taken=retries_taken,
        request_id=body.get("request_id") or headers.get("x-request-id"),
        fields={name: value for name, value in body.items() if name not in known},
    )  # fmt: skip


def unreachable(error: Exception, *, retries_taken: int) -> errors.Unavailable:
    return errors.Unavailable(
        f"The till cannot be reached: {error or type(error).__name__}. Whether it has heard is not known; asked again "
        "with the same idempotency key, it happens once.",
        retries_taken=retries_taken,
    )


def wait_seconds(retries_taken: int, headers: Mapping[str, str] = {}) -> float:
    """Return how long to wait before asking again: as the till says, else ever longer, never in step with others."""
    said = headers.get("retry-after", "")
    longest: float = min(WAIT_MAX_SECONDS, WAIT_FIRST_SECONDS * 2**retries_taken)
    if said.isdigit():
        longest = min(WAIT_MAX_SECONDS, max(longest, float(said)))
    elif said:
        with suppress(ValueError):  # No time that can be read is as if it had said nothing.
            longest = min(WAIT_MAX_SECONDS, max(longest, parsedate_to_datetime(said).timestamp() - time.time()))
    return longest * (0.5 + random.random() / 2)


def hold_receipt(answer: Answer) -> HoldReceipt:
    body = answer.body
    return HoldReceipt(
        hold_id=body["id"], user_id=body["user_id"], state=body["state"], tokens=body["tokens"],
        action_type=body["action_type"], model=body["model"], provider=body.get("provider"),
        metadata=body["metadata"], placed_at=_moment(body["placed_at"]), expires_at=_moment(body["expires_at"]),
        closed_at=None if body["closed_at"] is None else _moment(body["closed_at"]),
        captured_seq=body["captured_seq"], is_replay=answer.is_replay, retries_taken=answer.retries_taken,
    )  # fmt: skip


def receipt(answer: Answer) -> Receipt:
    body = answer.body
    return Receipt(
        id=body["id"], seq=body["seq"], tokens_used=body["tokens_used"], balance_before=body["balance_before"],
        balance_after=body["balance_after"], occurred_at=_moment(body["occurred_at"]),
        created_at=_moment(body["created_at"]), is_replay=answer.is_replay, retries_taken=answer.retries_taken,
    )  # fmt: skip


def balance_of(answer: Answer) -> Balance:
    body = answer.body
    return Balance(**{name: body[name] for name in ("user_id", "balance", "available", "held", "debt")})


def action_of(answer: Answer) -> Action:
    body = answer.body
    known = {name: body[name] for name in Action.__dataclass_fields__}
    for name in ("multiplier", "markup", "cents_per_million_tokens"):
        known[name] = None if body[name] is None else Decimal(body[name])
    of_models = {model: Decimal(each) for model, each in body["model_multipliers"].items()}
    return Action(**known | {"model_multipliers": of_models})


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# -- What an action charges -------------------------------------------------------------------------------------------


def is_the_tills_to_say(rule: Mapping[str, Any]) -> bool:
    """Whether what a call takes depends on what only the till knows: prices, or which model a name means."""
    return rule.get("charge") == "cost_plus" or bool(rule.get("model_multipliers"))


def rounded_up(count: int) -> int:
    """Return a count with its first four bits, at most an eighth more: calls of about one size are asked for once."""
    step = 1 << max(0, count.bit_length() - 4)
    return -(-count // step) * step


def output_tokens_of(rule: Mapping[str, Any], output_tokens: int | None) -> int:
    """Return how many tokens an answer may have: as the caller says, else the action, else the usual."""
    if output_tokens is not None:
        return output_tokens
    allowed = rule.get("max_tokens")
    return allowed if isinstance(allowed, int) else OUTPUT_TOKENS_USUAL


def tokens_for(rule: Mapping[str, Any], input_tokens: int, output_tokens: int) -> int:
    """Return what a call of this size takes by an action's rule, as far as that can be said before it is priced."""
    if rule.get("charge") == "fixed" and isinstance(fixed := rule.get("fixed_tokens"), int):
        return fixed
    try:
        numerator, denominator = Decimal(str(rule.get("multiplier", 1))).as_integer_ratio()
    except (ArithmeticError, ValueError):
        numerator, denominator = 1, 1
    return -(-(input_tokens + output_tokens) * numerator // denominator)
