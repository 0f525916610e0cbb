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

from datetime import datetime
from typing import assert_never

from tokentill.core.calls import Call
from tokentill.core.ledger import hold_rules, reversal_rules
from tokentill.core.ledger.account import Account
from tokentill.core.ledger.commands import (
    Command,
    Deduct,
    Drip,
    Grant,
    PlaceHold,
    Redate,
    RenewHold,
    Reverse,
    Spend,
    Sweep,
    VoidHold,
)
from tokentill.core.ledger.decisions import Decided, Decision, Refused, frozen, too_few
from tokentill.core.ledger.expiry import expire, expire_tokens
from tokentill.core.ledger.holds import Hold
from tokentill.core.ledger.journal import DripRow, Transaction, UsageRow
from tokentill.core.ledger.lots import Drawdown, Lot, LotMoves, burn_order, plan_drawdown
from tokentill.core.ledger.reversals import Bought
from tokentill.core.ledger.rollover import rollover
from tokentill.core.values import replace
from tokentill.errors import (
    AccountNotFound,
    InsufficientTokens,
    InvalidAmount,
    InvalidTime,
)

__all__ = ["BALANCE_MAX", "Decided", "Decision", "Refused", "decide", "expire"]

BALANCE_MAX = 2**53 - 1  # What JSON's numbers and JavaScript can still count.


def decide(
    account: Account | None,
    command: Command,
    *,
    at: datetime,
    hold: Hold | None = None,
    bought: Bought | None = None,
) -> Decision:
    """Decide `command` against the account as it stands at `at`; None: it has no account yet.

    A command about a hold that is not among the account's open ones is handed it as `hold`; None: there is no such one.
    A reversal is handed what its payment has `bought`.

    An account's own time never runs backwards: a decision for a moment before its last one is made for that last one.
    """
    if account is None:
        if not isinstance(command, Grant | Drip):
            return Refused(AccountNotFound(f"{command.user.name} has no account.", user_id=command.user.name))
        account = Account.opened(command.user)
    at = max(at, account.last_at)

    decision = _decide(account, command, hold, bought, at)
    if isinstance(decision, Decided):
        _check(account, decision)
    return decision


def _decide(account: Account, command: Command, hold: Hold | None, bought: Bought | None, at: datetime) -> Decision:
    match command:
        case Spend():
            if command.hold_id is None:
                return _decide_spend(account, command, at)
            return _decide_capture(account, command, account.hold(command.hold_id) or hold, at)
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
        case Reverse():
            return reversal_rules.reverse(account, command, bought, at)
        case PlaceHold():
            return hold_rules.place(account, command, account.hold(command.hold_id) or hold, at)
        case RenewHold():
            return hold_rules.renew(account, command, account.hold(command.hold_id) or hold, at)
        case VoidHold():
            return hold_rules.void(account, command, account.hold(command.hold_id) or hold, at)
        case _:  # pragma: no cover
            assert_never(command)


def _decide_capture(account: Account, capture: Spend, hold: Hold | None, at: datetime) -> Decision:
    """Free the hold, then spend what the call took: less than was held, as much, or more.

    So its own tokens are within reach of this spend and of no other. An expired hold has no tokens left to free: it is
    captured by a spend like any other.
    """
    if hold is None:
        assert capture.hold_id is not None, capture
        return hold_rules.not_found(capture.hold_id)
    if hold.state != "placed":
        return hold_rules.closed(hold, at)
    freed = account.with_hold(hold.ended("captured", at), at)
    decision = _decide_spend(freed, capture, at, hold)
    if isinstance(decision, Refused):
        return decision
    ended = hold.ended("captured", at, decision.rows[-1].seq)
    return Decided(decision.account, decision.rows, hold=ended, is_hold_changed=True)


def _decide_spend(account: Account, spend: Spend, at: datetime, captured: Hold | None = None) -> Decision:
    charge = spend.charge
    if charge.refused is not None:
        return Refused(charge.refused)
    call, tokens = spend.call, charge.tokens
    if captured is not None:
        call, tokens = _as_held(call, captured), captured.tokens if tokens is None else tokens
    assert tokens is not None and call.action_type is not None, spend
    refuses = spend.on_insufficient == "refuse"
    if refuses and account.frozen_at is not None and not (captured is not None and captured.is_open(at)):
        return frozen(account)
    account, expirations = expire(account, at=at)
    # What was due is gone, so the balance less what is held is available. A spend of nothing takes nothing, so there is
    # nothing to refuse: a failed call is recorded in debt, too.
    if refuses and tokens and tokens > account.balance - account.held(at) + account.overdraft_limit:
        return too_few(account, tokens, at)

    plan = plan_drawdown(account.lots, tokens, at=at)
    # By position: this is made for every spend, and names cost three times as much.
    row = UsageRow(
        account.user_id, account.seq + 1, call, tokens, account.balance, account.balance - tokens, plan.moves,
        plan.shortfall_tokens, spend.key.value, call.occurred_at or at, spend.hold_id, charge.price_id,
        spend.corrects_seq,
    )  # fmt: skip
    return Decided(_taken(account, row, plan, at), (*expirations, row))


