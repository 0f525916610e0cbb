"""Calling: what is asked about AI calls (holds, captures, spends) as commands, charged and priced on the way.

A spend and a capture go one way, a function a step: the call is read, its request gets its key, its usage gets a price,
and the action's rule says what is charged. The order of checks is fixed: who, how much, what for, the rest, the key.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Unpack
from uuid import UUID

from tokentill.core import checks
from tokentill.core.calls import (
    ID_LENGTH_MAX,
    PROVIDER_LENGTH_MAX,
    Call,
    CallFields,
    OnInsufficient,
    call_of,
    capture_request,
    spend_request,
)
from tokentill.core.companions import Found
from tokentill.core.keys import Key, canonical
from tokentill.core.ledger.commands import Charge, PlaceHold, RenewHold, Spend, VoidHold
from tokentill.core.ledger.holds import TTL_DEFAULT, TTL_MAX, TTL_MIN, HoldReceipt, address_of
from tokentill.core.prices.actions import OUTPUT_TOKENS_USUAL, AiAction, is_cost_missing, tokens_to_charge
from tokentill.core.usage.pools import Pools
from tokentill.core.users import User
from tokentill.core.values import Value, replace
from tokentill.errors import (
    HoldNotFound,
    InvalidAmount,
    InvalidRequest,
    InvalidTime,
    TillError,
    UnknownAction,
    UnknownModel,
)
from tokentill.services.calls.costing import Charging, UnknownModels
from tokentill.services.calls.rates import Rates, RatesInForce
from tokentill.services.calls.reading import noted, pools_of, read_counts, read_rest

Who = str | UUID | User
WhichHold = str | UUID  # A hold's id within its account, or its address (`HoldReceipt.id`).
Ttl = timedelta | int  # A whole number is of seconds.


class Asked(Value, frozen=True):
    """How a call is asked for: what of it decides how the steps go."""

    who: User
    held: UUID | None  # The hold that it captures.
    on_insufficient: OnInsufficient
    idempotency_key: str | None
    may_ask: bool  # Whether the database may be asked for what is not in memory.


class Calling:
    """Builds the commands about AI calls. `rates` are what they cost.

    `hold_placed` reads a hold. Raises: HoldNotFound.

    `may_ask=False` asks the database nothing: an action that is not in memory is an unknown one. Whoever must not wait
    asks `must_read` first.
    """

    def __init__(
        self,
        *,
        rates: RatesInForce,
        unknown_models: UnknownModels,
        new_id: Callable[[], UUID],
        clock: Callable[[], datetime],
        hold_placed: Callable[[User, UUID], HoldReceipt],
    ) -> None:
        self._hold_placed = hold_placed
        self._rates = rates
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
        idempotency_key: str | None = None,
        **said: Unpack[CallFields],
    ) -> Spend:
        """An AI operation, told of by keywords: `spend_of`, whose errors it raises; TypeError for an unknown one."""
        call = call_of(said, tokens=tokens, action_type=action_type)
        return self._asked(Asked(User.of(user), None, on_insufficient, idempotency_key, True), call)

    def spend_of(
        self,
        user: Who,
        call: Call,
        *,
        on_insufficient: OnInsufficient = "refuse",
        idempotency_key: str | None = None,
        may_ask: bool = True,
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
        return self._asked(Asked(User.of(user), None, on_insufficient, idempotency_key, may_ask), call)

    def capture(
        self,
        user: Who,
        hold_id: WhichHold,
        tokens: int | None = None,
        *,
        action_type: str | None = None,
        on_insufficient: OnInsufficient = "record",
        idempotency_key: str | None = None,
        **said: Unpack[CallFields],
    ) -> Spend:
        """The spend that a hold was placed for, by keywords: `capture_of`, whose errors it raises; TypeError."""
        call = call_of(said, tokens=tokens, action_type=action_type)
        return self.capture_of(user, hold_id, call, on_insufficient=on_insufficient, idempotency_key=idempotency_key)

    def capture_of(
        self,
        user: Who,
        hold_id: WhichHold,
        call: Call,
        *,
        on_insufficient: OnInsufficient = "record",
        idempotency_key: str | None = None,
        may_ask: bool = True,
    ) -> Spend:
        """The spend that a hold was placed for, whatever it came to.

        `tokens` are taken as they are. Without them, counts are charged by the rule of the action (`action_type`, else
        the hold's, which is read for it), and without counts all that was held is taken. A failed call takes 0. The
        call has happened: a model without a price is never refused here.

        Raises: UnknownAction, InvalidRequest, HoldNotFound.
        """
        who = User.of(user)
        asked = Asked(who, hold_of(who, hold_id), on_insufficient, idempotency_key, may_ask)
        return self._asked(asked, call)

    def must_read(self, call: Call, *, is_captured: bool = False) -> bool:
        """Whether the database has to be asked about this call: for its action, for edits, for the hold it captures."""
        if not is_captured:
            return not (call.action_type is not None and self.knows(call.action_type))
        if call.action_type is not None and not self.knows(call.action_type):
            return True
        if call.input_tokens is None and call.output_tokens is None and call.pools is None and call.response is None:
            return False
        # Charged by the rule of the hold's action, and priced by the model that the hold names: both in the database.
        if call.action_type is None and call.tokens is None:
            return True
        return (call.model_used is None and call.cost_estimate is None) or not self._rates.is_fresh

    # -- The steps of a spend and a capture ----------------------------------------------------------------------------

    def _asked(self, asked: Asked, call: Call) -> Spend:
        """Read, key, price, charge. Every spend comes by here."""
        call, changes = read_counts(call, is_captured=asked.held is not None)
        rates = self._rates.followed() if asked.may_ask else self._rates.now
        action, refused = self._action_for(asked, call.action_type, rates)
        _require_known(asked.on_insufficient)
        call = read_rest(call, changes, self._clock)
        key, aliases = self._key_for(asked, action, call)
        call, rule = self._served(asked, action, call)
        call, charge = self._charged(asked, rates, rule, call, refused)
        if call.usage_note is not None:
            call = noted(call)
        return Spend(asked.who, key, call, charge, asked.on_insufficient, asked.held, aliases)

    def _action_for(
        self, asked: Asked, action_type: object, rates: Rates
    ) -> tuple[AiAction | None, UnknownAction | None]:  # fmt: skip
        """Return the action, and why it is refused, should this be no repeat. None: it is the hold's.

        Raises: UnknownAction.
        """
        if asked.held is not None:
            # What was held for is still captured when its action has been switched off meanwhile.
            if action_type is None:
                return None, None
            return self._action(action_type, even_inactive=True, may_ask=asked.may_ask), None
        action = rates.actions.get(action_type) if type(action_type) is str else None
        if action is not None and action.is_active:
            return action, None
        try:
            # Usage that has happened is recorded even if its action has been switched off meanwhile.
            is_recorded = asked.on_insufficient == "record"
            return self._action(action_type, even_inactive=is_recorded, may_ask=asked.may_ask), None
        except UnknownAction as error:
            action = self._rates.now.actions.get(action_type) if isinstance(action_type, str) else None
            if action is None or asked.idempotency_key is None:
                raise
            return action, error

    def _key_for(self, asked: Asked, action: AiAction | None, call: Call) -> tuple[Key, tuple[Key, ...]]:
        """Return the request's key, and its other names. Raises: InvalidText."""
        who, own = asked.who, asked.idempotency_key
        if asked.held is None:
            assert action is not None
            if own is None:
                return Key.fresh(self._new_id()), ()
            return Key.of_caller(own, spend_request(str(who.user_id), action.key, call, asked.on_insufficient)), ()
        # In whatever words and how often it is told: a hold is captured once.
        fact = Key.of_fact("capture", asked.held.hex)
        if own is None:
            return fact, ()
        return self._key(own, who, capture_request(asked.held, call, asked.on_insufficient)), (fact,)

    def _served(self, asked: Asked, action: AiAction | None, call: Call) -> tuple[Call, AiAction | None]:
        """Return the call with who served it, by the hold and the action, and the action whose rule charges it.

        Who names another model than the hold or the action names its provider, too. Raises: HoldNotFound.
        """
        model, provider, rule = call.model_used, call.provider, action
        if asked.held is not None and _is_counted(asked, call):
            is_ruled = call.tokens is None and action is None
            if is_ruled or (model is None and call.cost_estimate is None):
                placed = self._hold_placed(asked.who, asked.held)
                rule = action or self._action(placed.action_type, even_inactive=True, may_ask=asked.may_ask)
                if model is None:
                    model, provider = placed.model, provider or placed.provider
        if model is None and rule is not None and rule.model is not None:
            model, provider = rule.model, provider or rule.provider
        if model is call.model_used and provider is call.provider:
            return call, rule
        return replace(call, model_used=model, provider=provider), rule

    def _charged(
        self, asked: Asked, rates: Rates, rule: AiAction | None, call: Call, refused: TillError | None
    ) -> tuple[Call, Charge]:
        """Return the call with what it cost us, and what the account is charged for it.

        Raises: UnknownModel, InvalidAmount; not where it may be a repeat: then the charge says so.
        """
        tokens, price_id = 0 if asked.held is None else None, None
        found: tuple[Found, ...] = ()
        try:
            if call.cost_estimate is None and call.model_used is not None and _is_counted(asked, call):
                cost, price_id, found = self._charging.cost(
                    rates, pools_of(call), model=call.model_used, provider=call.provider,
                    service_tier=call.service_tier, occurred_at=call.occurred_at or self._clock(),
                    may_be_refused=asked.held is None and asked.on_insufficient == "refuse",
                )  # fmt: skip
                if cost is not None:
                    call = replace(call, cost_estimate=cost)
            tokens, is_ruled = _tokens(asked, rule, call)
        except (UnknownModel, InvalidAmount) as error:
            if asked.held is not None or asked.idempotency_key is None:
                raise
            refused, is_ruled = refused or error, False
        if tokens is not None and tokens > checks.TOKENS_MAX:
            checks.whole(tokens)
        if is_ruled and refused is None and not found:
            assert rule is not None
            if is_cost_missing(rule, call.cost_estimate, success=call.success):
                found = self._charging.costless(rates, rule)
        if call.usage_note is not None:
            found += self._charging.unreadable(
                rates, call.usage_note, model=call.model_used, provider=call.provider,
                request_id=call.provider_request_id,
            )  # fmt: skip
        return call, Charge(tokens, price_id, found, refused)

    # -- Holds -------------------------------------------------------------------------------------------------------

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
        may_ask: bool = True,
    ) -> PlaceHold:
        """Tokens set aside for one call of this action. `tokens` is what is held: no rule of the action multiplies it.

        Raises: UnknownAction, UnknownModel, InvalidRequest.
        """
        who, tokens = User.of(user), checks.whole(tokens)
        action, lives = self._action(action_type, may_ask=may_ask), ttl_of(ttl)
        model = checks.text_or_none(model, "model", length_max=ID_LENGTH_MAX)
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
    def has_prices(self) -> bool:
        """Whether pricing a call need not ask the database: the price book is in memory."""
        return self._rates.now.is_book_read

    def learn(self) -> None:
        """Read the actions and prices in force afresh."""
        self._rates.read()

    def warm_up(self) -> None:
        """Read the price book now, rather than with the first call that is priced."""
        _ = self._rates.now.book

    def _action(self, action_type: object, *, even_inactive: bool = False, may_ask: bool = True) -> AiAction:
        if not isinstance(action_type, str):
            raise UnknownAction(f"action_type must be a text, not {type(action_type).__name__}.")
        rates = self._rates.followed() if may_ask else self._rates.now
        action = rates.actions.get(action_type)
        if may_ask and (action is None or not (action.is_active or even_inactive)):
            # It may have been added or switched on since.
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


