"""What the hot routes are sent, read by msgspec: the same as the models in `bodies` say, many times as fast.

Those stay the one description of a body: OpenAPI shows them, and they say what is wrong with a bad one. The readers
here take what they are sure to understand as pydantic does, and leave the rest to it.

They are stricter than need be in places (an odd way to write a time), which costs such a body some microseconds and
changes nothing. A number of cents keeps all its digits here; there it has been a float.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import ValidationError

from tokentill.core.calls import Call, OnInsufficient, call_of
from tokentill.core.ledger.holds import TTL_DEFAULT
from tokentill.errors import InvalidRequest, MalformedBody, TillError
from tokentill.http.bodies import UsageBody, UsageEvent
from tokentill.http.problems import of_shape

# What msgspec raises: its own errors, and Python's for bad UTF-8 and for depth.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

_PLAIN_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.(\d{3}|\d{6}))?(Z|[+-]([01]\d|2[0-3]):\d\d)", re.ASCII
)
_COST_MAX = 10**12
TTL_SECONDS_DEFAULT = int(TTL_DEFAULT.total_seconds())


class Usage(msgspec.Struct, frozen=True):
    """A usage body that has the right shape, as `Asking.spend` is asked."""

    user_id: str
    tokens: int | None
    action_type: str
    details: dict[str, Any]  # The other keywords of `Asking.spend`, but for the key.
    idempotency_key: str | None = None  # Of an event in a batch.

    @property
    def on_insufficient(self) -> OnInsufficient:
        said: OnInsufficient = self.details["on_insufficient"]
        return said

    @property
    def call(self) -> Call:
        details = {name: said for name, said in self.details.items() if name != "on_insufficient"}
        return call_of(details, tokens=self.tokens, action_type=self.action_type)

    @classmethod
    def of(cls, body: UsageBody) -> "Usage":
        details = body.model_dump(exclude={"user_id", "tokens", "action_type", "idempotency_key"})
        key = body.idempotency_key if isinstance(body, UsageEvent) else None
        return cls(body.user_id, body.tokens, body.action_type, details, key)


class CallSent(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is said of an AI call, whether it was held for or not.

    A field stands here under each of its names: of two at once, pydantic says which is too many. By keyword only, so
    that these come after a body's own fields: msgspec looks for each name from where it found the last one.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    pools: dict[str, int] | None = None
    model_used: str | UnsetType | None = UNSET
    model_used_too: str | UnsetType | None = msgspec.field(name="model", default=UNSET)
    cost_estimate: Decimal | None = None
    success: bool = True
    error_message: str | None = None
    estimated: bool = False
    metadata: dict[str, Any] | None = None
    occurred_at: str | None = None
    provider_request_id: str | None = None
    provider: str | None = None
    service_tier: str | None = None
    response: dict[str, Any] | None = None
    usage_note: str | None = None
    raw_usage: dict[str, Any] | None = None
    on_insufficient: OnInsufficient = "refuse"


class UsageSent(CallSent):
    """The fields of `bodies.UsageBody`."""

    action_type: str
    user_id: str | UnsetType = UNSET
    user_id_too: str | UnsetType = msgspec.field(name="userId", default=UNSET)
    tokens: int | UnsetType | None = UNSET
    tokens_too: int | UnsetType | None = msgspec.field(name="tokens_used", default=UNSET)


class EventSent(UsageSent):
    idempotency_key: str | None = None


class BatchSent(msgspec.Struct, forbid_unknown_fields=True):
    events: list[EventSent]


class RawBatchSent(msgspec.Struct, forbid_unknown_fields=True):
    """A batch of which some event is not as it should be, or oddly written."""

    events: list[msgspec.Raw]


class HoldSent(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of `bodies.HoldBody`."""

    action_type: str
    tokens: int
    user_id: str | UnsetType = UNSET
    user_id_too: str | UnsetType = msgspec.field(name="userId", default=UNSET)
    ttl_seconds: int = TTL_SECONDS_DEFAULT
    model: str | UnsetType | None = UNSET
    model_too: str | UnsetType | None = msgspec.field(name="model_used", default=UNSET)
    provider: str | None = None
    metadata: dict[str, Any] | None = None


