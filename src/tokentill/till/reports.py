"""What people look at: balances, lots, holds, histories, and whether the books are right."""

from collections.abc import Callable
from datetime import datetime

from tokentill.core import checks
from tokentill.core.ledger.holds import HoldReceipt
from tokentill.core.ledger.lots import Lot
from tokentill.core.users import User
from tokentill.errors import AccountNotFound
from tokentill.services.accounts import explaining, reconciling
from tokentill.services.accounts.explaining import Explanation
from tokentill.services.accounts.reconciling import Proof
from tokentill.services.calls.calling import Who
from tokentill.store import holds, reports
from tokentill.store.reports import BalanceReport, Entry
from tokentill.till.base import Base


class Reports(Base):
    """Shows what an account holds and how it came about."""

    def balance(self, user: Who) -> BalanceReport:
        """Return what the account holds now: what is due is not shown. Raises: AccountNotFound."""
        who = User.of(user)
        with self.context.connection() as conn:
            report = reports.balance(conn, who.user_id, at=self.clock())
        if report is None:
            raise AccountNotFound(f"{who.name} has no account.", user_id=who.name)
        return report

    def lots(self, user: Who) -> list[Lot]:
        """Return the lots that have tokens left, first to burn first."""
        with self.context.connection() as conn:
            return reports.open_lots(conn, User.of(user).user_id, at=self.clock())

    def holds(self, user: Who, *, include_closed: bool = False) -> list[HoldReceipt]:
        """Return the account's open holds, or all of them, oldest first. Raises: AccountNotFound."""
        report = self.balance(user)
        with self.context.connection() as conn:
            who = User(report.user_id, report.external_id)
            return holds.listed(conn, who, at=self.clock(), include_closed=include_closed)

    def history(self, user: Who, *, limit: int = 50, before_seq: int | None = None) -> list[Entry]:
        """Return the latest journal rows, newest first; pass the last one's seq to go on. Raises: AccountNotFound."""
        self.balance(user)
        limit = checks.whole(limit, "limit", maximum=10_000)
        with self.context.connection() as conn:
            return reports.history(conn, User.of(user).user_id, limit=limit, before_seq=before_seq)

    def explain(self, user: Who, *, at: datetime | None = None) -> Explanation:
        """Explain the balance, now or as it was at `at`: each lot, what drew on it, and the debt.

        Raises: AccountNotFound.
        """
        self.balance(user)
        with self.context.connection() as conn:
            return explaining.explain(conn, User.of(user).user_id, at=at, now=self.clock())

    def reconcile(self, *, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Proof:
        """Prove laws 1, 2 and 7 over every account, and 3 for holds. Changes nothing."""
        with self.context.connection() as conn:
            return reconciling.reconcile(conn, on_progress=on_progress)
