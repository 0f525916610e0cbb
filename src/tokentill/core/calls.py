"""A call: what is said of one AI operation, from the request that tells of it to the row that records it.

Every edge makes a `Call`: HTTP decodes its bodies into one, and keywords become one in `call_of`. `services.calls`
reads it (a provider's response becomes pools, texts and times are checked), and the ledger keeps it in the row. Who
made the call and the key of the request are no part of it.

A field is written once, in `Call`. Its check, its place in a request's hash and its keyword are in the tables below;
its column is in `store.journal`.

Units: tokens are whole; `cost_estimate` is cents (US) with six decimals. Times are aware.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypedDict

from tokentill.core import checks
from tokentill.core.keys import canonical
from tokentill.core.values import Meta, Value
from tokentill.errors import InvalidRequest

PROVIDER_LENGTH_MAX = 63  # Of a provider's name, and of a tier's.
ID_LENGTH_MAX = 255  # Of a model's name, and of a provider's name of a call.

OnInsufficient = Literal["refuse", "record"]

# What the API's document says of a count; the till itself checks it, so that every edge has the same words for it.
Count = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": checks.TOKENS_MAX})]


class Call(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of an AI call. None: nothing was said of it."""

    action_type: str | None = None  # What the app called for. Of a capture None: what the hold is for.
    tokens: Count | None = None  # What it took, where the caller says so; else the action's rule does.
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    pools: Annotated[
        Mapping[str, Count] | None, Meta(description="The exclusive parts of the call's usage, as counts.")
    ] = None
    model_used: str | None = None
    cost_estimate: Annotated[Decimal | None, Meta(description="In cents, with fractions.")] = None
    success: Annotated[bool, Meta(description="A failed operation is recorded and costs no tokens.")] = True
    error_message: str | None = None
    estimated: Annotated[bool, Meta(description="The usage is a guess: nobody could say it.")] = False
    metadata: Mapping[str, Any] | None = None
    occurred_at: Annotated[datetime, Meta(tz=True)] | None = None  # None: now.
    provider_request_id: str | None = None
    provider: Annotated[str | None, Meta(description="Who served the call: openai, anthropic, google, …")] = None
    service_tier: Annotated[str | None, Meta(description="Where it is not the usual one: batch, flex, priority, …")] = (
        None
    )
    response: Annotated[
        Mapping[str, Any] | None,
        Meta(description="The provider's answer, or what of it is about usage: read here, instead of `pools`."),
    ] = None
    usage_note: Annotated[str | None, Meta(description="Why the usage is a guess; then somebody is told.")] = None
    raw_usage: Annotated[
        Mapping[str, Any] | None, Meta(description="The provider's own block, where it could not be read.")
    ] = None


FIELDS = Call.__struct_fields__


class CallFields(TypedDict, total=False):
    """The keywords by which a call is told of in Python, beside its action and its tokens."""

    input_tokens: int | None
    output_tokens: int | None
    pools: Mapping[str, int] | None
    model_used: str | None
    model: str | None  # Another name of `model_used`.
    cost_estimate: Decimal | float | str | None  # Cents, with fractions.
    success: bool
    error_message: str | None
    estimated: bool
    metadata: Mapping[str, Any] | None
    occurred_at: datetime | None
    provider_request_id: str | None
    provider: str | None
    service_tier: str | None
    response: Mapping[str, Any] | None
    usage_note: str | None
    raw_usage: Mapping[str, Any] | None


KEYWORDS = frozenset(CallFields.__annotations__)


def call_of(said: Mapping[str, Any] | CallFields, *, tokens: int | None, action_type: str | None) -> Call:
    """Return the call that keywords tell of; what they say is not checked yet.

    Raises: TypeError for a keyword that is none, InvalidRequest for two models.
    """
    try:
        return Call(tokens=tokens, action_type=action_type, **said)
    except TypeError:
        unknown = next((name for name in said if name not in KEYWORDS), None)
        if unknown is not None:
            raise _unknown(unknown) from None
        fields: dict[str, Any] = dict(said)
        fields["model_used"] = one_model(fields.pop("model"), fields.get("model_used"))
        return Call(tokens=tokens, action_type=action_type, **fields)


