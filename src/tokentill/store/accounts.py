"""Reads and writes `token_accounts` and `token_lots`. Writing is compare-and-set on the account's version."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from tokentill.core.ledger.account import Account, Loss
from tokentill.core.ledger.holds import Hold
from tokentill.core.ledger.lots import Lot, burn_order
from tokentill.core.values import replace
from tokentill.store import holds, packing
from tokentill.store.db import Conn

DrawnLot = tuple[UUID, int, int]  # user_id, lot, what is left of it.


@dataclass(slots=True)
class AccountWrite:
    """One account before and after a batch, and what the batch adds to its lifetime totals."""

    before: Account
    after: Account
    opened: tuple[Lot, ...] = ()
    tokens_granted: int = 0
    tokens_used: int = 0
    cost: Decimal = Decimal(0)
    holds: dict[UUID, Hold] | None = None  # Placed or changed, as they are by now.
    placed: frozenset[UUID] = frozenset()  # Those of them that are new.

    def keep_hold(self, hold: Hold, *, is_new: bool) -> None:
        self.holds = {**(self.holds or {}), hold.hold_id: hold}
        if is_new:
            self.placed |= {hold.hold_id}


def load(conn: Conn, user_ids: Iterable[UUID]) -> dict[UUID, Account]:
    """Return those of the accounts that exist, with their open lots and holds.

    Balance and lots come by one statement, so as of one moment: a balance beside lots that another process has drawn on
    since would be an account that never was.
    """
    sql = """
        SELECT a.user_id, a.external_id, a.balance, a.debt, a.seq, a.version, a.last_at, a.overdraft_limit, a.frozen_at,
               l.lot, l.kind, l.granted, l.remaining, l.priority, l.effective_at, l.expires_at, l.paid_cents,
               l.currency, l.payment_id, l.subscription_id, l.cycle_number
          FROM token_accounts a
          LEFT JOIN token_lots l ON l.user_id = a.user_id AND l.remaining > 0
         WHERE a.user_id = ANY(%s)
    """
    accounts: dict[UUID, Account] = {}
    lots: dict[UUID, list[Lot]] = {}
    for row in conn.execute(sql, [list(user_ids)]):
        user_id = row[0]
        if user_id not in accounts:
            accounts[user_id] = Account(
                user_id=user_id, external_id=row[1], balance=row[2], debt=row[3], seq=row[4], version=row[5],
                last_at=row[6], overdraft_limit=row[7], frozen_at=row[8],
            )  # fmt: skip
            lots[user_id] = []
        if row[9] is not None:
            lots[user_id].append(lot_of(row[9:]))
    losses = _load_losses(conn, list(accounts)) if accounts else {}
    held = holds.load_open(conn, accounts) if accounts else {}
    return {
        user_id: replace(
            account,
            lots=tuple(sorted(lots[user_id], key=burn_order)),
            losses=losses.get(user_id, ()),
            holds=held.get(user_id, ()),
        )
        for user_id, account in accounts.items()
    }


def lot_of(row: Sequence[object]) -> Lot:
    """Return the lot of a row (lot, kind, granted, remaining, priority, effective_at, …, cycle_number)."""
    names = ("lot", "kind", "granted", "remaining", "priority", "effective_at", "expires_at", "paid_cents", "currency",
             "payment_id", "subscription_id", "cycle_number")  # fmt: skip
    return Lot(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type]  # the columns' types are the fields'


def _load_losses(conn: Conn, ids: list[UUID]) -> dict[UUID, tuple[Loss, ...]]:
    """Return what drips lost and no drip has reported: the latest deaths, as far as reports fall short of them."""
    sql = """
        SELECT user_id, subscription_id, cycle_number, least(tokens, unreported - (so_far - tokens)), effective_at
          FROM (SELECT t.user_id, t.subscription_id, t.seq, t.effective_at, -t.token_amount AS tokens,
                       (t.metadata ->> 'cycle_number')::integer AS cycle_number,
                       sum(-t.token_amount) OVER (w ORDER BY t.effective_at DESC, t.seq DESC)::bigint AS so_far,
                       (sum(-t.token_amount) OVER w - d.reported)::bigint AS unreported
                  FROM token_transactions t
                  JOIN (SELECT user_id, subscription_id, sum(expired_tokens) AS reported
                          FROM token_drips
                         WHERE user_id = ANY(%(ids)s)
                         GROUP BY user_id, subscription_id) d USING (user_id, subscription_id)
                 WHERE t.user_id = ANY(%(ids)s)
                   AND t.transaction_type = 'expiration'
                   AND t.metadata ->> 'kind' = 'drip'
                WINDOW w AS (PARTITION BY t.user_id, t.subscription_id)) deaths
         WHERE so_far - tokens < unreported
         ORDER BY user_id, seq
    """
    losses: dict[UUID, tuple[Loss, ...]] = {}
    for user_id, subscription_id, cycle, tokens, expired_at in conn.execute(sql, {"ids": ids}):
        loss = Loss(subscription_id=subscription_id, cycle_number=cycle, tokens=tokens, expired_at=expired_at)
        losses[user_id] = (*losses.get(user_id, ()), loss)
    return losses


def versions(conn: Conn, user_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Return the version of each of these accounts that exists."""
    sql = "SELECT user_id, version FROM token_accounts WHERE user_id = ANY(%s)"
    return dict(conn.execute(sql, [list(user_ids)]).fetchall())


