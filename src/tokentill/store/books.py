"""Proves the books over a range of accounts, set by set: laws 1, 2 and 7, 3 for holds, the clock of drips. Reads only.

Each check is one statement that returns what disagrees: nothing, when the books are right.
"""

from collections.abc import Iterator
from itertools import pairwise
from uuid import UUID

from tokentill.core.findings import Finding
from tokentill.store import profiles
from tokentill.store.db import Conn

_JOURNAL = """
    SELECT user_id, seq, balance_before, balance_after, lot_moves, debt_change
      FROM token_transactions WHERE user_id BETWEEN %(first)s AND %(last)s
    UNION ALL
    SELECT user_id, seq, balance_before, balance_after, lot_moves, debt_change
      FROM token_drips WHERE user_id BETWEEN %(first)s AND %(last)s
    UNION ALL
    SELECT user_id, seq, balance_before, balance_after, lot_moves, debt_change
      FROM token_usage WHERE user_id BETWEEN %(first)s AND %(last)s
"""

_MOVES = f"""
    SELECT j.user_id, j.lot_moves[i] AS lot, j.lot_moves[i + 1] AS tokens
      FROM ({_JOURNAL}) j, generate_series(1, cardinality(j.lot_moves), 2) AS i
"""

# Each returns user_id, seq, expected, found.
_CHECKS = {
    "chain": f"""
        SELECT user_id, seq,
               format('seq %%s, before %%s', coalesce(last_seq, 0) + 1, coalesce(last_balance, 0)),
               format('seq %%s, before %%s', seq, balance_before)
          FROM (SELECT user_id, seq, balance_before,
                       lag(seq) OVER w AS last_seq, lag(balance_after) OVER w AS last_balance
                  FROM ({_JOURNAL}) journal
                WINDOW w AS (PARTITION BY user_id ORDER BY seq)) chained
         WHERE seq <> coalesce(last_seq, 0) + 1 OR balance_before <> coalesce(last_balance, 0)
    """,
    "end": f"""
        SELECT a.user_id, a.seq, format('seq %%s, balance %%s', coalesce(j.seq, 0), coalesce(j.balance_after, 0)),
               format('seq %%s, balance %%s', a.seq, a.balance)
          FROM token_accounts a
          LEFT JOIN (SELECT DISTINCT ON (user_id) user_id, seq, balance_after
                       FROM ({_JOURNAL}) journal
                      ORDER BY user_id, seq DESC) j USING (user_id)
         WHERE a.user_id BETWEEN %(first)s AND %(last)s
           AND (a.seq, a.balance) <> (coalesce(j.seq, 0), coalesce(j.balance_after, 0))
    """,
    "orphan": """
        SELECT user_id, min(seq), 'an account', format('%%s usage rows without one', count(*))
          FROM token_usage u
         WHERE user_id BETWEEN %(first)s AND %(last)s
           AND NOT EXISTS (SELECT FROM token_accounts a WHERE a.user_id = u.user_id)
         GROUP BY user_id
    """,
    "row": f"""
        SELECT user_id, seq, (balance_after - balance_before)::text, (moved - debt_change)::text
          FROM (SELECT user_id, seq, balance_before, balance_after, debt_change,
                       coalesce((SELECT sum(lot_moves[i + 1])
                                   FROM generate_series(1, cardinality(lot_moves), 2) AS i), 0) AS moved
                  FROM ({_JOURNAL}) journal) summed
         WHERE moved - debt_change <> balance_after - balance_before
    """,
    "lot": f"""
        SELECT coalesce(l.user_id, m.user_id), coalesce(l.lot, m.lot),
               coalesce(m.tokens, 0)::text || ' left by its moves', coalesce(l.remaining::text, 'no such lot')
          FROM (SELECT * FROM token_lots WHERE user_id BETWEEN %(first)s AND %(last)s) l
          FULL JOIN (SELECT user_id, lot, sum(tokens) AS tokens FROM ({_MOVES}) moves GROUP BY user_id, lot) m
               ON m.user_id = l.user_id AND m.lot = l.lot
         WHERE l.remaining IS DISTINCT FROM coalesce(m.tokens, 0)
    """,
    "sum": """
        SELECT a.user_id, NULL, (coalesce(l.remaining, 0) - a.debt)::text, a.balance::text
          FROM token_accounts a
          LEFT JOIN (SELECT user_id, sum(remaining) AS remaining
                       FROM token_lots WHERE user_id BETWEEN %(first)s AND %(last)s
                      GROUP BY user_id) l USING (user_id)
         WHERE a.user_id BETWEEN %(first)s AND %(last)s AND coalesce(l.remaining, 0) - a.debt <> a.balance
    """,
    "debt": f"""
        SELECT a.user_id, NULL,
               format('debt %%s, and no open lot beside it', coalesce(j.debt, 0)),
               format('debt %%s, %%s open lots', a.debt, coalesce(l.open_lots, 0))
          FROM token_accounts a
          LEFT JOIN (SELECT user_id, sum(debt_change) AS debt FROM ({_JOURNAL}) journal GROUP BY user_id) j
         USING (user_id)
          LEFT JOIN (SELECT user_id, count(*) AS open_lots
                       FROM token_lots WHERE user_id BETWEEN %(first)s AND %(last)s AND remaining > 0
                      GROUP BY user_id) l USING (user_id)
         WHERE a.user_id BETWEEN %(first)s AND %(last)s
           AND (a.debt <> coalesce(j.debt, 0) OR (a.debt > 0 AND l.open_lots > 0))
    """,
    "hold": """
        SELECT coalesce(h.user_id, u.user_id), coalesce(h.captured_seq, u.seq),
               CASE WHEN h.hold_id IS NULL THEN format('hold %%s, captured by this row', u.hold_id)
                    ELSE format('a row that captured hold %%s', h.hold_id) END,
               CASE WHEN h.hold_id IS NULL THEN 'no such hold, or captured by another row' ELSE 'no such row' END
          FROM (SELECT user_id, hold_id, captured_seq FROM token_holds
                 WHERE user_id BETWEEN %(first)s AND %(last)s AND state = 'captured') h
          FULL JOIN (SELECT user_id, hold_id, seq FROM token_usage
                      WHERE user_id BETWEEN %(first)s AND %(last)s AND hold_id IS NOT NULL) u
               ON u.user_id = h.user_id AND u.hold_id = h.hold_id AND u.seq = h.captured_seq
         WHERE h.hold_id IS NULL OR u.hold_id IS NULL
    """,
    # A cycle has 2,419,200 seconds, and the next one begins where it ends. Where Stripe moves a billing day, a cycle
    # may begin at any other time, but hardly by whole half-hours: that is what a change of clocks does.
    "clock": """
        SELECT user_id, seq, format('cycle %%s begins 2419200 s after the one before, and lasts as long', cycle_number),
               format('%%s s after it, for %%s s', coalesce(step::text, '?'), length)
          FROM (SELECT user_id, seq, cycle_number,
                       extract(epoch FROM billing_period_end - billing_period_start)::bigint AS length,
                       CASE WHEN cycle_number = lag(cycle_number) OVER w + 1
                            THEN extract(epoch FROM billing_period_start - lag(billing_period_start) OVER w)::bigint END
                           AS step
                  FROM token_drips
                 WHERE user_id BETWEEN %(first)s AND %(last)s
                WINDOW w AS (PARTITION BY user_id, subscription_id ORDER BY cycle_number)) drips
         WHERE length <> 2419200
            OR (abs(step - 2419200) BETWEEN 1800 AND 7200 AND (step - 2419200) %% 1800 = 0)
    """,
    "shown": """
        SELECT a.user_id, NULL, (coalesce(l.alive, 0) - a.debt)::text, p.vibe_assistant_tokens_remaining::text
          FROM token_accounts a
          JOIN user_profiles p USING (user_id)
          LEFT JOIN (SELECT user_id, sum(remaining) AS alive
                       FROM token_lots
                      WHERE user_id BETWEEN %(first)s AND %(last)s
                        AND (expires_at IS NULL OR expires_at > statement_timestamp())
                      GROUP BY user_id) l USING (user_id)
         WHERE a.user_id BETWEEN %(first)s AND %(last)s
           AND p.vibe_assistant_tokens_remaining <> coalesce(l.alive, 0) - a.debt
    """,
}


