"""Reads and writes the money side: payments under all their names, refunds, disputes, and what was done about them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tokentill.core.companions import PaymentSeen
from tokentill.core.ledger.commands import Reverse
from tokentill.core.ledger.lots import Lot
from tokentill.core.ledger.reversals import Bought, BoughtLot, MoneyBack, Source
from tokentill.core.stripe.meanings import DisputeSeen, MoneySeen, RefundSeen
from tokentill.store.accounts import lot_of
from tokentill.store.db import Conn

# All names of the payment that %(payment)s is one name of. Here and below each step is a look into an index, whatever
# the planner believes of the tables' sizes: on tables that nobody has analyzed yet, joins took a hundred times as long.
_NAMES = """
    WITH RECURSIVE named (name) AS (
        SELECT %(payment)s::text
        UNION
        SELECT l.other
              FROM named, LATERAL (SELECT other FROM payment_links WHERE name = named.name OFFSET 0) l)
"""

_LOT = """lot, kind, granted, remaining, priority, effective_at, expires_at, paid_cents, currency, payment_id,
          subscription_id, cycle_number"""


# --- What was paid ---


def write_seen(conn: Conn, seen: Sequence[tuple[UUID, PaymentSeen]], *, now: datetime) -> None:
    """Write payments of these users. Each event tells some of a payment, and none blanks what another told.

    The amount is the largest that anybody told: one of several charges for an invoice tells of its own part only.
    """
    told: dict[str, list[object]] = {}
    links: set[tuple[str, str]] = set()
    for user_id, one in seen:
        facts = [user_id, one.amount_cents, one.currency, one.customer_id, one.session_id, one.invoice_id, one.paid_at,
                 one.period_start]  # fmt: skip
        before = told.get(one.payment_id, facts)
        told[one.payment_id] = [old if old is not None else new for old, new in zip(before, facts, strict=True)]
        links |= {(one.payment_id, name) for name in (*one.names, one.session_id, one.invoice_id) if name}
    sql = """
        INSERT INTO payments AS p
               (payment_id, user_id, amount_cents, currency, customer_id, session_id, invoice_id, paid_at, period_start,
                created_at)
        SELECT n.*, %s
          FROM unnest(%s::text[], %s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[],
                      %s::timestamptz[], %s::timestamptz[]) AS n
            ON CONFLICT ON CONSTRAINT payments_pkey DO UPDATE
           SET user_id = coalesce(p.user_id, excluded.user_id),
               amount_cents = greatest(p.amount_cents, excluded.amount_cents),
               currency = coalesce(p.currency, excluded.currency),
               customer_id = coalesce(p.customer_id, excluded.customer_id),
               session_id = coalesce(p.session_id, excluded.session_id),
               invoice_id = coalesce(p.invoice_id, excluded.invoice_id),
               paid_at = coalesce(p.paid_at, excluded.paid_at),
               period_start = coalesce(p.period_start, excluded.period_start)
    """
    # Sorted, here and below: two batches that write the same rows in another order would deadlock.
    names = sorted(told)
    conn.execute(sql, [now, names, *(list(column) for column in zip(*(told[name] for name in names), strict=True))])
    _link(conn, links, now)
    # They have bought something more: what is known of their refunds and disputes concerns that, too. As a revision of
    # its own, so that whoever is about to say "settled" of what there was before does not mean this as well.
    reopen = """
        WITH RECURSIVE named (name) AS (
            SELECT unnest(%s::text[])
            UNION
            SELECT l.other
              FROM named, LATERAL (SELECT other FROM payment_links WHERE name = named.name OFFSET 0) l)
        UPDATE payments
           SET revision = revision + 1
         WHERE revision > 0 AND payment_id = ANY(ARRAY(SELECT name FROM named))
    """
    conn.execute(reopen, [names])


def _link(conn: Conn, links: Iterable[tuple[str, str]], now: datetime) -> None:
    pairs = sorted({pair for one, other in links if one != other for pair in ((one, other), (other, one))})
    if not pairs:
        return
    sql = """
        INSERT INTO payment_links (name, other, created_at)
        SELECT n.name, n.other, %s
          FROM unnest(%s::text[], %s::text[]) AS n (name, other)
            ON CONFLICT ON CONSTRAINT payment_links_pkey DO NOTHING
    """
    conn.execute(sql, [now, [name for name, _ in pairs], [other for _, other in pairs]])


def is_invoice_known(conn: Conn, user_id: UUID, invoice_id: str) -> bool:
    """Whether this invoice was acted on: then what it paid for is in the books."""
    sql = """
        SELECT EXISTS (SELECT FROM payments WHERE user_id = %s AND invoice_id = %s AND period_start IS NOT NULL)
    """
    return conn.execute(sql, [user_id, invoice_id]).fetchone() == (True,)


# --- What moved back ---


def note_money(conn: Conn, seen: MoneySeen, *, now: datetime) -> None:
    """Write how a payment's money stood. Of each object the newest snapshot counts, whatever order they come in."""
    sql = """
        INSERT INTO payments AS p (payment_id, amount_cents, currency, customer_id, refunded_cents, refunded_seen_at,
                                   revision, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, 1, %s)
        ON CONFLICT ON CONSTRAINT payments_pkey DO UPDATE
           SET amount_cents = coalesce(p.amount_cents, excluded.amount_cents),
               currency = coalesce(p.currency, excluded.currency),
               customer_id = coalesce(p.customer_id, excluded.customer_id),
               refunded_cents = CASE WHEN excluded.refunded_seen_at > p.refunded_seen_at THEN excluded.refunded_cents
                                     WHEN excluded.refunded_seen_at < p.refunded_seen_at THEN p.refunded_cents
                                     ELSE greatest(excluded.refunded_cents, p.refunded_cents) END,
               refunded_seen_at = greatest(p.refunded_seen_at, excluded.refunded_seen_at),
               revision = p.revision + 1
    """
    refunded_at = None if seen.refunded_cents is None else seen.seen_at
    conn.execute(
        sql,
        [
            seen.payment_id,
            seen.amount_cents,
            seen.currency,
            seen.who.customer_id,
            seen.refunded_cents,
            refunded_at,
            now,
        ],
    )
    _link(conn, {(seen.payment_id, name) for name in seen.names}, now)
    for refund in sorted(seen.refunds, key=lambda refund: refund.refund_id):
        _note_refund(conn, seen, refund, now)
    if seen.dispute is not None:
        _note_dispute(conn, seen, seen.dispute, now)


