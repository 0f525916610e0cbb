"""Charging: what a call cost us, and what is said of it where that cannot be known.

A cost that is not known is None, never 0, and somebody is told (`Found`). Whether a model without a price is taken at
all is the host's choice (`UnknownModels`).

Units: cents (US) with six decimals.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple
from uuid import UUID

from tokentill.core.checks import storable
from tokentill.core.companions import Found
from tokentill.core.prices.actions import AiAction
from tokentill.core.usage.pools import Pools, UnreadableUsage
from tokentill.core.usage.reading import fallback_pools, read_service_tier, read_usage
from tokentill.errors import InvalidRequest, UnknownModel
from tokentill.services.calls.rates import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownModels:
    """What is done with a call of a model that the price book does not have.

    `record`: it has no cost, and a finding says so. `refuse`: it is refused before it is made (a hold, or a spend that
    may be refused); one that has happened is recorded. `fallback`: it costs what `fallback` costs, and a finding says
    so. `fallback` is a model's name, with its provider before a slash if need be.
    """

    policy: Literal["record", "refuse", "fallback"] = "record"
    fallback: str | None = None


class Cost(NamedTuple):
    """What a call cost us, and by which entry of the price book."""

    cents: Decimal | None = None
    price_id: int | None = None
    found: tuple[Found, ...] = ()


_NUMBER = re.compile(r"\d+")


class Charging:
    """Prices calls by the rates that it is given with each."""

    def __init__(self, unknown_models: UnknownModels, new_id: Callable[[], UUID]) -> None:
        self._unknown, self._new_id = unknown_models, new_id

    def cost(
        self,
        rates: Rates,
        pools: Pools,
        *,
        model: str,
        provider: str | None,
        service_tier: str | None,
        occurred_at: datetime,
        may_be_refused: bool,
    ) -> Cost:
        """Return what a call of this model cost. Raises: UnknownModel where such calls are refused."""
        priced = rates.book.price(
            pools, provider=provider, model=model, service_tier=service_tier, occurred_at=occurred_at
        )
        if priced.note is None:
            return Cost(priced.cost_cents, priced.price_id)
        name = f"{provider}/{model}" if provider else model
        if priced.note != "unknown_model":
            found = self._found(rates, "unpriced_usage", name, f"a price for it ({priced.note})", "recorded, no cost")
            return Cost(None, priced.price_id, found)
        if self._unknown.policy == "refuse" and may_be_refused:
            raise unknown_model(model, provider)
        if self._unknown.policy == "fallback" and self._unknown.fallback is not None:
            # Who serves it is in front of the name, and the name may have slashes of its own.
            fallback = rates.book.price(
                pools, provider=None, model=self._unknown.fallback, service_tier=None, occurred_at=occurred_at
            )
            if fallback.cost_cents is not None:
                found = self._found(
                    rates, "unknown_model", name, "a model of the price book", f"priced as {self._unknown.fallback}"
                )
                return Cost(fallback.cost_cents, fallback.price_id, found)
        return Cost(
            None, None, self._found(rates, "unknown_model", name, "a model of the price book", "recorded, no cost")
        )

    def costless(self, rates: Rates, action: AiAction) -> tuple[Found, ...]:
        """Return the finding about calls that are charged by their cost and do not say what they were of."""
        return self._found(
            rates, "unpriced_usage", action.key, "a cost, or a model and what it used, to charge by",
            "charged as if it were metered",
        )  # fmt: skip

    def require_known(self, rates: Rates, model: str, provider: str | None) -> None:
        """Raises: UnknownModel where calls of such models are refused, and this is one."""
        if self._unknown.policy == "refuse" and not rates.book.knows(model, provider):
            raise unknown_model(model, provider)

    def unreadable(
        self, rates: Rates, note: str, *, model: str | None, provider: str | None, request_id: str | None
    ) -> tuple[Found, ...]:  # fmt: skip
        """Return the finding about calls whose usage could not be read: one for all that are so for one reason.

        Each of their rows is marked and keeps what the provider sent.
        """
        who = f"{provider or 'unknown provider'}/{model or 'unknown model'}"
        subject = f"{who}: {_NUMBER.sub('N', note)}"[:255]
        first = f"; first seen with {request_id}" if request_id else ""
        return self._found(
            rates, "unreadable_usage", subject, "usage that can be read", f"charged by a guess: {note}{first}"[:500]
        )

    def _found(self, rates: Rates, kind: str, subject: str, expected: str, found: str) -> tuple[Found, ...]:
        if not rates.tells(kind, subject):
            return ()
        return (Found(id=self._new_id(), kind=kind, subject=subject, expected=expected, found=found),)


def unknown_model(model: str, provider: str | None) -> UnknownModel:
    by = f" of {provider}" if provider else ""
    return UnknownModel(
        f"The price book has no model {model[:100]!r}{by}, and calls without a price are refused "
        "(TILL_UNKNOWN_MODEL). Set one with `till prices set`.",
        model=model[:100],
    )  # fmt: skip


class Told(NamedTuple):
    """What a provider's response tells of a call."""

    pools: dict[str, int] | None  # None: nothing at all is known.
    model: str | None
    request_id: str | None
    service_tier: str | None
    note: str | None  # Why the pools are a guess.
    raw: Mapping[str, object] | None  # The provider's own block, where it could not be read.


def read_response(response: Mapping[str, object], *, provider: str | None) -> Told:
    """Read what a call used from the provider's response, or what is charged where it contradicts itself.

    Raises: InvalidRequest without a provider.
    """
    if not isinstance(response, Mapping):
        raise InvalidRequest("response must be a JSON object: the provider's answer.", field="response")
    if provider is None:
        raise InvalidRequest("provider: say whose response it is (openai, anthropic, google, …).", field="provider")
    usage = read_usage(response, provider=provider)
    model, request_id = response.get("model") or response.get("modelVersion"), response.get("id")
    note, raw, pools = None, None, None
    if isinstance(usage, UnreadableUsage):
        note = usage.reason
        raw = usage.raw if isinstance(usage.raw, Mapping) else None
        guessed = fallback_pools(usage.raw, estimate=None)
        pools = None if guessed is None else guessed.as_json()
    else:
        pools = usage.as_json()
    return Told(
        pools,
        storable(model, 255) if isinstance(model, str) else None,
        storable(request_id, 255) if isinstance(request_id, str) else None,
        read_service_tier(response),
        note,
        raw,
    )
