"""Reads and writes `token_accounts` and `token_lots`. Writing is compare-and-set on the account's version."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from tokentill.core.account import Account, Loss
from tokentill.core.lots import Lot, burn_order
from tokentill.store.db import Conn, array


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountWrite:
    """One account before and after a batch, and what the batch adds to its lifetime totals."""

    before: Account
    after: Account
    opened: tuple[Lot, ...]
    tokens_granted: int
    tokens_used: int
    cost: Decimal


def load(conn: Conn, user_ids: Iterable[UUID]) -> dict[UUID, Account]:
    """Return those of the accounts that exist, with their open lots.

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
    return {
        user_id: replace(account, lots=tuple(sorted(lots[user_id], key=burn_order)), losses=losses.get(user_id, ()))
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
    ordered = sorted(writes, key=lambda write: write.after.user_id)
    created = [write for write in ordered if write.before.version == 0]
    updated = [write for write in ordered if write.before.version != 0]
    if created and not _insert_accounts(conn, created, now):
        return False
    if updated and not _update_accounts(conn, updated):
        return False
    _write_lots(conn, ordered)
    return True


def _update_accounts(conn: Conn, writes: Sequence[AccountWrite]) -> bool:
    sql = """
        UPDATE token_accounts AS a
           SET balance = n.balance, debt = n.debt, seq = n.seq, version = n.version + 1, last_at = n.last_at,
               lifetime_tokens_granted = a.lifetime_tokens_granted + n.granted,
               lifetime_tokens_used = a.lifetime_tokens_used + n.used,
               lifetime_cost = a.lifetime_cost + n.cost
          FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[],
                      %s::bigint[], %s::bigint[], %s::numeric[])
            AS n (user_id, version, balance, debt, seq, last_at, granted, used, cost)
         WHERE a.user_id = n.user_id AND a.version = n.version AND a.user_id = ANY(%s::uuid[])
    """
    ids = array(write.after.user_id for write in writes)
    columns = [
        ids,
        array(write.before.version for write in writes),
        array(write.after.balance for write in writes),
        array(write.after.debt for write in writes),
        array(write.after.seq for write in writes),
        array(write.after.last_at for write in writes),
        array(write.tokens_granted for write in writes),
        array(write.tokens_used for write in writes),
        array(write.cost for write in writes),
    ]
    return conn.execute(sql, [*columns, ids]).rowcount == len(writes)


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
        [1] * len(writes),
        [write.after.last_at for write in writes],
        [write.tokens_granted for write in writes],
        [write.tokens_used for write in writes],
        [write.cost for write in writes],
    ]
    return conn.execute(sql, [now, *columns]).rowcount == len(writes)


def _write_lots(conn: Conn, writes: Sequence[AccountWrite]) -> None:
    opened: list[tuple[UUID, Lot]] = []
    drawn: list[tuple[UUID, int, int]] = []
    redated: list[tuple[UUID, int, datetime | None]] = []
    for write in writes:
        user_id = write.after.user_id
        left = {lot.lot: lot for lot in write.after.lots}
        for lot in write.opened:
            opened.append((user_id, left.get(lot.lot) or replace(lot, remaining=0)))
        for lot in write.before.lots:
            now_left = left.get(lot.lot)
            remaining = now_left.remaining if now_left else 0
            if remaining != lot.remaining:
                drawn.append((user_id, lot.lot, remaining))
            if now_left is not None and now_left.expires_at != lot.expires_at:
                redated.append((user_id, lot.lot, now_left.expires_at))
    _insert_lots(conn, opened)
    _update_lots(conn, drawn)
    _redate_lots(conn, redated)


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


def _update_lots(conn: Conn, drawn: Sequence[tuple[UUID, int, int]]) -> None:
    if not drawn:
        return
    sql = """
        UPDATE token_lots AS l
           SET remaining = n.remaining
          FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) AS n (user_id, lot, remaining)
         WHERE l.user_id = n.user_id AND l.lot = n.lot AND l.user_id = ANY(%s::uuid[])
    """
    columns = [array(column) for column in zip(*drawn, strict=True)]
    written = conn.execute(sql, [*columns, columns[0]]).rowcount
    assert written == len(drawn), (written, drawn)


def _redate_lots(conn: Conn, redated: Sequence[tuple[UUID, int, datetime | None]]) -> None:
    for user_id, lot, expires_at in redated:
        sql = "UPDATE token_lots SET expires_at = %s WHERE user_id = %s AND lot = %s"
        conn.execute(sql, [expires_at, user_id, lot])
