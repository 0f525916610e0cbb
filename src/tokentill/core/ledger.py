"""The ledger: what a command does to an account.

`decide(account, command, at=…)` is the whole of tokentill's accounting. It is pure: the same account, command and
moment give the same decision, so the engine may decide again whenever another process was faster.

Every decision has one spine: take out what is due, check, plan, write rows. A refusal is a value (nothing is written,
no key is used); an assertion here is a bug of ours.

Invariants of every decision (`Decided` checks them):

* rows continue the account's seq without gaps, and each row's balance_before is the previous one's balance_after;
* balance = sum of remaining − debt, and while there is debt no lot is open;
* tokens given = tokens held + tokens taken: no row moves a lot by what the balance does not say.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from tokentill.core.account import Account, Loss
from tokentill.core.commands import Command, Deduct, Drip, Grant, Redate, Spend, Sweep
from tokentill.core.drips import rollover
from tokentill.core.journal import DripRow, LotMoves, Row, Source, Transaction, UsageRow
from tokentill.core.lots import Draw, Lot, LotKind, burn_order, plan_drawdown
from tokentill.errors import (
    AccountFrozen,
    AccountNotFound,
    InsufficientTokens,
    InvalidAmount,
    InvalidTime,
    TillError,
)

BALANCE_MAX = 2**53 - 1  # What JSON's numbers and JavaScript can still count.

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


@dataclass(frozen=True, slots=True)
class Decided:
    """The account as it becomes, the rows that say so (the last one answers the caller), and the lots they opened."""

    account: Account
    rows: tuple[Row, ...] = ()
    opened: tuple[Lot, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing is written and no key is used."""

    error: TillError


Decision = Decided | Refused


def decide(account: Account | None, command: Command, *, at: datetime) -> Decision:
    """Decide `command` against the account as it stands at `at`; None: it has no account yet.

    An account's own time never runs backwards: a decision for a moment before its last one is made for that last one.
    """
    if account is None:
        if not isinstance(command, Grant | Drip):
            return Refused(AccountNotFound(f"{command.user.name} has no account.", user_id=command.user.name))
        account = Account.opened(command.user)
    at = max(at, account.last_at)

    decision = _decide(account, command, at)
    if isinstance(decision, Decided):
        _check(account, decision)
    return decision


def _decide(account: Account, command: Command, at: datetime) -> Decision:
    match command:
        case Spend():
            return _decide_spend(account, command, at)
        case Grant():
            return _decide_grant(account, command, at)
        case Drip():
            return _decide_drip(account, command, at)
        case Deduct():
            return _decide_deduct(account, command, at)
        case Sweep():
            account, rows = expire(account, at=at)
            return Decided(account, rows)
        case Redate():
            return Decided(_redated(account, command))
        case _:  # pragma: no cover
            assert_never(command)


def expire(account: Account, *, at: datetime) -> tuple[Account, tuple[Transaction, ...]]:
    """Take out every lot that is due at `at`, soonest first, each with an `expiration` row of its own.

    Touches no other lot. The order is that in which they died, whenever somebody looks.
    """
    due = [lot for lot in account.lots if lot.is_due(at)]
    if not due:
        return account, ()
    rows = []
    for lot in sorted(due, key=lambda lot: (lot.expires_at, lot.lot)):
        assert lot.expires_at is not None
        account, row = _expire_tokens(account, lot, lot.remaining, lot.expires_at)
        rows.append(row)
    return replace(account, last_at=at), tuple(rows)


def _expire_tokens(account: Account, lot: Lot, tokens: int, when: datetime) -> tuple[Account, Transaction]:
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
        lots=account.drawn((Draw(lot.lot, tokens),)),
        losses=losses,
    )
    return after, row


def _decide_spend(account: Account, spend: Spend, at: datetime) -> Decision:
    refuses = spend.on_insufficient == "refuse"
    if refuses and account.frozen_at is not None:
        return _frozen(account)
    account, expirations = expire(account, at=at)
    # What was due is gone, so the balance is what is available. A spend of nothing takes nothing, so there is nothing
    # to refuse: a failed call is recorded in debt, too.
    if refuses and spend.tokens and spend.tokens > account.balance + account.overdraft_limit:
        return _too_few(account, spend.tokens, at)

    draws, moves, debt_change = _plan_taking(account, spend.tokens, at)
    row = UsageRow(
        user_id=account.user_id,
        seq=account.seq + 1,
        action_type=spend.action_type,
        model_used=spend.model_used,
        tokens_used=spend.tokens,
        input_tokens=spend.input_tokens,
        output_tokens=spend.output_tokens,
        pools=spend.pools,
        cost_estimate=spend.cost_estimate,
        success=spend.success,
        error_message=spend.error_message,
        estimated=spend.estimated,
        balance_before=account.balance,
        balance_after=account.balance - spend.tokens,
        lot_moves=moves,
        debt_change=debt_change,
        provider_request_id=spend.provider_request_id,
        metadata=spend.metadata,
        idempotency_key=spend.key.value,
        occurred_at=spend.occurred_at or at,
    )
    return Decided(_taken(account, row, draws, at), (*expirations, row))


