"""Asking: turns what a caller says into a command, or says what is wrong with it.

Every edge (library, HTTP, CLI) asks here, so that all of them refuse the same nonsense with the same words. The order
of checks is fixed: who, how much, what for, the rest, the key.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tokentill.core import checks
from tokentill.core.catalog import Catalog
from tokentill.core.commands import Deduct, Grant, OnInsufficient, Paid, PlaceHold, RenewHold, Spend, VoidHold
from tokentill.core.holds import TTL_DEFAULT, TTL_MAX, TTL_MIN, address_of
from tokentill.core.journal import Source
from tokentill.core.keys import Key, canonical
from tokentill.core.lots import LotKind
from tokentill.core.pricing import POOLS, AiAction, Pools, tokens_to_charge
from tokentill.core.users import User
from tokentill.errors import HoldNotFound, InvalidAmount, InvalidRequest, InvalidTime, UnknownAction

Who = str | UUID | User
WhichHold = str | UUID  # A hold's id within its account, or its address (`HoldReceipt.id`).
Ttl = timedelta | int  # A whole number is of seconds.

_POOL_NAMES = frozenset(POOLS)


class Asking:
    """Builds commands. `actions` answers with the AI actions in force, freshly read when told to.

    `catalog` answers with the one in force.

    `action_of_hold` reads which action a hold was placed for. Raises: HoldNotFound.
    """

    def __init__(
        self,
        *,
        catalog: Callable[[], Catalog],
        actions: Callable[[bool], Mapping[str, AiAction]],
        new_id: Callable[[], UUID],
        clock: Callable[[], datetime],
        action_of_hold: Callable[[User, UUID], str],
    ) -> None:
        self._catalog = catalog
        self._action_of_hold = action_of_hold
        self._actions = actions
        self._new_id = new_id
        self._clock = clock

    def grant(
        self,
        user: Who,
        tokens: int,
        *,
        source: Source = "admin",
        kind: LotKind = "admin",
        expires_at: datetime | None = None,
        reason: str | None = None,
        created_by: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Grant:
        """Tokens as a gift. Raises: InvalidRequest."""
        who, tokens = User.of(user), checks.whole(tokens)
        # Whether it lies in the past is the ledger's to say: a repeat may come when the tokens have long expired.
        expires_at = checks.moment_or_none(expires_at, "expires_at")
        reason, created_by = checks.text_or_none(reason, "reason"), checks.text_or_none(created_by, "created_by")
        extra = checks.metadata(metadata)
        request = {
            "grant": tokens, "source": source, "expires_at": expires_at, "reason": reason, "created_by": created_by,
            "metadata": extra,
        }  # fmt: skip
        return Grant(
            user=who, key=self._key(idempotency_key, who, request), tokens=tokens, kind=kind, source=source,
            expires_at=expires_at, reason=reason, created_by=created_by, metadata=extra,
        )  # fmt: skip

    def deduct(
        self,
        user: Who,
        tokens: int,
        *,
        reason: str | None = None,
        created_by: str | None = None,
        force: bool = False,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Deduct:
        """Tokens taken away by an admin. Raises: InvalidRequest."""
        who, tokens = User.of(user), checks.whole(tokens)
        reason, created_by = checks.text_or_none(reason, "reason"), checks.text_or_none(created_by, "created_by")
        extra = checks.metadata(metadata)
        request = {
            "deduct": tokens, "force": force, "reason": reason, "created_by": created_by, "metadata": extra,
        }  # fmt: skip
        return Deduct(
            user=who, key=self._key(idempotency_key, who, request), tokens=tokens, is_forced=force, reason=reason,
            created_by=created_by, metadata=extra,
        )  # fmt: skip

    def purchase(
        self,
        user: Who,
        pack: str,
        *,
        quantity: int = 1,
        amount_paid_cents: int | None = None,
        currency: str | None = None,
        payment_intent_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Grant:
        """A token pack that was paid for. The same session or payment is the same purchase, whoever reports it.

        Raises: UnknownPack, InvalidRequest.
        """
        who, sold = User.of(user), self._catalog().pack(pack)
        quantity = checks.whole(quantity, "quantity", maximum=1000)
        paid_cents = checks.whole_or_none(amount_paid_cents, "amount_paid_cents")
        session = checks.text_or_none(session_id, "session_id", length_max=255)
        intent = checks.text_or_none(payment_intent_id, "payment_intent_id", length_max=255)
        currency = checks.text_or_none(currency, "currency", length_max=3)
        extra = checks.metadata(metadata)
        request = {"pack": pack, "quantity": quantity, "paid": paid_cents, "session": session, "intent": intent}
        facts = pack_keys(sold.key, session, intent)
        key, *aliases = ([self._key(idempotency_key, who, request)] if idempotency_key or not facts else []) + facts
        paid = Paid(
            amount_cents=sold.price_cents * quantity if paid_cents is None else paid_cents,
            currency=(currency or sold.currency).lower(),
            payment_id=intent or session,
            session_id=session,
        )
        return Grant(
            user=who, key=key, aliases=tuple(aliases), tokens=checks.whole(sold.tokens * quantity), kind="purchase",
            source="token_pack", transaction_type="purchase", paid=paid, token_pack_id=sold.key, metadata=extra,
        )  # fmt: skip

    def trial(
        self,
        user: Who,
        tokens: int | None = None,
        *,
        days: int | None = None,
        subscription_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Grant:
        """A trial's tokens, as the catalog says or as given. One subscription has one trial. Raises: InvalidRequest."""
        who = User.of(user)
        tokens = checks.whole(self._catalog().trial_tokens if tokens is None else tokens)
        days = checks.whole(self._catalog().trial_days if days is None else days, "days", maximum=36_500)
        subscription = checks.text_or_none(subscription_id, "subscription_id", length_max=255)
        extra = checks.metadata(metadata)
        request = {"trial": tokens, "days": days, "metadata": extra}
        fact = (Key.of_fact("trial", subscription),) if subscription else ()
        return Grant(
            user=who, key=self._key(idempotency_key, who, request), aliases=fact, tokens=tokens, kind="trial",
            source="trial", expires_at=self._clock() + timedelta(days=days), subscription_id=subscription,
            metadata=extra,
        )  # fmt: skip

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
        metadata: Mapping[str, Any] | None = None,
        occurred_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> Spend:
        """An AI operation. How many tokens it costs is the action's rule (`core.pricing.tokens_to_charge`).

        `pools` are the exclusive parts of the call's usage; where no counts are given beside them, they are the counts.

        Raises: UnknownAction, InvalidRequest.
        """
        # Every spend comes by here: checks pass what is right at once and look closer only at what is not.
        who = User.of(user)
        counted = None if pools is None else _counted(pools)
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
        action = self._action(action_type)
        charged = tokens_to_charge(
            action, input_tokens=input_tokens, output_tokens=output_tokens, tokens_used=tokens, success=success
        )
        _require_known(on_insufficient)
        if occurred_at is not None:
            occurred_at = self._past(occurred_at)
        extra = checks.metadata(metadata)
        model_used = checks.text_or_none(model_used, "model_used", length_max=255)
        cost = checks.cost_or_none(cost_estimate)
        error_message = checks.text_or_none(error_message, "error_message")
        request_id = checks.text_or_none(provider_request_id, "provider_request_id", length_max=255)
        if idempotency_key is None:
            key = Key.fresh(self._new_id())
        else:
            key = Key.of_caller(
                idempotency_key,
                (
                    "spend", str(who.user_id), action.key, tokens, input_tokens, output_tokens,
                    sorted(counted.items()) if counted else None, None if cost is None else str(cost), success,
                    error_message, estimated, request_id, occurred_at and str(occurred_at), model_used,
                    canonical(extra) if extra else None, on_insufficient,
                ),
            )  # fmt: skip
        return Spend(
            who, key, charged if charged <= checks.TOKENS_MAX else checks.whole(charged), action.key, on_insufficient,
            model_used, input_tokens, output_tokens, counted, cost, success, error_message, estimated, request_id,
            extra, occurred_at,
        )  # fmt: skip

    def hold(
        self,
        user: Who,
        tokens: int,
        action_type: str,
        *,
        ttl: Ttl = TTL_DEFAULT,
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> PlaceHold:
        """Tokens set aside for one call of this action. `tokens` is what is held: no rule of the action multiplies it.

        Raises: UnknownAction, InvalidRequest.
        """
        who, tokens = User.of(user), checks.whole(tokens)
        action, lives = self._action(action_type), ttl_of(ttl)
        model = checks.text_or_none(model, "model", length_max=255)
        extra = checks.metadata(metadata)
        request = ("hold", tokens, action.key, lives.total_seconds(), model, canonical(extra) if extra else None)
        return PlaceHold(
            user=who, key=self._key(idempotency_key, who, request), tokens=tokens, action_type=action.key, ttl=lives,
            model=model, metadata=extra,
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
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **facts: Any,
    ) -> Spend:
        """The spend that a hold was placed for, whatever it came to; `facts` are the other keywords of `spend`.

        `tokens` are taken as they are. Without them, counts are charged by the rule of the action (`action_type`, else
        the hold's, which is read for it), and without counts all that was held is taken. A failed call takes 0.

        Raises: UnknownAction, InvalidRequest, HoldNotFound.
        """
        who = User.of(user)
        held = hold_of(who, hold_id)
        counted = None if pools is None else _counted(pools)
        if counted is not None and input_tokens is None and output_tokens is None:
            used = Pools(**counted)
            input_tokens, output_tokens = used.input_tokens or None, used.output_tokens or None
        charged = checks.whole_or_none(tokens, "tokens")
        read = checks.whole_or_none(input_tokens, "input_tokens")
        written = checks.whole_or_none(output_tokens, "output_tokens")
        action = None if action_type is None else self._action(action_type)
        if not success:
            charged = 0
        elif charged is None and (read, written) != (None, None):
            rule = action or self._action(self._action_of_hold(who, held))
            counts = tokens_to_charge(rule, input_tokens=read, output_tokens=written, tokens_used=None, success=True)
            charged = checks.whole(counts, minimum=0)
        _require_known(on_insufficient)
        facts = self._facts(success=success, **facts)
        extra = checks.metadata(metadata)
        # In whatever words and how often it is told: a hold is captured once.
        fact = Key.of_fact("capture", held.hex)
        own = None
        if idempotency_key is not None:
            request = {
                **facts, "capture": held, "tokens": tokens, "input_tokens": read, "output_tokens": written,
                "action": action_type, "metadata": extra, "pools": counted, "on_insufficient": on_insufficient,
            }  # fmt: skip
            own = self._key(idempotency_key, who, request)
        return Spend(
            user=who, key=own or fact, aliases=(fact,) if own else (), tokens=charged, hold_id=held,
            action_type=None if action is None else action.key, on_insufficient=on_insufficient, pools=counted,
            metadata=extra, input_tokens=read, output_tokens=written, **facts,
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
            "occurred_at": None if occurred_at is None else self._past(occurred_at),
        }

    def _past(self, occurred_at: datetime) -> datetime:
        """Return when a call happened. Raises: InvalidTime."""
        checked = checks.moment(occurred_at, "occurred_at")
        if checked > self._clock() + timedelta(minutes=5):
            raise InvalidTime("occurred_at lies in the future.", field="occurred_at")
        return checked

    def knows(self, action_type: str) -> bool:
        """Whether the action is among those read already, so that `spend` need not ask the database."""
        return action_type in self._actions(False)

    def learn_actions(self) -> None:
        """Read the actions in force afresh."""
        self._actions(True)

    def from_memory(self) -> "Asking":
        """Return one that never asks the database: an action that is not known yet is an unknown one."""
        return Asking(
            catalog=self._catalog, actions=lambda _: self._actions(False), new_id=self._new_id, clock=self._clock,
            action_of_hold=self._action_of_hold,
        )  # fmt: skip

    def _action(self, action_type: object) -> AiAction:
        if not isinstance(action_type, str):
            raise UnknownAction(f"action_type must be a text, not {type(action_type).__name__}.")
        action = self._actions(False).get(action_type) or self._actions(True).get(action_type)
        if action is None:
            known = ", ".join(sorted(self._actions(False)))
            raise UnknownAction(
                f"No AI action {action_type[:100]!r}; there are {known}.", action_type=action_type[:100]
            )
        return action

    def _key(self, idempotency_key: str | None, user: User, request: Mapping[str, object] | tuple[object, ...]) -> Key:
        if idempotency_key is None:
            return Key.fresh(self._new_id())
        if isinstance(request, tuple):
            return Key.of_caller(idempotency_key, (str(user.user_id), *request))
        return Key.of_caller(idempotency_key, {**request, "user_id": user.user_id})


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


def pack_keys(pack: str, *payments: str | None) -> list[Key]:
    """The keys of a pack's purchase: one session, and its payment, buys each pack once, however often it is told."""
    # A checkout that cost nothing has no payment but its session: one name, then, and not the same one twice.
    return [Key.of_fact("pack", payment, pack) for payment in dict.fromkeys(payments) if payment is not None]


def signed(tokens: object) -> int:
    """Return a number of tokens to add (positive) or deduct (negative), never 0. Raises: InvalidAmount."""
    checked = checks.whole(tokens, minimum=-checks.TOKENS_MAX)
    if checked == 0:
        raise InvalidAmount("tokens must not be 0: positive adds, negative deducts.", field="tokens")
    return checked