def one_model(model: str | None, model_used: str | None) -> str | None:
    """Return the model that was named in one of two ways. Raises: InvalidRequest when it is two models."""
    if model is not None and model_used is not None and model != model_used:
        raise InvalidRequest(
            f"model says {str(model)[:60]!r} and model_used {str(model_used)[:60]!r}: they are one thing, so give one.",
            field="model",
        )
    return model_used if model is None else model


def _unknown(name: str) -> TypeError:
    near = get_close_matches(name, (*KEYWORDS, "tokens", "action_type", "idempotency_key", "on_insufficient"), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(sorted(KEYWORDS))}."
    return TypeError(f"A call has no {name!r}. {hint}")


# -- Checks ------------------------------------------------------------------------------------------------------------


def _name(value: object, name: str) -> str | None:
    return checks.text_or_none(value, name, length_max=PROVIDER_LENGTH_MAX)


def _id(value: object, name: str) -> str | None:
    return checks.text_or_none(value, name, length_max=ID_LENGTH_MAX)


# In this order. Counts are checked before these: how much comes before the rest.
_CHECKS: tuple[tuple[str, Callable[[Any, str], object]], ...] = (
    ("occurred_at", checks.moment),
    ("metadata", lambda value, _: checks.metadata(value)),
    ("cost_estimate", checks.cost_or_none),
    ("error_message", checks.text_or_none),
    ("provider_request_id", _id),
    ("model_used", _id),
    ("provider", _name),
    ("service_tier", _name),
    ("usage_note", checks.text_or_none),
)


def check(call: Call, changes: dict[str, Any]) -> None:
    """Add what the checks make of a call's fields, counts apart, to the changes to it. Raises: InvalidRequest."""
    for name, checked in _CHECKS:
        value = getattr(call, name)
        if value is not None and (found := checked(value, name)) is not value:
            changes[name] = found


# -- What a request's hash is made of ----------------------------------------------------------------------------------

# Part of every request from the beginning, in one order for spends.
_ALWAYS = (
    "tokens", "input_tokens", "output_tokens", "pools", "cost_estimate", "success", "error_message", "estimated",
    "provider_request_id", "occurred_at", "model_used", "metadata",
)  # fmt: skip
# Came later: left out where none of them is given, since a retry of what an older version was asked has none of them.
_SINCE_METERING = ("provider", "service_tier", "usage_note")
# Say nothing that the others do not, or are told apart by what is read from them.
_LEFT_OUT = ("action_type", "response", "raw_usage")
# Whatever came later still: part of a hash where it is given, by its name.
_SINCE = tuple(name for name in FIELDS if name not in (*_ALWAYS, *_SINCE_METERING, *_LEFT_OUT))


def spend_request(user_id: str, action: str, call: Call, on_insufficient: OnInsufficient) -> tuple[object, ...]:
    """Return what tells this spend from another one under the same key: the call as it was read, in a fixed order."""
    pools, cost, occurred_at, metadata = call.pools, call.cost_estimate, call.occurred_at, call.metadata
    provider, service_tier, usage_note = call.provider, call.service_tier, call.usage_note
    since = () if not (provider or service_tier or usage_note) else (provider, service_tier, usage_note)
    return (
        "spend", user_id, action, call.tokens, call.input_tokens, call.output_tokens,
        sorted(pools.items()) if pools else None, None if cost is None else str(cost), call.success,
        call.error_message, call.estimated, call.provider_request_id, occurred_at and str(occurred_at),
        call.model_used, canonical(metadata) if metadata else None, on_insufficient, *since, *_given_since(call),
    )  # fmt: skip


def capture_request(hold_id: object, call: Call, on_insufficient: OnInsufficient) -> dict[str, object]:
    """Return what tells this capture from another one under the same key, by names."""
    request: dict[str, object] = {name: getattr(call, name) for name in _ALWAYS}
    request |= {name: said for name in _SINCE_METERING if (said := getattr(call, name)) is not None}
    request |= dict(_given_since(call))
    own = {"capture": hold_id, "action": call.action_type, "on_insufficient": on_insufficient}
    return {**request, "metadata": call.metadata or {}, **own}


def _given_since(call: Call) -> tuple[tuple[str, object], ...]:
    return tuple((name, said) for name in _SINCE if (said := getattr(call, name)) is not None)