class RenewSent(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of `bodies.RenewBody`."""

    ttl_seconds: int = TTL_SECONDS_DEFAULT


class CaptureSent(CallSent):
    """The fields of `bodies.CaptureBody`."""

    action_type: str | None = None
    tokens: int | UnsetType | None = UNSET
    tokens_too: int | UnsetType | None = msgspec.field(name="tokens_used", default=UNSET)
    on_insufficient: OnInsufficient = "record"


def usage_of(sent: UsageSent, idempotency_key: str | None = None) -> Usage | None:
    """Return what was sent, or None when pydantic must judge it."""
    user_id, other = sent.user_id, sent.user_id_too
    if other is not UNSET:
        if user_id is not UNSET:
            return None
        user_id = other
    elif user_id is UNSET:
        return None
    tokens, counted = sent.tokens, sent.tokens_too
    if counted is not UNSET:
        if tokens is not UNSET:
            return None
        tokens = counted
    details = _details_of(sent)
    if details is None:
        return None
    return Usage(user_id, None if tokens is UNSET else tokens, sent.action_type, details, idempotency_key)


def hold_of(sent: HoldSent) -> dict[str, Any] | None:
    """Return what was sent as the keywords of `Asking.hold`, or None when pydantic must judge it."""
    user_id, other = sent.user_id, sent.user_id_too
    if other is not UNSET:
        if user_id is not UNSET:
            return None
        user_id = other
    elif user_id is UNSET:
        return None
    model, named = sent.model, sent.model_too
    if named is not UNSET:
        if model is not UNSET:
            return None
        model = named
    return {
        "user": user_id, "tokens": sent.tokens, "action_type": sent.action_type, "ttl": sent.ttl_seconds,
        "model": None if model is UNSET else model, "provider": sent.provider, "metadata": sent.metadata,
    }  # fmt: skip


def capture_of(sent: CaptureSent) -> dict[str, Any] | None:
    """Return what was sent as keywords of `Asking.capture`, or None when pydantic must judge it."""
    tokens, counted = sent.tokens, sent.tokens_too
    if counted is not UNSET:
        if tokens is not UNSET:
            return None
        tokens = counted
    details = _details_of(sent)
    if details is not None:
        if tokens is not UNSET:
            details["tokens"] = tokens
        if sent.action_type is not None:
            details["action_type"] = sent.action_type
    return details


def _details_of(sent: CallSent) -> dict[str, Any] | None:
    """Return what was said of a call, by the names that `Asking` has for it, or None when pydantic must judge it."""
    model, named = sent.model_used, sent.model_used_too
    if named is not UNSET:
        if model is not UNSET:
            return None
        model = named
    cost = sent.cost_estimate
    if cost is not None and not (cost.is_finite() and 0 <= cost <= _COST_MAX):
        return None
    details: dict[str, Any] = {"on_insufficient": sent.on_insufficient}
    if sent.occurred_at is not None:
        occurred_at = moment_of(sent.occurred_at)
        if occurred_at is None:
            return None
        details["occurred_at"] = occurred_at
    # Most of it is left out most of the time, and what is left out need not be passed on.
    if sent.input_tokens is not None:
        details["input_tokens"] = sent.input_tokens
    if sent.output_tokens is not None:
        details["output_tokens"] = sent.output_tokens
    if sent.pools is not None:
        details["pools"] = sent.pools
    if model is not UNSET and model is not None:
        details["model_used"] = model
    if cost is not None:
        details["cost_estimate"] = cost
    if not sent.success:
        details["success"] = False
    if sent.error_message is not None:
        details["error_message"] = sent.error_message
    if sent.estimated:
        details["estimated"] = True
    if sent.metadata is not None:
        details["metadata"] = sent.metadata
    if sent.provider_request_id is not None:
        details["provider_request_id"] = sent.provider_request_id
    if sent.provider is not None:
        details["provider"] = sent.provider
    if sent.service_tier is not None:
        details["service_tier"] = sent.service_tier
    if sent.response is not None:
        details["response"] = sent.response
    if sent.usage_note is not None:
        details["usage_note"] = sent.usage_note
    if sent.raw_usage is not None:
        details["raw_usage"] = sent.raw_usage
    return details


def moment_of(text: str) -> datetime | None:
    """Return the time that a plainly written text names, in UTC; None for any other text."""
    if not _PLAIN_TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def judged(event: object) -> Usage | TillError:
    """Return what pydantic makes of one event of a batch: the usage, or what is wrong with it."""
    if not isinstance(event, dict):
        return InvalidRequest("An event is a JSON object.", errors=[{"field": "event", "message": "must be an object"}])
    try:
        return Usage.of(UsageEvent.model_validate(event))
    except ValidationError as error:
        return of_shape([{**each, "loc": ("body", *each["loc"])} for each in error.errors()])
    except RecursionError:
        return MalformedBody("The event is nested too deeply.")