def _is_counted(asked: Asked, call: Call) -> bool:
    """Whether usage was counted. Of a spend a 0 is as good as nothing; what a hold was placed for, it tells of."""
    if asked.held is None:
        return bool(call.pools or call.input_tokens or call.output_tokens)
    return call.input_tokens is not None or call.output_tokens is not None or bool(call.pools)


def _tokens(asked: Asked, rule: AiAction | None, call: Call) -> tuple[int | None, bool]:
    """Return what the account is charged, and whether that is by the action's rule. Raises: InvalidAmount."""
    tokens_used = call.tokens
    if asked.held is not None:  # Taken as said; and what was held, where neither that nor counts are.
        if not call.success:
            return 0, False
        if tokens_used is not None or rule is None or not _is_charged(rule, call):
            return tokens_used, False
    assert rule is not None
    charged = tokens_to_charge(
        rule, input_tokens=call.input_tokens, output_tokens=call.output_tokens, tokens_used=tokens_used,
        success=call.success, model=call.model_used, cost_cents=call.cost_estimate,
    )  # fmt: skip
    return charged, True


def _is_charged(action: AiAction, call: Call) -> bool:
    """Whether the action's rule says what a capture takes; else it takes what was held."""
    if action.charge == "cost_plus" and call.cost_estimate is not None:
        return True
    return call.input_tokens is not None or call.output_tokens is not None


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