def write(conn: Conn, writes: Sequence[AccountWrite], *, now: datetime) -> bool:
    """Write the accounts and their lots; False when somebody else has written one of them meanwhile.

    On False the caller must roll back: part of the batch may be in the transaction.
    """
    ordered = sorted(writes, key=lambda write: write.after.user_id.int)
    created = [write for write in ordered if write.before.version == 0]
    updated = [write for write in ordered if write.before.version != 0]
    if created and not _insert_accounts(conn, created, now):
        return False
    if updated and not _update_accounts(conn, updated):
        return False
    _write_lots(conn, ordered)
    return True


UPDATE_ACCOUNTS = """
    UPDATE token_accounts AS a
       SET balance = n.balance, debt = n.debt, seq = n.seq, version = n.version, last_at = n.last_at,
           lifetime_tokens_granted = a.lifetime_tokens_granted + n.granted,
           lifetime_tokens_used = a.lifetime_tokens_used + n.used,
           lifetime_cost = a.lifetime_cost + n.cost
      FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                  %s::timestamptz[], %s::bigint[], %s::bigint[], %s::numeric[])
        AS n (user_id, expected, version, balance, debt, seq, last_at, granted, used, cost)
     WHERE a.user_id = n.user_id AND a.version = n.expected
"""
UPDATE_LOTS = """
    UPDATE token_lots AS l
       SET remaining = n.remaining
      FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) AS n (user_id, lot, remaining)
     WHERE l.user_id = n.user_id AND l.lot = n.lot
"""


def _update_accounts(conn: Conn, writes: Sequence[AccountWrite]) -> bool:
    return conn.execute(UPDATE_ACCOUNTS, account_columns(writes)).rowcount == len(writes)


def account_columns(writes: Sequence[AccountWrite]) -> list[packing.Packed]:
    """Return what UPDATE_ACCOUNTS takes."""
    assert all(write.after.version > write.before.version for write in writes), "nobody else would see a change"
    return [
        packing.uuids([write.after.user_id.bytes for write in writes]),
        packing.bigints([write.before.version for write in writes]),
        packing.bigints([write.after.version for write in writes]),
        packing.bigints([write.after.balance for write in writes]),
        packing.bigints([write.after.debt for write in writes]),
        packing.bigints([write.after.seq for write in writes]),
        packing.moments([write.after.last_at for write in writes]),
        packing.bigints([write.tokens_granted for write in writes]),
        packing.bigints([write.tokens_used for write in writes]),
        packing.numerics([write.cost for write in writes]),
    ]


def _insert_accounts(conn: Conn, writes: Sequence[AccountWrite], now: datetime) -> bool:
    sql = """
        INSERT INTO token_accounts (user_id, external_id, balance, debt, seq, version, last_at,
                                    lifetime_tokens_granted, lifetime_tokens_used, lifetime_cost, created_at)
        SELECT n.*, %s
          FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                      %s::timestamptz[], %s::bigint[], %s::bigint[], %s::numeric[]) AS n
        ON CONFLICT ON CONSTRAINT token_accounts_pkey DO NOTHING
    """
    columns: list[list[object]] = [
        [write.after.user_id for write in writes],
        [write.after.external_id for write in writes],
        [write.after.balance for write in writes],
        [write.after.debt for write in writes],
        [write.after.seq for write in writes],
        [write.after.version for write in writes],
        [write.after.last_at for write in writes],
        [write.tokens_granted for write in writes],
        [write.tokens_used for write in writes],
        [write.cost for write in writes],
    ]
    return conn.execute(sql, [now, *columns]).rowcount == len(writes)