def _note_refund(conn: Conn, seen: MoneySeen, refund: RefundSeen, now: datetime) -> None:
    # Of two snapshots of one second the later in a refund's life counts, then the larger.
    sql = """
        INSERT INTO payment_refunds AS r (refund_id, payment_id, amount_cents, currency, status, seen_at, created_at)
        VALUES (%(id)s, %(payment)s, %(cents)s, %(currency)s, %(status)s, %(seen_at)s, %(now)s)
        ON CONFLICT ON CONSTRAINT payment_refunds_pkey DO UPDATE
           SET amount_cents = excluded.amount_cents, currency = excluded.currency, status = excluded.status,
               seen_at = excluded.seen_at
         WHERE (excluded.seen_at, array_position(%(order)s::text[], excluded.status), excluded.amount_cents)
             > (r.seen_at, array_position(%(order)s::text[], r.status), r.amount_cents)
    """
    conn.execute(
        sql,
        {"id": refund.refund_id, "payment": seen.payment_id, "cents": refund.amount_cents, "currency": refund.currency,
         "status": refund.status, "seen_at": seen.seen_at, "now": now,
         "order": ["pending", "requires_action", "succeeded", "canceled", "failed"]},
    )  # fmt: skip


def _note_dispute(conn: Conn, seen: MoneySeen, dispute: DisputeSeen, now: datetime) -> None:
    # What moved has moved: sums only grow, whichever snapshot is newer.
    sql = """
        INSERT INTO payment_disputes AS d (dispute_id, payment_id, amount_cents, currency, status, withdrawn_cents,
                                           reinstated_cents, seen_at, created_at)
        VALUES (%(id)s, %(payment)s, %(cents)s, %(currency)s, %(status)s, %(withdrawn)s, %(reinstated)s, %(seen_at)s,
                %(now)s)
        ON CONFLICT ON CONSTRAINT payment_disputes_pkey DO UPDATE
           SET (amount_cents, status, seen_at) = (
                   SELECT amount_cents, status, seen_at
                     FROM (VALUES (excluded.amount_cents, excluded.status, excluded.seen_at),
                                  (d.amount_cents, d.status, d.seen_at)) AS told (amount_cents, status, seen_at)
                    ORDER BY seen_at DESC, array_position(%(order)s::text[], status) DESC, amount_cents DESC
                    LIMIT 1),
               withdrawn_cents = greatest(d.withdrawn_cents, excluded.withdrawn_cents),
               reinstated_cents = greatest(d.reinstated_cents, excluded.reinstated_cents)
    """
    conn.execute(
        sql,
        {"id": dispute.dispute_id, "payment": seen.payment_id, "cents": dispute.amount_cents,
         "currency": dispute.currency, "status": dispute.status, "withdrawn": dispute.withdrawn_cents,
         "reinstated": dispute.reinstated_cents, "seen_at": seen.seen_at, "now": now,
         "order": ["harmless", "open", "lost", "won"]},
    )  # fmt: skip