def _as_held(call: Call, hold: Hold) -> Call:
    """What the call did not say is as the hold says. Who names another model than the hold names its provider, too."""
    if call.action_type and call.model_used is not None:
        return call
    model, provider = call.model_used, call.provider
    if model is None:
        model, provider = hold.model, provider or hold.provider
    return replace(call, action_type=call.action_type or hold.action_type, model_used=model, provider=provider)


def _decide_deduct(account: Account, deduct: Deduct, at: datetime) -> Decision:
    account, expirations = expire(account, at=at)
    # No overdraft here: the limit is credit for spending, not for being taken from.
    if not deduct.is_forced and deduct.tokens > account.available(at):
        return Refused(InsufficientTokens(requested_tokens=deduct.tokens, available_tokens=account.available(at)))

    plan = plan_drawdown(account.lots, deduct.tokens, at=at)
    row = Transaction(
        user_id=account.user_id,
        seq=account.seq + 1,
        transaction_type="deduction",
        source=deduct.source,
        token_amount=-deduct.tokens,
        balance_before=account.balance,
        balance_after=account.balance - deduct.tokens,
        lot_moves=plan.moves,
        debt_change=plan.shortfall_tokens,
        reason=deduct.reason,
        created_by=deduct.created_by,
        metadata=deduct.metadata,
        idempotency_key=deduct.key.value,
        effective_at=at,
    )
    return Decided(_taken(account, row, plan, at), (*expirations, row))


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
        account, trim = expire_tokens(account, rolled_lot, tokens, drip.period_start)
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
        and redate.kind in (None, lot.kind)
        and redate.expires_at > lot.effective_at
        else lot
        for lot in account.lots
    )
    if lots == account.lots:
        return account
    return replace(account, version=account.version + 1, lots=tuple(sorted(lots, key=burn_order)))


def _taken(account: Account, row: UsageRow | Transaction, plan: Drawdown, at: datetime) -> Account:
    return account.moved(row.seq, row.balance_after, account.debt + plan.shortfall_tokens, plan.left, at)


def _given(account: Account, lot: Lot, at: datetime) -> tuple[Account, LotMoves, int]:
    """Add a lot. What the account owes is paid from it at once; only the rest stays in the lot."""
    repaid = min(account.debt, lot.granted)
    left = lot.granted - repaid
    lots = account.lots
    if left:
        lots = tuple(sorted((*lots, lot.holding(left)), key=burn_order))
    balance, debt = account.balance + lot.granted, account.debt - repaid
    after = account.moved(lot.lot, balance, debt, lots, at)
    return after, ((lot.lot, left),) if left else (), -repaid


def _payment_intent(payment_id: str | None) -> str | None:
    return payment_id if payment_id is not None and payment_id.startswith("pi_") else None


def _too_many(account: Account, tokens: int) -> Refused:
    detail = f"{tokens:,} more tokens would take the balance above {BALANCE_MAX:,}."
    return Refused(InvalidAmount(detail, tokens=tokens, balance=account.balance))


def _check(before: Account, decided: Decided) -> None:
    """The laws, for this one step. A failure is our bug: nothing of it may reach the database."""
    after = decided.account
    seq, balance, debt, in_lots = before.seq, before.balance, before.debt, 0
    for lot in before.lots:
        in_lots += lot.remaining
    for row in decided.rows:
        seq += 1
        assert row.seq == seq and row.balance_before == balance, (row, seq, balance)
        moved = 0
        for _, tokens in row.lot_moves:
            moved += tokens
        assert moved - row.debt_change == row.balance_after - balance, row
        balance, debt, in_lots = row.balance_after, debt + row.debt_change, in_lots + moved
    assert after.seq == seq and after.balance == balance and after.debt == debt >= 0, (before, decided)
    assert in_lots - debt == balance, (before, decided)
    for lot in after.lots:
        in_lots -= lot.remaining
    assert in_lots == 0, (before, decided)  # The lots moved by what the rows say.
    assert not (debt and after.lots), after
    assert after.version > before.version or after is before, after  # Or nobody else would see that it has changed.
