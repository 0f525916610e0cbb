"""Placing, renewing and voiding: what these commands do to an account and its holds.

`core.ledger.decide` comes here. Capturing is a spend, so it stays with the ledger. None of these writes a journal row:
a hold changes no balance.

    placed ──► captured   by a spend that names it
       │ └───► voided     by request
       └─────► expired    by the clock alone: never written, and it may still be captured, as a spend like any other

What is captured or voided stays so for ever.
"""

from datetime import datetime
from uuid import UUID

from tokentill.core.keys import used_for_another
from tokentill.core.ledger.account import Account
from tokentill.core.ledger.commands import PlaceHold, RenewHold, VoidHold
from tokentill.core.ledger.decisions import Decided, Decision, Refused, frozen, too_few
from tokentill.core.ledger.holds import Hold
from tokentill.core.values import replace
from tokentill.errors import HoldClosed, HoldNotFound


def place(account: Account, command: PlaceHold, hold: Hold | None, at: datetime) -> Decision:
    """Set tokens aside. `hold` is what was placed under this key before: the same request is answered with it."""
    if hold is not None:
        if hold.request_hash != command.key.request_hash:
            return Refused(used_for_another())
        return Decided(account, hold=hold)
    if account.frozen_at is not None:
        return frozen(account)
    if command.tokens > account.available(at) + account.overdraft_limit:
        return too_few(account, command.tokens, at)

    placed = Hold(
        command.hold_id, command.key.request_hash, command.tokens, command.action_type, at, at + command.ttl,
        command.model, command.metadata, provider=command.provider,
    )  # fmt: skip
    return _changed(account, placed, at)


def renew(account: Account, command: RenewHold, hold: Hold | None, at: datetime) -> Decision:
    """Keep an open hold until `ttl` from now, if it would not live longer anyway."""
    if hold is None:
        return not_found(command.hold_id)
    if not hold.is_open(at):
        return closed(hold, at)
    if account.frozen_at is not None:
        return frozen(account)
    expires_at = at + command.ttl
    if expires_at <= hold.expires_at:
        return Decided(account, hold=hold)
    return _changed(account, replace(hold, expires_at=expires_at), at)


def void(account: Account, command: VoidHold, hold: Hold | None, at: datetime) -> Decision:
    """Free all of a hold's tokens. One that is voided or expired is free already, and nothing needs to be written."""
    if hold is None:
        return not_found(command.hold_id)
    if hold.state == "captured":
        return closed(hold, at)
    if not hold.is_open(at):
        return Decided(account, hold=hold)
    return _changed(account, hold.ended("voided", at), at)


def not_found(hold_id: UUID) -> Refused:
    return Refused(HoldNotFound(f"This account has no hold {hold_id}.", hold_id=str(hold_id)))


def closed(hold: Hold, at: datetime) -> Refused:
    state = hold.state_at(at)
    how = f"captured by row {hold.captured_seq}" if state == "captured" else state
    return Refused(HoldClosed(f"Hold {hold.hold_id} is {how} already.", hold_id=str(hold.hold_id), state=state))


def _changed(account: Account, hold: Hold, at: datetime) -> Decided:
    return Decided(account.with_hold(hold, at), hold=hold, is_hold_changed=True)