def _decide_deduct(account: Account, deduct: Deduct, at: datetime) -> Decision:
    account, expirations = expire(account, at=at)
    # No overdraft here: the limit is credit for spending, not for being taken from.
    if not deduct.is_forced and deduct.tokens > account.available(at):
        return Refused(InsufficientTokens(requested_tokens=deduct.tokens, available_tokens=account.available(at)))

    draws, moves, debt_change = _plan_taking(account, deduct.tokens, at)
    row = Transaction(
        user_id=account.user_id,
        seq=account.seq + 1,
        transaction_type="deduction",
        source=deduct.source,
        token_amount=-deduct.tokens,
        balance_before=account.balance,
        balance_after=account.balance - deduct.tokens,
        lot_moves=moves,
        debt_change=debt_change,
        reason=deduct.reason,
        created_by=deduct.created_by,
        metadata=deduct.metadata,
        idempotency_key=deduct.key.value,
        effective_at=at,
    )
    return Decided(_taken(account, row, draws, at), (*expirations, row))


def _decide_grant(account: Account, grant: Grant, at: datetime) -> Decision:
    account, expirations = expire(account, at=at)
    if account.balance + grant.tokens > BALANCE_MAX:
        return _too_many(account, grant.tokens)
    effective_at = min(grant.effective_at or at, at)
    if grant.expires_at is not None and grant.expires_at <= effective_at:
        return Refused(
            InvalidTime("expires_at lies in the past: these tokens could never be spent.", field="expires_at")
        )

    paid = grant.paid
    lot = Lot(
        lot=account.seq + 1,
        kind=grant.kind,
        granted=grant.tokens,
        remaining=grant.tokens,
        priority=grant.priority,
        effective_at=effective_at,
        expires_at=grant.expires_at,
        paid_cents=paid.amount_cents if paid else None,
        currency=paid.currency if paid else None,
        payment_id=paid.payment_id if paid else None,
        subscription_id=grant.subscription_id,
        cycle_number=grant.cycle_number,
    )
    after, moves, debt_change = _given(account, lot, at)
    row = Transaction(
        user_id=account.user_id,
        seq=lot.lot,
        transaction_type=grant.transaction_type,
        source=grant.source,
        token_amount=grant.tokens,
        balance_before=account.balance,
        balance_after=after.balance,
        lot=lot.lot,
        lot_moves=moves,
        debt_change=debt_change,
        amount_paid_cents=paid.amount_cents if paid else None,
        currency=paid.currency if paid else None,
        stripe_payment_intent_id=_payment_intent(paid.payment_id) if paid else None,
        stripe_session_id=paid.session_id if paid else None,
        stripe_invoice_id=paid.invoice_id if paid else None,
        subscription_id=grant.subscription_id,
        token_pack_id=grant.token_pack_id,
        reason=grant.reason,
        created_by=grant.created_by,
        metadata=grant.metadata,
        idempotency_key=grant.key.value,
        effective_at=effective_at,
    )
    return Decided(after, (*expirations, row), (lot,))