def write_settled(conn: Conn, revisions: Sequence[tuple[str, int]]) -> None:
    """Say that the books have followed what was known of these payments at these revisions."""
    sql = """
        UPDATE payments AS p
           SET settled_revision = greatest(p.settled_revision, n.revision)
          FROM unnest(%s::text[], %s::bigint[]) AS n (payment_id, revision)
         WHERE p.payment_id = n.payment_id
    """
    ordered = sorted(revisions)
    conn.execute(sql, [[name for name, _ in ordered], [revision for _, revision in ordered]])


def reopen_repaid(conn: Conn, user_id: UUID, beside: Sequence[str], *, now: datetime) -> None:
    """Reopen the payments whose lots have just got back what a reversal of another one (`beside`) took from them.

    What is back may be what their own refunds ask for, and did not find there.
    """
    sql = """
        WITH RECURSIVE repaid (lot) AS (
            SELECT (owed ->> 0)::bigint
              FROM token_transactions, jsonb_array_elements(metadata -> 'owed') AS owed
             WHERE user_id = %(user)s AND transaction_type = 'refund' AND source = 'stripe' AND created_at = %(now)s
               AND (owed ->> 1)::bigint < 0),
        named (name) AS (
            SELECT unnest(ARRAY[payment_id, subscription_id || '#' || cycle_number])
              FROM token_lots
             WHERE user_id = %(user)s AND lot IN (SELECT lot FROM repaid)
            UNION
            SELECT l.other
              FROM named, LATERAL (SELECT other FROM payment_links WHERE name = named.name OFFSET 0) l)
        UPDATE payments
           SET revision = revision + 1
         WHERE revision > 0 AND payment_id = ANY(ARRAY(SELECT name FROM named)) AND payment_id <> ALL(%(beside)s)
    """
    conn.execute(sql, {"user": user_id, "now": now, "beside": list(beside)})


