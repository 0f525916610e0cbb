"""Reads and writes `token_subscriptions` and the history behind it, and finds whose a customer or subscription is.

What a subscription's row says of its status is a projection (`project`). Whoever adds to the history holds `lock`
meanwhile, so that of two pieces of news at the same moment neither is missed.
"""

from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tokentill.core.plans.clocks import History, PaidPeriod, Standing, State
from tokentill.core.plans.subscriptions import Subscription
from tokentill.store.db import Conn

_COLUMNS = """user_id, external_id, subscription_id, plan_key, status, billed_by, anchor, anchor_cycle, is_anchor_known,
              cycle_number, stripe_customer_id, stripe_status, status_at, paid_until, trial_starts_at, trial_ends_at,
              cancel_at, announced_plan_key, revision"""
_STATE = """at, told_by, status, stripe_status, plan_key, is_trial, trial_starts_at, trial_ends_at, cancel_at,
            occurred_at"""
_PERIOD = """starts_at, ends_at, plan_key, first_cycle, cycles_count, invoice_id, payment_id, amount_paid_cents,
             currency, paid_at"""


def lock(conn: Conn, subscription_id: str) -> None:
    """Let nobody else add to this subscription's history until the transaction ends."""
    sql = """
        INSERT INTO subscription_turns AS t VALUES (%s, 1)
            ON CONFLICT ON CONSTRAINT subscription_turns_pkey DO UPDATE SET turn = t.turn + 1
    """
    conn.execute(sql, [subscription_id])


def establish(conn: Conn, subscription: Subscription, *, now: datetime) -> Subscription:
    """Write the subscription unless it is known, and return it as it is known.

    Whoever comes first sets the anchor, so that two events of one subscription, handled at the same moment by two
    processes, count its cycles alike.
    """
    sql = """
        INSERT INTO token_subscriptions (user_id, external_id, subscription_id, plan_key, status, billed_by, anchor,
                                         anchor_cycle, is_anchor_known, next_drip_at, stripe_customer_id, created_at,
                                         updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT token_subscriptions_pkey DO NOTHING
    """
    s = subscription
    conn.execute(
        sql,
        [s.user_id, s.external_id, s.subscription_id, s.plan_key, s.status, s.billed_by, s.anchor, s.anchor_cycle,
         s.is_anchor_known, s.anchor if s.billed_by == "clock" else None, s.stripe_customer_id, now, now],
    )  # fmt: skip
    found = find(conn, s.user_id, s.subscription_id)
    assert found is not None, subscription
    return found


def find(conn: Conn, user_id: UUID, subscription_id: str) -> Subscription | None:
    """Return one subscription of one user."""
    sql = f"SELECT {_COLUMNS} FROM token_subscriptions WHERE user_id = %s AND subscription_id = %s"
    with conn.cursor(row_factory=class_row(Subscription)) as cursor:
        return cursor.execute(sql.encode(), [user_id, subscription_id]).fetchone()


def of_user(conn: Conn, user_id: UUID) -> list[Subscription]:
    """Return a user's subscriptions, oldest first."""
    sql = f"SELECT {_COLUMNS} FROM token_subscriptions WHERE user_id = %s ORDER BY created_at, subscription_id"
    with conn.cursor(row_factory=class_row(Subscription)) as cursor:
        return cursor.execute(sql.encode(), [user_id]).fetchall()


def due(conn: Conn, *, at: datetime, after: Subscription | None, limit: int = 1000) -> list[Subscription]:
    """Return the subscriptions that our clock may owe a cycle by `at`, in order of user; `after` goes on from there."""
    sql = f"""
        SELECT {_COLUMNS}
          FROM token_subscriptions
         WHERE next_drip_at <= %s
           AND (%s::uuid IS NULL OR (user_id, subscription_id) > (%s, %s))
         ORDER BY user_id, subscription_id
         LIMIT %s
    """
    last = (after.user_id, after.user_id, after.subscription_id) if after else (None, None, None)
    with conn.cursor(row_factory=class_row(Subscription)) as cursor:
        return cursor.execute(sql.encode(), [at, *last, limit]).fetchall()


# -- history ----------------------------------------------------------------------------------------------------------


def history(conn: Conn, subscription: Subscription) -> History:
    """Return all that is known of a subscription, with the cycles that are in the books."""
    user_id, subscription_id = subscription.user_id, subscription.subscription_id
    sql = """
        SELECT cycle_number
          FROM token_lots
         WHERE user_id = %s AND subscription_id = %s AND kind IN ('drip', 'subscription') AND cycle_number IS NOT NULL
    """
    return History(
        states=tuple(states(conn, subscription_id, user_id)),
        periods=tuple(_periods(conn, user_id, subscription_id)),
        given=frozenset(number for (number,) in conn.execute(sql, [user_id, subscription_id])),
    )


