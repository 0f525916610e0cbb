"""Calling: what is asked about AI calls (holds, captures, spends) as commands, charged and priced on the way.

`Asking` is the way in. The order of checks is fixed: who, how much, what for, the rest, the key.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from tokentill.core import checks
from tokentill.core.companions import Found
from tokentill.core.keys import Key, canonical
from tokentill.core.ledger.commands import OnInsufficient, PlaceHold, RenewHold, Spend, VoidHold
from tokentill.core.ledger.holds import TTL_DEFAULT, TTL_MAX, TTL_MIN, HoldReceipt, address_of
from tokentill.core.prices.actions import OUTPUT_TOKENS_USUAL, AiAction, is_cost_missing, tokens_to_charge
from tokentill.core.usage.pools import POOLS, Pools
from tokentill.core.users import User
from tokentill.errors import (
    HoldNotFound,
    InvalidAmount,
    InvalidRequest,
    InvalidTime,
    TillError,
    UnknownAction,
    UnknownModel,
)
from tokentill.services.calls.costing import Charging, UnknownModels, read_response
from tokentill.services.calls.rates import RatesAsOf, RatesInForce

Who = str | UUID | User
WhichHold = str | UUID  # A hold's id within its account, or its address (`HoldReceipt.id`).
Ttl = timedelta | int  # A whole number is of seconds.

PROVIDER_LENGTH_MAX = 63  # Of a provider's name, and of a tier's.
# Left out of a request's hash where they are not given: a retry of what an older version was asked has none of them.
_SINCE_METERING = frozenset(("provider", "service_tier", "usage_note"))
NO_FINDINGS: tuple[Found, ...] = ()
_POOL_NAMES = frozenset(POOLS)


class Calling:
    """Builds the commands about AI calls. `rates` are what they cost.

    `hold_placed` reads a hold. Raises: HoldNotFound.
    """

    def __init__(
        self,
        *,
        rates: RatesInForce | RatesAsOf,
        unknown_models: UnknownModels,
        new_id: Callable[[], UUID],
        clock: Callable[[], datetime],
        hold_placed: Callable[[User, UUID], HoldReceipt],
    ) -> None:
        self._hold_placed = hold_placed
        self._rates = rates
        self._unknown_models = unknown_models
        self._charging = Charging(unknown_models, new_id)
        self._new_id = new_id
        self._clock = clock

    def spend(
        self,
        user: Who,
        tokens: int | None,
        action_type: str,
        *,
        on_insufficient: OnInsufficient = "refuse",
        model_used: str | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        pools: Mapping[str, int] | None = None,
        cost_estimate: object = None,
        success: bool = True,
        error_message: str | None = None,
        estimated: bool = False,
        provider_request_id: str | None = None,
        provider: str | None = None,
        service_tier: str | None = None,
        response: Mapping[str, object] | None = None,
        usage_note: str | None = None,
        raw_usage: Mapping[str, object] | None = None,
        metadata: Mapping[str, Any] | None = None,
        occurred_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> Spend:
        """An AI operation. How many tokens it costs is the action's rule (`core.prices.actions.tokens_to_charge`).

        `pools` are the exclusive parts of the call's usage; where no counts are given beside them, they are the counts.
        In their stead, `response` may be the provider's answer (or what of it is about usage), to be read here. Usage
        that could not be read says why (`usage_note`), with the provider's own block (`raw_usage`): it is a guess then.
        What the call cost us comes from the price book unless `cost_estimate` says it.

        What may be edited (actions, prices) refuses it later, where it has a key: a repeat of what was taken before is
        answered as it was then.

        Raises: UnknownAction, UnknownModel, InvalidRequest.
        """
        # Every spend comes by here: checks pass what is right at once and look closer only at what is not.
        who = User.of(user)
        provider = checks.text_or_none(provider, "provider", length_max=PROVIDER_LENGTH_MAX)
        if response is not None:
            _require_alone(pools, input_tokens, output_tokens)
            told = read_response(response, provider=provider)
            pools = told.pools
            model_used, service_tier = model_used or told.model, service_tier or told.service_tier
            provider_request_id = provider_request_id or told.request_id
            usage_note, raw_usage = usage_note or told.note, raw_usage or told.raw
        counted = None if pools is None else _counted(pools)
        used = None
        if counted is not None and tokens is None and input_tokens is None and output_tokens is None:
            # Seconds, characters and images are no tokens: a call measured in those has no counts, rather than 0.
            used = Pools(**counted)
            input_tokens, output_tokens = used.input_tokens or None, used.output_tokens or None
        if tokens is not None:
            checks.whole(tokens, "tokens", minimum=0)
        if input_tokens is not None:
            checks.whole(input_tokens, "input_tokens", minimum=0)
        if output_tokens is not None:
            checks.whole(output_tokens, "output_tokens", minimum=0)
        rates = self._rates.followed()
        refused: TillError | None = None
        action = rates.actions.get(action_type) if type(action_type) is str else None
        if action is None or not action.is_active:
            # Usage that has happened is recorded even if its action has been switched off meanwhile.
            try:
                action = self._action(action_type, even_inactive=on_insufficient == "record")
            except UnknownAction as error:
                action = self._rates.now.actions.get(action_type) if isinstance(action_type, str) else None
                if action is None or idempotency_key is None:
                    raise
                refused = error
        _require_known(on_insufficient)
        if occurred_at is not None:
            occurred_at = self._past(occurred_at)
        extra = checks.metadata(metadata)
        cost = checks.cost_or_none(cost_estimate)
        error_message = checks.text_or_none(error_message, "error_message")
        request_id = checks.text_or_none(provider_request_id, "provider_request_id", length_max=255)
        model_used = checks.text_or_none(model_used, "model_used", length_max=255)
        service_tier = checks.text_or_none(service_tier, "service_tier", length_max=PROVIDER_LENGTH_MAX)
        usage_note = checks.text_or_none(usage_note, "usage_note")
        if idempotency_key is None:
            key = Key.fresh(self._new_id())
        else:
            since = () if not (provider or service_tier or usage_note) else (provider, service_tier, usage_note)
            key = Key.of_caller(
                idempotency_key,
                (
                    "spend", str(who.user_id), action.key, tokens, input_tokens, output_tokens,
                    sorted(counted.items()) if counted else None, None if cost is None else str(cost), success,
                    error_message, estimated, request_id, occurred_at and str(occurred_at), model_used,
                    canonical(extra) if extra else None, on_insufficient, *since,
                ),
            )  # fmt: skip
        if model_used is None and action.model is not None:
            model_used, provider = action.model, provider or action.provider
        charged, price_id, found = 0, None, NO_FINDINGS
        try:
            if cost is None and model_used is not None and (counted or input_tokens or output_tokens):
                if used is None:
                    used = Pools(**counted) if counted else Pools.of_counts(input_tokens, output_tokens)
                cost, price_id, found = self._charging.cost(
                    rates, used, model=model_used, provider=provider, service_tier=service_tier,
                    occurred_at=occurred_at or self._clock(), may_be_refused=on_insufficient == "refuse",
                )  # fmt: skip
            charged = tokens_to_charge(
                action, input_tokens=input_tokens, output_tokens=output_tokens, tokens_used=tokens, success=success,
                model=model_used, cost_cents=cost,
            )  # fmt: skip
        except (UnknownModel, InvalidAmount) as error:
            if idempotency_key is None:
                raise
            refused = refused or error
        if refused is None and not found and is_cost_missing(action, cost, success=success):
            found = self._charging.costless(rates, action)
        if usage_note is not None:
            estimated, extra = True, {**extra, "usage_note": usage_note, **_kept(raw_usage)}
            found += self._charging.unreadable(
                rates, usage_note, model=model_used, provider=provider, request_id=request_id
            )
        return Spend(
            who, key, charged if charged <= checks.TOKENS_MAX else checks.whole(charged), action.key, on_insufficient,
            model_used, input_tokens, output_tokens, counted, cost, success, error_message, estimated, request_id,
            extra, occurred_at, None, (), price_id, provider, service_tier, found, None, refused,
        )  # fmt: skip

    def hold(
        self,
        user: Who,
        tokens: int,
        action_type: str,
        *,
        ttl: Ttl = TTL_DEFAULT,
        model: str | None = None,
        provider: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> PlaceHold:
        """Tokens set aside for one call of this action. `tokens` is what is held: no rule of the action multiplies it.

        Raises: UnknownAction, UnknownModel, InvalidRequest.
        """
        who, tokens = User.of(user), checks.whole(tokens)
        action, lives = self._action(action_type), ttl_of(ttl)
        model = checks.text_or_none(model, "model", length_max=255)
        provider = checks.text_or_none(provider, "provider", length_max=PROVIDER_LENGTH_MAX)
        if (called := model or action.model) is not None:
            self._charging.require_known(self._rates.now, called, provider if model else provider or action.provider)
        extra = checks.metadata(metadata)
        since = () if provider is None else (provider,)
        request = (
            "hold",
            tokens,
            action.key,
            lives.total_seconds(),
            model,
            canonical(extra) if extra else None,
            *since,
        )
        return PlaceHold(
            user=who, key=self._key(idempotency_key, who, request), tokens=tokens, action_type=action.key, ttl=lives,
            model=model, provider=provider, metadata=extra,
        )  # fmt: skip

    def renew(self, user: Who, hold_id: WhichHold, *, ttl: Ttl = TTL_DEFAULT) -> RenewHold:
        """More time for an open hold. Raises: InvalidRequest, HoldNotFound."""
        who = User.of(user)
        return RenewHold(user=who, hold_id=hold_of(who, hold_id), ttl=ttl_of(ttl))

    def void(self, user: Who, hold_id: WhichHold) -> VoidHold:
        """A hold that is not needed. Raises: InvalidRequest, HoldNotFound."""
        who = User.of(user)
        return VoidHold(user=who, hold_id=hold_of(who, hold_id))

    def capture(
        self,
        user: Who,
        hold_id: WhichHold,
        tokens: int | None = None,
        *,
        action_type: str | None = None,
        on_insufficient: OnInsufficient = "record",
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        pools: Mapping[str, int] | None = None,
        success: bool = True,
        response: Mapping[str, object] | None = None,
        raw_usage: Mapping[str, object] | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **facts: Any,
    ) -> Spend:
        """The spend that a hold was placed for, whatever it came to; `facts` are the other keywords of `spend`.

        `tokens` are taken as they are. Without them, counts are charged by the rule of the action (`action_type`, else
        the hold's, which is read for it), and without counts all that was held is taken. A failed call takes 0. The
        call has happened: a model without a price is never refused here.

        Raises: UnknownAction, InvalidRequest, HoldNotFound.
        """
        who = User.of(user)
        held = hold_of(who, hold_id)
        if response is not None:
            _require_alone(pools, input_tokens, output_tokens)
            told = read_response(response, provider=facts.get("provider"))
            pools = told.pools
            raw_usage = raw_usage or told.raw
            for name, said in (
                ("model_used", told.model), ("service_tier", told.service_tier), ("usage_note", told.note),
                ("provider_request_id", told.request_id),
            ):  # fmt: skip
                facts[name] = facts.get(name) or said
        counted = None if pools is None else _counted(pools)
        if counted is not None and input_tokens is None and output_tokens is None:
            used = Pools(**counted)
            input_tokens, output_tokens = used.input_tokens or None, used.output_tokens or None
        charged = checks.whole_or_none(tokens, "tokens")
        read = checks.whole_or_none(input_tokens, "input_tokens")
        written = checks.whole_or_none(output_tokens, "output_tokens")
        rates = self._rates.followed()
        # What was held for is still captured when its action has been switched off meanwhile.
        action = None if action_type is None else self._action(action_type, even_inactive=True)
        _require_known(on_insufficient)
        facts = self._facts(success=success, **facts)
        usage_note = facts.pop("usage_note")
        extra = checks.metadata(metadata)
        # In whatever words and how often it is told: a hold is captured once.
        fact = Key.of_fact("capture", held.hex)
        own = None
        if idempotency_key is not None:
            asked = {**facts, "usage_note": usage_note}
            asked = {name: said for name, said in asked.items() if said is not None or name not in _SINCE_METERING}
            request = {
                **asked, "capture": held, "tokens": tokens, "input_tokens": read, "output_tokens": written,
                "action": action_type, "metadata": extra, "pools": counted, "on_insufficient": on_insufficient,
            }  # fmt: skip
            own = self._key(idempotency_key, who, request)

        has_counts = (read, written) != (None, None) or bool(counted)
        rule = action
        is_ruled = charged is None and action is None
        if has_counts and (is_ruled or (facts["model_used"] is None and facts["cost_estimate"] is None)):
            placed = self._hold_placed(who, held)
            rule = action or self._action(placed.action_type, even_inactive=True)
            if facts["model_used"] is None:  # Who names another model than the hold names its provider, too.
                facts["model_used"], facts["provider"] = placed.model, facts["provider"] or placed.provider
        if facts["model_used"] is None and rule is not None and rule.model is not None:
            facts["model_used"], facts["provider"] = rule.model, facts["provider"] or rule.provider
        found = NO_FINDINGS
        if facts["cost_estimate"] is None and facts["model_used"] is not None and has_counts:
            facts["cost_estimate"], facts["price_id"], found = self._charging.cost(
                rates, Pools(**counted) if counted else Pools.of_counts(read, written), model=facts["model_used"],
                provider=facts["provider"], service_tier=facts["service_tier"],
                occurred_at=facts["occurred_at"] or self._clock(), may_be_refused=False,
            )  # fmt: skip
        if not success:
            charged = 0
        elif charged is None and rule is not None and _is_charged(rule, read, written, facts["cost_estimate"]):
            counts = tokens_to_charge(
                rule, input_tokens=read, output_tokens=written, tokens_used=None, success=True,
                model=facts["model_used"], cost_cents=facts["cost_estimate"],
            )  # fmt: skip
            charged = checks.whole(counts, minimum=0)
            if not found and is_cost_missing(rule, facts["cost_estimate"], success=True):
                found = self._charging.costless(rates, rule)
        if usage_note is not None:
            facts["estimated"], extra = True, {**extra, "usage_note": usage_note, **_kept(raw_usage)}
            found += self._charging.unreadable(
                rates, usage_note, model=facts["model_used"], provider=facts["provider"],
                request_id=facts["provider_request_id"],
            )  # fmt: skip
        return Spend(
            user=who, key=own or fact, aliases=(fact,) if own else (), tokens=charged, hold_id=held,
            action_type=None if action is None else action.key, on_insufficient=on_insufficient, pools=counted,
            metadata=extra, input_tokens=read, output_tokens=written, found=found, **facts,
        )  # fmt: skip

    def _facts(
        self,
        *,
        model_used: str | None = None,
        cost_estimate: object = None,
        success: bool = True,
        error_message: str | None = None,
        estimated: bool = False,
        provider_request_id: str | None = None,
        provider: str | None = None,
        service_tier: str | None = None,
        usage_note: str | None = None,
        occurred_at: datetime | None = None,
    ) -> dict[str, Any]:
        """What is recorded of a call and decides nothing, checked."""
        return {
            "model_used": checks.text_or_none(model_used, "model_used", length_max=255),
            "cost_estimate": checks.cost_or_none(cost_estimate),
            "success": success,
            "error_message": checks.text_or_none(error_message, "error_message"),
            "estimated": estimated,
            "provider_request_id": checks.text_or_none(provider_request_id, "provider_request_id", length_max=255),
            "provider": checks.text_or_none(provider, "provider", length_max=PROVIDER_LENGTH_MAX),
            "service_tier": checks.text_or_none(service_tier, "service_tier", length_max=PROVIDER_LENGTH_MAX),
            "usage_note": checks.text_or_none(usage_note, "usage_note"),
            "occurred_at": None if occurred_at is None else self._past(occurred_at),
        }

    def _past(self, occurred_at: datetime) -> datetime:
        """Return when a call happened. Raises: InvalidTime."""
        checked = checks.moment(occurred_at, "occurred_at")
        if checked > self._clock() + timedelta(minutes=5):
            raise InvalidTime("occurred_at lies in the future.", field="occurred_at")
        return checked

    def tokens_for(
        self, action_type: str, input_tokens: int, output_tokens: int | None, *, model: str | None = None,
        provider: str | None = None,
    ) -> int:  # fmt: skip
        """Return what a call of this size would take by its action's rule. Raises: UnknownAction, InvalidAmount.

        None of `output_tokens`: as many as the action's `max_tokens` allow, else the usual. Where the rule asks for its
        cost: at today's usual price, with nothing cached.
        """
        action = self._action(action_type)
        if output_tokens is None:
            output_tokens = action.max_tokens or OUTPUT_TOKENS_USUAL
        cost = None
        model, provider = model or action.model, provider or (None if model else action.provider)
        if action.charge == "cost_plus" and model is not None:
            rates = self._rates.followed()
            cost = rates.book.price(
                Pools.of_counts(input_tokens, output_tokens), provider=provider, model=model, service_tier=None,
                occurred_at=self._clock(),
            ).cost_cents  # fmt: skip
        return tokens_to_charge(
            action, input_tokens=input_tokens, output_tokens=output_tokens, tokens_used=None, success=True,
            model=model, cost_cents=cost,
        )  # fmt: skip

    def knows(self, action_type: str) -> bool:
        """Whether a spend of this action need not ask the database: its rates are known, and looked at lately."""
        action = self._rates.now.actions.get(action_type)
        return action is not None and action.is_active and self._rates.is_fresh

    @property
    def is_fresh(self) -> bool:
        """Whether a capture need not ask the database for edits: somebody has looked lately."""
        return self._rates.is_fresh

    @property
    def has_prices(self) -> bool:
        """Whether pricing a call need not ask the database: the price book is in memory."""
        return self._rates.now.is_book_read

    def learn(self) -> None:
        """Read the actions and prices in force afresh."""
        self._rates.read()

    def warm_up(self) -> None:
        """Read the price book now, rather than with the first call that is priced."""
        _ = self._rates.now.book

    def _action(self, action_type: object, *, even_inactive: bool = False) -> AiAction:
        if not isinstance(action_type, str):
            raise UnknownAction(f"action_type must be a text, not {type(action_type).__name__}.")
        action = self._rates.followed().actions.get(action_type)
        if action is None or not (action.is_active or even_inactive):  # It may have been added or switched on since.
            action = self._rates.read().actions.get(action_type)
        if action is None:
            known = ", ".join(sorted(key for key, each in self._rates.now.actions.items() if each.is_active))
            raise UnknownAction(
                f"No AI action {action_type[:100]!r}; there are {known}.", action_type=action_type[:100]
            )
        if not (action.is_active or even_inactive):
            raise UnknownAction(f"The AI action {action_type!r} is switched off.", action_type=action_type)
        return action

    def _key(self, idempotency_key: str | None, user: User, request: Mapping[str, object] | tuple[object, ...]) -> Key:
        if idempotency_key is None:
            return Key.fresh(self._new_id())
        if isinstance(request, tuple):
            return Key.of_caller(idempotency_key, (str(user.user_id), *request))
        return Key.of_caller(idempotency_key, {**request, "user_id": user.user_id})


def _require_alone(*counts: object) -> None:
    """A response and counts beside it are two answers, of which one would be left alone. Raises: InvalidRequest."""
    if any(count is not None for count in counts):
        raise InvalidRequest("response stands instead of pools, input_tokens and output_tokens.", field="response")


def _counted(pools: Mapping[str, int]) -> dict[str, int]:
    """Return the pools that were used. Raises: InvalidRequest."""
    if type(pools) is dict and pools.keys() <= _POOL_NAMES:
        for count in pools.values():
            if type(count) is not int or not 0 < count <= checks.TOKENS_MAX:
                break
        else:
            return pools.copy()
    if not isinstance(pools, Mapping) or (unknown := sorted(map(str, set(pools) - _POOL_NAMES))):
        said = f"no pool {unknown[0][:60]!r}" if isinstance(pools, Mapping) else "pools must be an object"
        raise InvalidRequest(f"{said}; a call's usage is counted in {', '.join(POOLS)}.", field="pools")
    return Pools(**pools).as_json()


def _is_charged(action: AiAction, input_tokens: int | None, output_tokens: int | None, cost: Decimal | None) -> bool:
    """Whether the action's rule says what a capture takes; else it takes what was held."""
    if action.charge == "cost_plus" and cost is not None:
        return True
    return input_tokens is not None or output_tokens is not None


def _kept(raw_usage: object) -> dict[str, object]:
    """Return a provider's own block as a part of the metadata. Raises: InvalidText when it is too large."""
    return {} if raw_usage is None else {"raw_usage": checks.metadata(raw_usage)}  # type: ignore[arg-type]  # checked there


def _require_known(on_insufficient: str) -> None:
    if on_insufficient not in ("refuse", "record"):
        raise InvalidRequest(f"on_insufficient is 'refuse' or 'record', not {on_insufficient!r}.")


def ttl_of(ttl: object) -> timedelta:
    """Return how long a hold lives: from 1 second to 24 hours. Raises: InvalidTime."""
    shortest, longest = TTL_MIN.total_seconds(), TTL_MAX.total_seconds()
    if isinstance(ttl, timedelta) and TTL_MIN <= ttl <= TTL_MAX:
        return ttl
    if isinstance(ttl, bool) or not isinstance(ttl, timedelta | int):
        raise InvalidTime("ttl must be a timedelta or a whole number of seconds.", field="ttl")
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if not shortest <= seconds <= longest:
        raise InvalidTime(f"ttl must be from {shortest:,.0f} second to {longest:,.0f} (24 hours).", field="ttl")
    return timedelta(seconds=seconds)


def hold_of(user: User, which: WhichHold) -> UUID:
    """Return the hold's id within this account. Raises: HoldNotFound when it can be none of its."""
    if isinstance(which, UUID):
        return which
    not_found = HoldNotFound(f"{user.name} has no hold {str(which)[:100]!r}.", hold_id=str(which)[:100])
    if address := address_of(str(which)):
        if address[0] != user.user_id:
            raise not_found
        return address[1]
    try:
        return UUID(which)
    except (ValueError, AttributeError, TypeError):
        raise not_found from None
