"""Rollover: what a subscription carries over the boundary between two cycles, and what it loses there.

Units: `_tokens` whole tokens. Times: aware UTC; a boundary is the instant at which a cycle starts.
"""

from dataclasses import dataclass
from datetime import datetime

from tokentill.core.ledger.account import Account, Loss
from tokentill.core.ledger.lots import Lot
from tokentill.core.values import replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollover:
    """What one boundary of a subscription carries over, and what it takes."""

    tokens: int  # What earlier drips of this subscription left, alive at the boundary, within the cap.
    cycles_count: int  # From how many cycles.
    expired_tokens: int  # What was lost up to the boundary and no drip has reported, and what the cap takes.
    trims: tuple[tuple[Lot, int], ...]  # Which lots lose how many tokens to the cap, soonest to expire first.
    losses_left: tuple[Loss, ...]  # What the account keeps for later drips.


@dataclass(frozen=True, slots=True)
class _Carried:
    """Tokens that were alive at a boundary: in a lot that still is, or in one that has died since (a loss)."""

    expires_at: datetime
    tokens: int
    cycle_number: int
    source: Lot | Loss


def rollover(account: Account, subscription_id: str, *, boundary: datetime, cap_tokens: int | None) -> Rollover:
    """Return what `subscription_id` carries over `boundary`, as the boundary saw it.

    A drip that is caught up late may find that tokens which rolled over its boundary have died since; they were alive
    then, so they count here, and the drip at whose boundary they died reports the loss. The cap takes the soonest to
    expire first; of tokens that have died since it can only move the report to here.
    """
    losses = [loss for loss in account.losses if loss.subscription_id == subscription_id]
    expired_tokens = sum(loss.tokens for loss in losses if loss.expired_at <= boundary)
    left = [loss for loss in account.losses if loss.subscription_id != subscription_id]
    carried = _carried(account, losses, subscription_id, boundary)
    excess = 0 if cap_tokens is None else max(sum(item.tokens for item in carried) - cap_tokens, 0)
    tokens = 0
    cycles: set[int] = set()
    trims: list[tuple[Lot, int]] = []
    for item in carried:
        trimmed = min(item.tokens, excess)
        kept = item.tokens - trimmed
        excess -= trimmed
        expired_tokens += trimmed
        tokens += kept
        if kept:
            cycles.add(item.cycle_number)
        if isinstance(item.source, Loss):
            left += [replace(item.source, tokens=kept)] if kept else []
        elif trimmed:
            trims.append((item.source, trimmed))
    return Rollover(
        tokens=tokens,
        cycles_count=len(cycles),
        expired_tokens=expired_tokens,
        trims=tuple(trims),
        losses_left=tuple(left),
    )


def _carried(account: Account, losses: list[Loss], subscription_id: str, boundary: datetime) -> list[_Carried]:
    """Return what was alive at `boundary`, soonest to expire first."""
    carried = [
        _Carried(loss.expired_at, loss.tokens, loss.cycle_number, loss) for loss in losses if loss.expired_at > boundary
    ]
    for lot in account.lots:
        is_ours = lot.kind == "drip" and lot.subscription_id == subscription_id and lot.effective_at < boundary
        if is_ours and lot.expires_at is not None and lot.expires_at > boundary:
            carried.append(_Carried(lot.expires_at, lot.remaining, lot.cycle_number or 0, lot))
    return sorted(carried, key=lambda item: (item.expires_at, item.cycle_number))