def states(conn: Conn, subscription_id: str, user_id: UUID | None) -> list[State]:
    """Return what was told of how it stood, oldest first: by Stripe, and of this user's own subscription by us."""
    sql = f"""
        SELECT {_STATE}
          FROM subscription_states
         WHERE subscription_id = %s AND (user_id IS NULL OR user_id = %s)
         ORDER BY at, told_by
    """
    with conn.cursor(row_factory=class_row(State)) as cursor:
        return cursor.execute(sql.encode(), [subscription_id, user_id]).fetchall()


def _periods(conn: Conn, user_id: UUID, subscription_id: str) -> list[PaidPeriod]:
    sql = f"""
        SELECT {_PERIOD}
          FROM subscription_periods
         WHERE user_id = %s AND subscription_id = %s
         ORDER BY starts_at
    """
    with conn.cursor(row_factory=class_row(PaidPeriod)) as cursor:
        return cursor.execute(sql.encode(), [user_id, subscription_id]).fetchall()


def add_state(conn: Conn, subscription_id: str, state: State, *, user_id: UUID | None, now: datetime) -> None:
    """Keep how a subscription stood; told again, it changes nothing. `user_id` only of one that is ours alone."""
    sql = f"""
        INSERT INTO subscription_states (subscription_id, user_id, created_at, {_STATE})
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT subscription_states_pkey DO NOTHING
    """
    s = state
    conn.execute(
        sql.encode(),
        [subscription_id, user_id, now, s.at, s.told_by, s.status, s.stripe_status, s.plan_key, s.is_trial,
         s.trial_starts_at, s.trial_ends_at, s.cancel_at, s.occurred_at],
    )  # fmt: skip


def add_period(conn: Conn, subscription: Subscription, period: PaidPeriod, *, now: datetime) -> None:
    """Keep a paid period, with the numbers of its cycles, for good."""
    sql = f"""
        INSERT INTO subscription_periods (user_id, subscription_id, created_at, {_PERIOD})
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    """
    p = period
    conn.execute(
        sql.encode(),
        [subscription.user_id, subscription.subscription_id, now, p.starts_at, p.ends_at, p.plan_key, p.first_cycle,
         p.cycles_count, p.invoice_id, p.payment_id, p.amount_paid_cents, p.currency, p.paid_at],
    )  # fmt: skip


def project(
    conn: Conn, subscription: Subscription, standing: Standing, *, next_drip_at: datetime | None, now: datetime
) -> None:
    """Write how the subscription counts (plan, anchor, who bills it) and stands by now; the caller holds its lock."""
    sql = """
        UPDATE token_subscriptions
           SET plan_key = %s, billed_by = %s, anchor = %s, anchor_cycle = %s, is_anchor_known = %s,
               stripe_customer_id = coalesce(stripe_customer_id, %s), status = %s, status_at = %s, stripe_status = %s,
               paid_until = %s, trial_starts_at = %s, trial_ends_at = %s, cancel_at = %s, announced_plan_key = %s,
               next_drip_at = %s, revision = revision + 1, updated_at = %s
         WHERE user_id = %s AND subscription_id = %s
    """
    s, now_is = subscription, standing
    conn.execute(
        sql,
        [s.plan_key, s.billed_by, s.anchor, s.anchor_cycle, s.is_anchor_known, s.stripe_customer_id, now_is.status,
         now_is.status_at, now_is.stripe_status, now_is.paid_until, now_is.trial_starts_at, now_is.trial_ends_at,
         now_is.cancel_at, now_is.announced_plan_key, next_drip_at, now, s.user_id, s.subscription_id],
    )  # fmt: skip


def wait_until(conn: Conn, subscription: Subscription, next_drip_at: datetime | None) -> None:
    """Say when there will be something to do; whoever has brought news since `subscription` was read knows better."""
    sql = """
        UPDATE token_subscriptions
           SET next_drip_at = %s
         WHERE user_id = %s AND subscription_id = %s AND revision = %s AND next_drip_at IS DISTINCT FROM %s
    """
    s = subscription
    conn.execute(sql, [next_drip_at, s.user_id, s.subscription_id, s.revision, next_drip_at])


def is_trial_given(conn: Conn, user_id: UUID, subscription_id: str) -> bool:
    """Whether the trial of this subscription is in the books, whoever gave it."""
    sql = "SELECT EXISTS (SELECT FROM token_lots WHERE user_id = %s AND subscription_id = %s AND kind = 'trial')"
    return conn.execute(sql, [user_id, subscription_id]).fetchone() == (True,)


# -- whose ------------------------------------------------------------------------------------------------------------


def known_user(conn: Conn, *, subscription_id: str | None, customer_id: str | None) -> UUID | None:
    """Return whose subscription, else whose customer this is."""
    if subscription_id is not None:
        sql = "SELECT user_id FROM token_subscriptions WHERE subscription_id = %s ORDER BY created_at LIMIT 1"
        if row := conn.execute(sql, [subscription_id]).fetchone():
            return UUID(str(row[0]))
    if customer_id is not None:
        sql = "SELECT user_id FROM stripe_customers WHERE customer_id = %s"
        if row := conn.execute(sql, [customer_id]).fetchone():
            return UUID(str(row[0]))
    return None
