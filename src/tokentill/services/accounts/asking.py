"""Asking: turns what a caller says into a command, or says what is wrong with it.

Every edge (library, HTTP, CLI) asks here, so that all of them refuse the same nonsense with the same words. The order
of checks is fixed: who, how much, what for, the rest, the key.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tokentill.core import checks
from tokentill.core.keys import Key
from tokentill.core.ledger.commands import Deduct, Grant, Paid
from tokentill.core.ledger.holds import HoldReceipt
from tokentill.core.ledger.journal import Source
from tokentill.core.ledger.lots import LotKind
from tokentill.core.plans.catalog import Catalog
from tokentill.core.users import User
from tokentill.errors import InvalidAmount
from tokentill.services.calls.calling import Calling, Who
from tokentill.services.calls.costing import UnknownModels
from tokentill.services.calls.rates import RatesInForce


class Asking(Calling):
    """Builds commands. `catalog` answers with the one in force; the rest is for those about AI calls."""

    def __init__(
        self,
        *,
        catalog: Callable[[], Catalog],
        rates: RatesInForce,
        unknown_models: UnknownModels,
        new_id: Callable[[], UUID],
        clock: Callable[[], datetime],
        hold_placed: Callable[[User, UUID], HoldReceipt],
    ) -> None:
        super().__init__(
            rates=rates, unknown_models=unknown_models, new_id=new_id, clock=clock, hold_placed=hold_placed
        )
        self._catalog = catalog

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
