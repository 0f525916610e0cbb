"""Expiry: what is due leaves the account, each lot by a row of its own, before anything else is decided."""

from datetime import datetime

from tokentill.core.ledger.account import Account, Loss, open_holds
from tokentill.core.ledger.journal import Source, Transaction
from tokentill.core.ledger.lots import Lot, LotKind
from tokentill.core.values import replace

_SOURCE_OF_KIND: dict[LotKind, Source] = {
    "purchase": "token_pack",
    "subscription": "subscription",
    "drip": "subscription",
    "trial": "trial",
    "admin": "admin",
    "transfer": "transfer",
    "refund": "refund",
    "opening": "legacy",
}


def expire(account: Account, *, at: datetime) -> tuple[Account, tuple[Transaction, ...]]:
    """Take out every lot that is due at `at`, soonest first, each with an `expiration` row of its own.

    Touches no other lot. The order is that in which they died, whenever somebody looks.
    """
    due = [lot for lot in account.lots if lot.expires_at is not None and lot.expires_at <= at]
    if not due:
        return account, ()
    rows = []
    for lot in sorted(due, key=lambda lot: (lot.expires_at, lot.lot)):
        assert lot.expires_at is not None
        account, row = expire_tokens(account, lot, lot.remaining, lot.expires_at)
        rows.append(row)
    return replace(account, version=account.version + 1, last_at=at, holds=open_holds(account.holds, at)), tuple(rows)


def expire_tokens(account: Account, lot: Lot, tokens: int, when: datetime) -> tuple[Account, Transaction]:
    """Take so many tokens of a lot out as expired at `when`."""
    row = Transaction(
        user_id=account.user_id,
        seq=account.seq + 1,
        transaction_type="expiration",
        source=_SOURCE_OF_KIND[lot.kind],
        token_amount=-tokens,
        balance_before=account.balance,
        balance_after=account.balance - tokens,
        lot_moves=((lot.lot, -tokens),),
        subscription_id=lot.subscription_id,
        metadata={"kind": lot.kind} | ({"cycle_number": lot.cycle_number} if lot.cycle_number is not None else {}),
        effective_at=when,
    )
    losses = account.losses
    if lot.kind == "drip" and lot.subscription_id is not None and lot.cycle_number is not None:
        loss = Loss(subscription_id=lot.subscription_id, cycle_number=lot.cycle_number, tokens=tokens, expired_at=when)
        losses = (*losses, loss)
    after = replace(
        account,
        seq=row.seq,
        balance=row.balance_after,
        lots=account.less(lot.lot, tokens),
        losses=losses,
    )
    return after, row