def slices(count: int) -> list[tuple[UUID, UUID]]:
    """Return `count` ranges of user ids that cover them all; both ends inclusive."""
    step = 2**128 // count
    starts = [i * step for i in range(count)] + [2**128]
    return [(UUID(int=first), UUID(int=following - 1)) for first, following in pairwise(starts)]


def counts(conn: Conn) -> dict[str, int]:
    """Return how much there is to prove."""
    sql = """
        SELECT (SELECT count(*) FROM token_accounts), (SELECT count(*) FROM token_lots),
               (SELECT count(*) FROM token_transactions), (SELECT count(*) FROM token_drips),
               (SELECT count(*) FROM token_usage), (SELECT count(*) FROM token_holds)
    """
    row = conn.execute(sql).fetchone()
    assert row is not None
    return dict(zip(("accounts", "lots", "transactions", "drips", "usage", "holds"), row, strict=True))


def check(conn: Conn, first: UUID, last: UUID) -> Iterator[Finding]:
    """Yield every disagreement in the accounts from `first` to `last`."""
    for name, sql in _CHECKS.items():
        if name == "shown" and not _has_profiles_view(conn):
            continue
        for user_id, seq, expected, found in conn.execute(sql.encode(), {"first": first, "last": last}):
            yield Finding(check=name, user_id=user_id, seq=seq, expected=expected, found=found)
    host = profiles.read(conn)
    for user_id, seq, expected, found in profiles.differences(conn, host, first, last) if host else ():
        yield Finding(check="profile", user_id=user_id, seq=seq, expected=expected, found=found)


def _has_profiles_view(conn: Conn) -> bool:
    """Whether `user_profiles` is ours: a host's own table of that name is none of our business."""
    sql = "SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('user_profiles') AND relkind = 'v')"
    return conn.execute(sql).fetchone() == (True,)


def begin_snapshot(conn: Conn) -> None:
    """Read everything that follows as of one moment: the till goes on selling meanwhile."""
    conn.rollback()
    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
