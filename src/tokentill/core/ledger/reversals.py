"""Reversals: the money of a payment moved back (or returned), so its tokens are taken back (or given back).

What should be gone is a target, computed from the state of the payment: all its refunds and disputes as they stand.
What was posted so far is subtracted, so order, duplicates and partial refunds cannot matter. Per lot, with G =
granted and, for the whole payment, P = paid, R = refunds that succeeded, L = dispute withdrawals minus
reinstatements:

    T = ceil(G × clamp(R + L, 0, P) / P)      what should be gone in all (P = 0: 0)
    D = ceil(G × clamp(L, 0, P) / P)          the part that disputes alone explain
    from_lot = min(T, G − spent)              unspent tokens of that lot go first; expired ones count as gone
    owed     = of T − from_lot: up to D under the dispute policy, the rest under the refund policy
    post (from_lot + owed) − posted so far    negative: give back

A payment of several lots is shared among them by what was paid for each, so each loses the same part. While a dispute
is open, only unspent tokens are taken: what it would make the member owe is pending until it is decided.

Units: `_tokens` whole tokens; `_cents` whole minor units of the payment's currency.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tokentill.core.ledger.lots import Lot

Policy = Literal["forgive", "debt"]
RefundStatus = Literal["pending", "requires_action", "succeeded", "failed", "canceled"]
DisputeStatus = Literal["open", "won", "lost", "harmless"]  # harmless: an inquiry, which moves no money.


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What becomes of tokens that were spent before their money moved back: forgiven, or owed."""

    refund: Policy = "forgive"
    dispute: Policy = "debt"  # Of a lost one.
    freezes: bool = False  # Whether an open dispute freezes the account: no spends, no new holds.


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyBack:
    """How much of one payment has moved back, by now."""

    refunded_cents: int = 0
    lost_cents: int = 0  # Withdrawn by disputes that are decided, less what came back.
    disputed_cents: int = 0  # The same of those that are open.

    @classmethod
    def of(
        cls,
        refunds: Sequence[tuple[int, RefundStatus]],
        disputes: Sequence[tuple[DisputeStatus, int, int]],
        *,
        charge_refunded_cents: int | None = None,
    ) -> "MoneyBack":
        """Sum up refunds (cents, status) and disputes (status, withdrawn, reinstated).

        Refund objects outrank what the charge says of itself. But not each is told of: what the charge says beyond
        those that are known, whatever became of them, was refunded, too.
        """
        refunded = sum(cents for cents, status in refunds if status == "succeeded")
        come_to_nothing = sum(cents for cents, status in refunds if status != "succeeded")
        lost = open_ = 0
        for status, withdrawn, reinstated in disputes:
            if status == "open":
                open_ += max(withdrawn - reinstated, 0)
            else:
                lost += max(withdrawn - reinstated, 0)
        return cls(
            refunded_cents=max(refunded, (charge_refunded_cents or 0) - come_to_nothing),
            lost_cents=lost,
            disputed_cents=open_,
        )


Source = int | None  # A lot, or None: the account's debt.


@dataclass(frozen=True, slots=True, kw_only=True)
class BoughtLot:
    """One lot of a payment, and what reversals have posted against it so far."""

    lot: Lot  # `remaining` is of no account here: the account knows it better.
    expired_tokens: int = 0
    from_lot_tokens: int = 0  # Taken from the lot itself, net.
    owed: tuple[tuple[Source, int], ...] = ()  # Taken elsewhere, net of what was given back.
    forgiven_tokens: int = 0  # As last recorded.

    @property
    def owed_tokens(self) -> int:
        return sum(tokens for _, tokens in self.owed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """All that is known of one payment: what it bought, what of its money moved back, and what was done about it."""

    payment_id: str
    paid_cents: int  # In all.
    lots: tuple[BoughtLot, ...]
    back: MoneyBack
    others: Mapping[int, Lot] = field(default_factory=dict)  # Lots of the account that `owed` names.
    has_open_dispute: bool = False  # On any payment of this user.
    frozen_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What should be gone of one lot, and where from. The four add up to `tokens`."""

    tokens: int
    from_lot_tokens: int  # Its own, spent on nothing; expired ones count.
    owed_tokens: int
    forgiven_tokens: int
    pending_tokens: int  # Would be owed if the dispute were lost.


def target(granted: int, unspent: int, paid_cents: int, back: MoneyBack, policies: Policies) -> Target:
    """Return what should be gone of a lot of which `unspent` tokens were not spent (left, taken back or expired)."""
    assert 0 <= unspent <= granted, (unspent, granted)
    lost_and_open = back.lost_cents + back.disputed_cents
    in_all = _share(granted, back.refunded_cents + lost_and_open, paid_cents)
    by_lost = _share(granted, back.lost_cents, paid_cents)
    by_disputes = _share(granted, lost_and_open, paid_cents)

    from_lot = min(in_all, unspent)
    short = in_all - from_lot
    of_lost = min(short, by_lost)
    of_open = min(short - of_lost, by_disputes - by_lost)
    of_refunds = short - of_lost - of_open
    owed = (of_lost if policies.dispute == "debt" else 0) + (of_refunds if policies.refund == "debt" else 0)
    return Target(
        tokens=in_all,
        from_lot_tokens=from_lot,
        owed_tokens=owed,
        forgiven_tokens=short - of_open - owed,
        pending_tokens=of_open,
    )


def _share(granted: int, cents: int, paid_cents: int) -> int:
    """Return ceil(granted × cents / paid), in whole numbers all the way."""
    return -(-granted * min(max(cents, 0), paid_cents) // paid_cents) if paid_cents else 0
