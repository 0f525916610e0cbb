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
from tokentill.core.commands import Deduct, Grant, OnInsufficient, Paid, Spend
from tokentill.core.journal import Source
from tokentill.core.keys import Key
from tokentill.core.lots import LotKind
from tokentill.core.pricing import POOLS, AiAction, Pools, tokens_to_charge
from tokentill.core.users import User
from tokentill.errors import InvalidAmount, InvalidRequest, InvalidTime, UnknownAction

Who = str | UUID | User


class Asking:
    """Builds commands. `actions` answers with the AI actions in force, freshly read when told to."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        actions: Callable[[bool], Mapping[str, AiAction]],
        new_id: Callable[[], UUID],
        clock: Callable[[], datetime],
    ) -> None:
        self._catalog = catalog
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
        who, sold = User.of(user), self._catalog.pack(pack)
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
        tokens = checks.whole(self._catalog.trial_tokens if tokens is None else tokens)
        days = checks.whole(self._catalog.trial_days if days is None else days, "days", maximum=36_500)
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
        who = User.of(user)
        counted = None if pools is None else _pools(pools)
        if counted is not None and tokens is None and input_tokens is None and output_tokens is None:
            # Seconds, characters and images are no tokens: a call measured in those has no counts, rather than 0.
            input_tokens, output_tokens = counted.input_tokens or None, counted.output_tokens or None
        given = {
            "tokens": checks.whole_or_none(tokens, "tokens"),
            "input_tokens": checks.whole_or_none(input_tokens, "input_tokens"),
            "output_tokens": checks.whole_or_none(output_tokens, "output_tokens"),
        }
        action = self._action(action_type)
        charged = tokens_to_charge(
            action,
            input_tokens=given["input_tokens"],
            output_tokens=given["output_tokens"],
            tokens_used=given["tokens"],
            success=success,
        )
        if on_insufficient not in ("refuse", "record"):
            raise InvalidRequest(f"on_insufficient is 'refuse' or 'record', not {on_insufficient!r}.")
        occurred_at = checks.moment_or_none(occurred_at, "occurred_at")
        if occurred_at is not None and occurred_at > self._clock() + timedelta(minutes=5):
            raise InvalidTime("occurred_at lies in the future.", field="occurred_at")
        extra = checks.metadata(metadata)
        facts: dict[str, Any] = {
            "model_used": checks.text_or_none(model_used, "model_used", length_max=255),
            "cost_estimate": checks.cost_or_none(cost_estimate),
            "success": success,
            "error_message": checks.text_or_none(error_message, "error_message"),
            "estimated": estimated,
            "provider_request_id": checks.text_or_none(provider_request_id, "provider_request_id", length_max=255),
            "occurred_at": occurred_at,
        }
        kept_pools = None if counted is None else counted.as_json()
        request = {**given, **facts, "action": action_type, "metadata": extra, "pools": kept_pools,
                   "on_insufficient": on_insufficient}  # fmt: skip
        return Spend(
            user=who, key=self._key(idempotency_key, who, request), tokens=checks.whole(charged, minimum=0),
            action_type=action.key, on_insufficient=on_insufficient, input_tokens=given["input_tokens"],
            output_tokens=given["output_tokens"], pools=kept_pools, metadata=extra, **facts,
        )  # fmt: skip

    def knows(self, action_type: str) -> bool:
        """Whether the action is among those read already, so that `spend` need not ask the database."""
        return action_type in self._actions(False)

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

    def _key(self, idempotency_key: str | None, user: User, request: Mapping[str, object]) -> Key:
        if idempotency_key is None:
            return Key.fresh(self._new_id())
        return Key.of_caller(idempotency_key, {**request, "user_id": user.user_id})


def _pools(pools: Mapping[str, int]) -> Pools:
    if not isinstance(pools, Mapping) or (unknown := sorted(map(str, set(pools) - set(POOLS)))):
        said = f"no pool {unknown[0][:60]!r}" if isinstance(pools, Mapping) else "pools must be an object"
        raise InvalidRequest(f"{said}; a call's usage is counted in {', '.join(POOLS)}.", field="pools")
    return Pools(**pools)


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
