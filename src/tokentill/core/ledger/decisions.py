"""What deciding answers: the account as it becomes and what must be written, or a refusal."""

from datetime import datetime

from tokentill.core.ledger.account import Account
from tokentill.core.ledger.holds import Hold
from tokentill.core.ledger.journal import Row
from tokentill.core.ledger.lots import Lot
from tokentill.core.values import Value
from tokentill.errors import AccountFrozen, InsufficientTokens, TillError


class Decided(Value, frozen=True):
    """The account as it becomes, the rows that say so (the last one answers the caller), and the lots they opened.

    `hold` is the one that the command was about, as it is now; only where it `is_hold_changed` is there anything of it
    to write.
    """

    account: Account
    rows: tuple[Row, ...] = ()
    opened: tuple[Lot, ...] = ()
    hold: Hold | None = None
    is_hold_changed: bool = False


class Refused(Value, frozen=True):
    """Nothing is written and no key is used."""

    error: TillError


Decision = Decided | Refused


def too_few(account: Account, tokens: int, at: datetime) -> Refused:
    return Refused(
        InsufficientTokens(
            requested_tokens=tokens,
            available_tokens=account.available(at),
            overdraft_limit=account.overdraft_limit,
        )
    )


def frozen(account: Account) -> Refused:
    name = account.user.name
    return Refused(AccountFrozen(f"{name}'s account is frozen.", user_id=name))