def _decide_drip(account: Account, drip: Drip, at: datetime) -> Decision:
    """Give one cycle's tokens. A drip that is caught up counts what its boundary saw, not what is left today."""
    account, expirations = expire(account, at=at)
    rolled = rollover(account, drip.subscription_id, boundary=drip.period_start, cap_tokens=drip.rollover_cap_tokens)
    trims: list[Transaction] = []
    for rolled_lot, tokens in rolled.trims:
        account, trim = _expire_tokens(account, rolled_lot, tokens, drip.period_start)
        trims.append(trim)
    if account.balance + drip.tokens > BALANCE_MAX:
        return _too_many(account, drip.tokens)

    lot = Lot(
        lot=account.seq + 1,
        kind="drip",
        granted=drip.tokens,
        remaining=drip.tokens,
        effective_at=min(drip.period_start, at),
        expires_at=drip.expires_at,
        paid_cents=drip.paid.amount_cents if drip.paid else None,
        currency=drip.paid.currency if drip.paid else None,
        payment_id=drip.paid.payment_id if drip.paid else None,
        subscription_id=drip.subscription_id,
        cycle_number=drip.cycle_number,
    )
    after, moves, debt_change = _given(account, lot, at)
    row = DripRow(
        user_id=account.user_id,
        seq=lot.lot,
        subscription_id=drip.subscription_id,
        drip_date=drip.period_start,
        drip_amount=drip.tokens,
        cycle_number=drip.cycle_number,
        rollover_from_previous=rolled.tokens,
        rollover_cycles_count=rolled.cycles_count,
        expired_tokens=rolled.expired_tokens,
        balance_before=account.balance,
        balance_after=after.balance,
        billing_period_start=drip.period_start,
        billing_period_end=drip.period_end,
        lot=lot.lot,
        lot_moves=moves,
        debt_change=debt_change,
        metadata=drip.metadata,
        idempotency_key=drip.key.value,
        effective_at=lot.effective_at,
    )
    after = replace(after, losses=rolled.losses_left)
    return Decided(after, (*expirations, *trims, row), (lot,))


def _redated(account: Account, redate: Redate) -> Account:
    lots = tuple(
        replace(lot, expires_at=redate.expires_at)
        if (lot.subscription_id, lot.cycle_number) == (redate.subscription_id, redate.cycle_number)
        and redate.expires_at > lot.effective_at
        else lot
        for lot in account.lots
    )
    return replace(account, lots=tuple(sorted(lots, key=burn_order)))


def _plan_taking(account: Account, tokens: int, at: datetime) -> tuple[tuple[Draw, ...], LotMoves, int]:
    """Return the draws, the same as lot moves, and by how much the debt grows."""
    plan = plan_drawdown(account.lots, tokens, at=at)
    return plan.draws, tuple((draw.lot, -draw.tokens) for draw in plan.draws), plan.shortfall_tokens


def _taken(account: Account, row: UsageRow | Transaction, draws: tuple[Draw, ...], at: datetime) -> Account:
    debt = account.debt + row.debt_change
    return account.moved(seq=row.seq, balance=row.balance_after, debt=debt, lots=account.drawn(draws), at=at)


def _given(account: Account, lot: Lot, at: datetime) -> tuple[Account, LotMoves, int]:
    """Add a lot. What the account owes is paid from it at once; only the rest stays in the lot."""
    repaid = min(account.debt, lot.granted)
    left = lot.granted - repaid
    lots = account.lots
    if left:
        lots = tuple(sorted((*lots, lot.holding(left)), key=burn_order))
    balance, debt = account.balance + lot.granted, account.debt - repaid
    after = account.moved(seq=lot.lot, balance=balance, debt=debt, lots=lots, at=at)
    return after, ((lot.lot, left),) if left else (), -repaid


def _payment_intent(payment_id: str | None) -> str | None:
    return payment_id if payment_id is not None and payment_id.startswith("pi_") else None


def _too_few(account: Account, tokens: int, at: datetime) -> Refused:
    return Refused(
        InsufficientTokens(
            requested_tokens=tokens,
            available_tokens=account.available(at),
            overdraft_limit=account.overdraft_limit,
        )
    )


def _too_many(account: Account, tokens: int) -> Refused:
    detail = f"{tokens:,} more tokens would take the balance above {BALANCE_MAX:,}."
    return Refused(InvalidAmount(detail, tokens=tokens, balance=account.balance))


def _frozen(account: Account) -> Refused:
    name = account.user.name
    return Refused(AccountFrozen(f"{name}'s account is frozen.", user_id=name))


def _check(before: Account, decided: Decided) -> None:
    """The laws, for this one step. A failure is our bug: nothing of it may reach the database."""
    after = decided.account
    seq, balance, debt, moved = before.seq, before.balance, before.debt, 0
    for row in decided.rows:
        seq += 1
        assert row.seq == seq, (row, seq)
        assert row.balance_before == balance, (row, balance)
        row_moved = sum(tokens for _, tokens in row.lot_moves)
        assert row_moved - row.debt_change == row.balance_after - row.balance_before, row
        balance, debt, moved = row.balance_after, debt + row.debt_change, moved + row_moved
    assert (after.seq, after.balance, after.debt) == (seq, balance, debt), (before, decided)
    held = sum(lot.remaining for lot in after.lots)
    assert after.debt >= 0 and held - after.debt == after.balance, after
    assert not (after.debt and after.lots), after
    assert held - sum(lot.remaining for lot in before.lots) == moved, (before, decided)
