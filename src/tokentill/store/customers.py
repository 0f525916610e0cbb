"""Reads and writes `stripe_customers`: which user a Stripe customer is; finds whose a subscription or payment is."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tokentill.core.users import User
from tokentill.store.db import Conn


@dataclass(frozen=True, slots=True)
class Known:
    """The users that subscriptions, payments and customers are known to belong to, by their ids in Stripe."""

    of_subscription: dict[str, User]
    of_payment: dict[str, User]
    of_customer: dict[str, User]


def known(
    conn: Conn, *, subscriptions: Collection[str], payments: Collection[str], customers: Collection[str]
) -> Known:
    """Return whose these subscriptions, payments and customers are, as far as that is known."""
    sql = """
        SELECT 0, s.subscription_id, s.user_id, coalesce(a.external_id, s.external_id), s.created_at
          FROM token_subscriptions s
          LEFT JOIN token_accounts a USING (user_id)
         WHERE s.subscription_id = ANY(%s)
         UNION ALL
        SELECT 1, p.payment_id, p.user_id, a.external_id, p.created_at
          FROM payments p
          LEFT JOIN token_accounts a USING (user_id)
         WHERE p.payment_id = ANY(%s) AND p.user_id IS NOT NULL
         UNION ALL
        SELECT 2, c.customer_id, c.user_id, coalesce(a.external_id, c.external_id), c.created_at
          FROM stripe_customers c
          LEFT JOIN token_accounts a USING (user_id)
         WHERE c.customer_id = ANY(%s)
         ORDER BY 5
    """
    found = Known({}, {}, {})
    if subscriptions or payments or customers:
        rows = conn.execute(sql, [list(subscriptions), list(payments), list(customers)])
        for of_what, name, user_id, external_id, _ in rows:
            # Of two users of one subscription, it is the first one's.
            whose = (found.of_subscription, found.of_payment, found.of_customer)[of_what]
            whose.setdefault(name, User(user_id, external_id))
    return found


def link(conn: Conn, customer_id: str, user: User, *, now: datetime) -> UUID | None:
    """Let the customer be this user, whoever it was before; return who that was."""
    before = conn.execute("SELECT user_id FROM stripe_customers WHERE customer_id = %s", [customer_id]).fetchone()
    sql = """
        INSERT INTO stripe_customers (customer_id, user_id, external_id, created_at)
        VALUES (%s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT stripe_customers_pkey
        DO UPDATE SET user_id = excluded.user_id, external_id = excluded.external_id
    """
    conn.execute(sql, [customer_id, user.user_id, user.external_id, now])
    return UUID(str(before[0])) if before else None