def _write_lots(conn: Conn, writes: Sequence[AccountWrite]) -> None:
    opened: list[tuple[UUID, Lot]] = []
    for write in writes:
        if write.opened:
            left = {lot.lot: lot for lot in write.after.lots}
            for new in write.opened:
                opened.append((write.after.user_id, left.get(new.lot) or replace(new, remaining=0)))
    _insert_lots(conn, opened)
    _update_lots(conn, drawn_lots(writes) + _reopened_lots(writes))
    for write in writes:
        _redate_lots(conn, write)
        if write.after.frozen_at != write.before.frozen_at:
            _freeze(conn, write)
        if write.after.overdraft_limit != write.before.overdraft_limit:
            _limit(conn, write)


def drawn_lots(writes: Iterable[AccountWrite]) -> list[DrawnLot]:
    """Return (user_id, lot, what is left of it) for the lots that were there and hold another number of tokens now."""
    drawn: list[DrawnLot] = []
    for write in writes:
        before, after, user_id = write.before.lots, write.after.lots, write.after.user_id
        if len(before) == len(after) == 1 and before[0].lot == after[0].lot:  # What most spends see.
            if before[0].remaining != after[0].remaining:
                drawn.append((user_id, after[0].lot, after[0].remaining))
            continue
        left = {lot.lot: lot.remaining for lot in after}
        drawn += [(user_id, lot.lot, left.get(lot.lot, 0)) for lot in before if left.get(lot.lot, 0) != lot.remaining]
    return drawn


def _reopened_lots(writes: Iterable[AccountWrite]) -> list[DrawnLot]:
    """Return (user_id, lot, what is in it) for the lots that were used up and hold tokens again."""
    return [
        (write.after.user_id, lot.lot, lot.remaining)
        for write in writes
        for lot in write.after.lots
        if write.before.lot(lot.lot) is None and all(lot.lot != opened.lot for opened in write.opened)
    ]


def _insert_lots(conn: Conn, lots: Sequence[tuple[UUID, Lot]]) -> None:
    if not lots:
        return
    sql = """
        INSERT INTO token_lots (user_id, lot, kind, granted, remaining, priority, effective_at, expires_at, paid_cents,
                                currency, payment_id, subscription_id, cycle_number)
        SELECT *
          FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::smallint[],
                      %s::timestamptz[], %s::timestamptz[], %s::bigint[], %s::text[], %s::text[], %s::text[],
                      %s::integer[])
    """
    rows = [
        (user_id, lot.lot, lot.kind, lot.granted, lot.remaining, lot.priority, lot.effective_at, lot.expires_at,
         lot.paid_cents, lot.currency, lot.payment_id, lot.subscription_id, lot.cycle_number)
        for user_id, lot in lots
    ]  # fmt: skip
    conn.execute(sql, [list(column) for column in zip(*rows, strict=True)])


def _update_lots(conn: Conn, drawn: Sequence[DrawnLot]) -> None:
    if drawn:
        written = conn.execute(UPDATE_LOTS, lot_columns(drawn)).rowcount
        assert written == len(drawn), (written, drawn)


def lot_columns(drawn: Sequence[DrawnLot]) -> list[packing.Packed]:
    """Return what UPDATE_LOTS takes."""
    return [
        packing.uuids([user_id.bytes for user_id, _, _ in drawn]),
        packing.bigints([lot for _, lot, _ in drawn]),
        packing.bigints([left for _, _, left in drawn]),
    ]


def _redate_lots(conn: Conn, write: AccountWrite) -> None:
    before = {lot.lot: lot.expires_at for lot in write.before.lots}
    for lot in write.after.lots:
        if lot.lot in before and lot.expires_at != before[lot.lot]:
            sql = "UPDATE token_lots SET expires_at = %s WHERE user_id = %s AND lot = %s"
            conn.execute(sql, [lot.expires_at, write.after.user_id, lot.lot])


def _freeze(conn: Conn, write: AccountWrite) -> None:
    """Freeze the account for a dispute, or release it. Only a reversal changes this."""
    sql = """
        UPDATE token_accounts
           SET frozen_at = %(at)s, frozen_for = CASE WHEN %(at)s::timestamptz IS NOT NULL THEN 'dispute' END
         WHERE user_id = %(user)s
    """
    conn.execute(sql, {"at": write.after.frozen_at, "user": write.after.user_id})


def _limit(conn: Conn, write: AccountWrite) -> None:
    sql = "UPDATE token_accounts SET overdraft_limit = %s WHERE user_id = %s"
    conn.execute(sql, [write.after.overdraft_limit, write.after.user_id])