def unsettled_of(conn: Conn, user_ids: Sequence[UUID]) -> list[str]:
    """Return the payments of these users whose money is ahead of the books."""
    sql = """
        WITH RECURSIVE named (name) AS (
            SELECT payment_id FROM payments WHERE user_id = ANY(%s)
            UNION
            SELECT l.other
              FROM named, LATERAL (SELECT other FROM payment_links WHERE name = named.name OFFSET 0) l)
        SELECT payment_id
          FROM payments
         WHERE payment_id = ANY(ARRAY(SELECT name FROM named)) AND revision > settled_revision
         ORDER BY payment_id
    """
    return [row[0] for row in conn.execute(sql, [list(user_ids)])]


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose a payment is (nobody's, while nothing was granted for it), and what is not settled yet."""

    user_ids: tuple[UUID, ...]
    revisions: tuple[tuple[str, int], ...]


def owners(conn: Conn, payment_id: str) -> Owners:
    """Return whose payment this is, told by any of its names, and how far its money is known."""
    sql = f"""
        {_NAMES}
        SELECT payment_id, user_id, revision FROM payments WHERE payment_id = ANY(ARRAY(SELECT name FROM named))
    """
    rows = conn.execute(sql.encode(), {"payment": payment_id}).fetchall()
    users = sorted({user_id for _, user_id, _ in rows if user_id is not None})
    return Owners(tuple(users), tuple((name, revision) for name, _, revision in rows if revision))


def unsettled(conn: Conn, *, after: str = "", limit: int = 500) -> list[str]:
    """Return payments that somebody was granted something for, and whose money is ahead of the books."""
    sql = """
        WITH RECURSIVE named (payment_id, name) AS (
            SELECT payment_id, payment_id FROM payments WHERE revision > settled_revision
            UNION
            SELECT n.payment_id, l.other
              FROM named n, LATERAL (SELECT other FROM payment_links WHERE name = n.name OFFSET 0) l)
        SELECT DISTINCT n.payment_id
          FROM named n
          JOIN payments p ON p.payment_id = n.name AND p.user_id IS NOT NULL
         WHERE n.payment_id > %s
         ORDER BY n.payment_id
         LIMIT %s
    """
    return [row[0] for row in conn.execute(sql, [after, limit])]


def nobodys(conn: Conn, *, limit: int = 100) -> list[str]:
    """Return payment intents whose money moved back, that are nobody's, and that Stripe was not asked about."""
    sql = """
        WITH RECURSIVE named (payment_id, name) AS (
            SELECT payment_id, payment_id
              FROM payments
             WHERE revision > settled_revision AND asked_at IS NULL AND user_id IS NULL AND payment_id LIKE 'pi\\_%%'
            UNION
            SELECT n.payment_id, l.other
              FROM named n, LATERAL (SELECT other FROM payment_links WHERE name = n.name OFFSET 0) l)
        SELECT n.payment_id
          FROM named n
          LEFT JOIN payments p ON p.payment_id = n.name
         GROUP BY n.payment_id
        HAVING count(p.user_id) = 0
         ORDER BY n.payment_id
         LIMIT %s
    """
    return [row[0] for row in conn.execute(sql, [limit])]


def write_asked(conn: Conn, payment_id: str, names: Iterable[str], *, now: datetime) -> None:
    """Write that Stripe was asked about a payment, and the other names that it told."""
    conn.execute("UPDATE payments SET asked_at = %s WHERE payment_id = %s", [now, payment_id])
    _link(conn, {(payment_id, name) for name in names}, now)


def unsettled_among(conn: Conn, payment_ids: Iterable[str]) -> list[str]:
    """Return those of these payments of whose money more is known than the books have followed."""
    sql = """
        WITH RECURSIVE named (payment_id, name) AS (
            SELECT n, n FROM unnest(%s::text[]) AS n
            UNION
            SELECT n.payment_id, l.other
              FROM named n, LATERAL (SELECT other FROM payment_links WHERE name = n.name OFFSET 0) l)
        SELECT DISTINCT n.payment_id
          FROM named n
          JOIN payments p ON p.payment_id = n.name
         WHERE p.revision > p.settled_revision
         ORDER BY n.payment_id
    """
    return [row[0] for row in conn.execute(sql, [sorted(set(payment_ids))])]


def names(conn: Conn, payment_id: str) -> tuple[str, ...]:
    """Return all the names that Stripe gives this payment, and not those of the cycles it bought."""
    sql = f"{_NAMES} SELECT name FROM named WHERE name NOT LIKE '%%#%%' ORDER BY name"
    return tuple(row[0] for row in conn.execute(sql.encode(), {"payment": payment_id}))


def currency(conn: Conn, payment_id: str) -> str | None:
    """Return the currency that a payment was made in."""
    sql = f"{_NAMES} SELECT max(currency) FROM payments WHERE payment_id = ANY(ARRAY(SELECT name FROM named))"
    row = conn.execute(sql.encode(), {"payment": payment_id}).fetchone()
    return row[0] if row else None


# --- What it bought ---


def bought(conn: Conn, reverse: Reverse) -> Bought | None:
    """Return all that is known of a payment and of what it bought for this user; None: nothing."""
    params: dict[str, Any] = {"payment": reverse.payment_id, "user": reverse.user.user_id}
    lots = _lots_bought(conn, params)
    if not lots:
        return None
    params["lots"] = [lot.lot for lot in lots]
    expired, posted = _expired(conn, params), _posted(conn, params)
    params["lots"] = sorted({lot for one in posted.values() for lot, _ in one.owed if lot is not None})
    back, charged = _money_back(conn, params)
    frozen_for, has_open_dispute = _frozen(conn, params)
    return Bought(
        payment_id=reverse.payment_id,
        paid_cents=_paid_in_all(lots, charged),
        lots=tuple(_bought_lot(lot, expired.get(lot.lot, 0), posted.get(lot.lot, _Posted())) for lot in lots),
        back=back,
        others={lot.lot: lot for lot in _lots(conn, params)} if params["lots"] else {},
        has_open_dispute=has_open_dispute,
        frozen_for=frozen_for,
    )


def _paid_in_all(lots: Sequence[Lot], charged_cents: int) -> int:
    """Return what the whole payment was, of which a refund takes its part from every lot.

    What a long period of a plan paid for may not all have been given yet, and its first cycle may carry the whole sum:
    there only the payment knows. Packs that the app recorded one by one each tell of their own part.
    """
    paid = sum(lot.paid_cents or 0 for lot in lots)
    if any(lot.subscription_id is not None for lot in lots):
        return charged_cents or paid
    return max(paid, charged_cents)


@dataclass(frozen=True, slots=True)
class _Posted:
    """What reversals have posted against one lot so far."""

    from_lot_tokens: int = 0
    owed: tuple[tuple[Source, int], ...] = ()
    forgiven_tokens: int = 0


def _bought_lot(lot: Lot, expired_tokens: int, posted: _Posted) -> BoughtLot:
    return BoughtLot(
        lot=lot,
        expired_tokens=expired_tokens,
        from_lot_tokens=posted.from_lot_tokens,
        owed=posted.owed,
        forgiven_tokens=posted.forgiven_tokens,
    )


def _lots_bought(conn: Conn, params: Mapping[str, object]) -> list[Lot]:
    # A cycle that somebody else asked for before its invoice came carries no payment: its own name finds it.
    sql = f"""
        {_NAMES}
        SELECT {_LOT}
          FROM token_lots
         WHERE user_id = %(user)s
           AND (payment_id = ANY(ARRAY(SELECT name FROM named))
                OR subscription_id || '#' || cycle_number IN (SELECT name FROM named))
         ORDER BY lot
    """
    return [lot_of(row) for row in conn.execute(sql.encode(), params)]


def _lots(conn: Conn, params: Mapping[str, object]) -> list[Lot]:
    sql = f"SELECT {_LOT} FROM token_lots WHERE user_id = %(user)s AND lot = ANY(%(lots)s)"
    return [lot_of(row) for row in conn.execute(sql.encode(), params)]


def _expired(conn: Conn, params: Mapping[str, object]) -> dict[int, int]:
    sql = """
        SELECT lot_moves[1], sum(-lot_moves[2])::bigint
          FROM token_transactions
         WHERE user_id = %(user)s AND transaction_type = 'expiration' AND lot_moves[1] = ANY(%(lots)s)
         GROUP BY lot_moves[1]
    """
    return dict(conn.execute(sql, params).fetchall())


def _posted(conn: Conn, params: Mapping[str, object]) -> dict[int, _Posted]:
    sql = """
        SELECT reverses_seq, metadata
          FROM token_transactions
         WHERE user_id = %(user)s AND transaction_type = 'refund' AND source = 'stripe' AND reverses_seq = ANY(%(lots)s)
         ORDER BY seq
    """
    posted: dict[int, _Posted] = {}
    for lot, said in conn.execute(sql, params):
        so_far = posted.get(lot, _Posted())
        owed = dict(so_far.owed)
        for source, tokens in said["owed"]:
            owed[source] = owed.get(source, 0) + tokens
        posted[lot] = _Posted(
            so_far.from_lot_tokens + said["from_lot_tokens"],
            tuple((source, tokens) for source, tokens in owed.items() if tokens),
            said["forgiven_tokens"],
        )
    return posted


def _money_back(conn: Conn, params: Mapping[str, object]) -> tuple[MoneyBack, int]:
    """Return what moved back, and what was charged as far as the payments themselves say."""
    refunds = f"""
        {_NAMES}
        SELECT amount_cents, status FROM payment_refunds WHERE payment_id = ANY(ARRAY(SELECT name FROM named))
    """
    disputes = f"""
        {_NAMES}
        SELECT status, withdrawn_cents, reinstated_cents
          FROM payment_disputes
         WHERE payment_id = ANY(ARRAY(SELECT name FROM named))
    """
    charges = f"""
        {_NAMES}
        SELECT sum(refunded_cents)::bigint, max(amount_cents)
          FROM payments
         WHERE payment_id = ANY(ARRAY(SELECT name FROM named))
    """
    row = conn.execute(charges.encode(), params).fetchone()
    assert row is not None
    back = MoneyBack.of(
        conn.execute(refunds.encode(), params).fetchall(),
        conn.execute(disputes.encode(), params).fetchall(),
        charge_refunded_cents=row[0],
    )
    return back, row[1] or 0


def _frozen(conn: Conn, params: Mapping[str, object]) -> tuple[str | None, bool]:
    """Return what the account is frozen for, and whether any payment of this user is in dispute."""
    sql = """
        WITH RECURSIVE named (name) AS (
            SELECT payment_id FROM payments WHERE user_id = %(user)s
            UNION
            SELECT l.other
              FROM named, LATERAL (SELECT other FROM payment_links WHERE name = named.name OFFSET 0) l)
        SELECT (SELECT frozen_for FROM token_accounts WHERE user_id = %(user)s),
               EXISTS (SELECT FROM payment_disputes
                        WHERE status = 'open' AND payment_id = ANY(ARRAY(SELECT name FROM named)))
    """
    row = conn.execute(sql, params).fetchone()
    assert row is not None
    return row[0], row[1]
