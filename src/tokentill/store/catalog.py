"""Reads and writes the catalog: plans, packs and the trial, in versions that are never changed."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from tokentill.core.plans.catalog import Catalog, Offer, Pack, Plan
from tokentill.store.db import Conn


def revision(conn: Conn) -> int:
    """Return the number of the latest edit: one step in an index, so asking each time costs next to nothing."""
    row = conn.execute("SELECT max(revision) FROM catalog_revisions").fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def load(conn: Conn) -> tuple[int, Catalog]:
    """Return the catalog in force and its revision, as of one moment whatever is written meanwhile."""
    number = revision(conn)
    plans = """
        SELECT DISTINCT ON (key) key, name, kind, price_cents, currency, tokens, rollover_cycles, rollover_cap_tokens,
               price_ids, stripe_price_id, is_active
          FROM catalog_plans
         WHERE version <= %s
         ORDER BY key, version DESC
    """
    packs = """
        SELECT DISTINCT ON (key) key, name, price_cents, currency, tokens, price_ids, stripe_price_id, is_active
          FROM catalog_packs
         WHERE version <= %s
         ORDER BY key, version DESC
    """
    trial = "SELECT tokens, days FROM catalog_trials WHERE version <= %s ORDER BY version DESC LIMIT 1"
    found = Catalog(
        plans={
            key: Plan(
                key=key, name=name, kind=kind, price_cents=price_cents, currency=currency, tokens=tokens,
                rollover_cycles=cycles, rollover_cap_tokens=cap, price_ids=tuple(price_ids), stripe_price_id=price_id,
                is_active=is_active,
            )
            for key, name, kind, price_cents, currency, tokens, cycles, cap, price_ids, price_id, is_active
            in conn.execute(plans, [number])
        },
        packs={
            key: Pack(
                key=key, name=name, price_cents=price_cents, currency=currency, tokens=tokens,
                price_ids=tuple(price_ids), stripe_price_id=price_id, is_active=is_active,
            )
            for key, name, price_cents, currency, tokens, price_ids, price_id, is_active
            in conn.execute(packs, [number])
        },
    )  # fmt: skip
    row = conn.execute(trial, [number]).fetchone()
    if row is None:
        return number, found
    return number, Catalog(plans=found.plans, packs=found.packs, trial_tokens=row[0], trial_days=row[1])


def begin_revision(conn: Conn, after: int, *, created_by: str, now: datetime) -> int | None:
    """Take the number after `after` for an edit; None: another edit has taken it."""
    sql = """
        INSERT INTO catalog_revisions (revision, created_at, created_by)
        VALUES (%s, %s, %s)
        ON CONFLICT ON CONSTRAINT catalog_revisions_pkey DO NOTHING
    """
    taken = conn.execute(sql, [after + 1, now, created_by]).rowcount == 1
    return after + 1 if taken else None


def write_offer(conn: Conn, version: int, offer: Offer, *, created_by: str, now: datetime) -> None:
    """Write a plan or a pack as it is from this version on."""
    shared = [offer.key, version, offer.name, offer.price_cents, offer.currency, offer.tokens, list(offer.price_ids),
              offer.stripe_price_id, offer.is_active, now, created_by]  # fmt: skip
    if isinstance(offer, Pack):
        sql = """
            INSERT INTO catalog_packs (key, version, name, price_cents, currency, tokens, price_ids, stripe_price_id,
                                       is_active, created_at, created_by)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """
        conn.execute(sql, shared)
        return
    sql = """
        INSERT INTO catalog_plans (key, version, name, price_cents, currency, tokens, price_ids, stripe_price_id,
                                   is_active, created_at, created_by, kind, rollover_cycles, rollover_cap_tokens)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    """
    conn.execute(sql, [*shared, offer.kind, offer.rollover_cycles, offer.rollover_cap_tokens])


def write_trial(conn: Conn, version: int, catalog: Catalog, *, created_by: str, now: datetime) -> None:
    """Write the trial as it is from this version on."""
    sql = "INSERT INTO catalog_trials (version, tokens, days, created_at, created_by) VALUES (%s, %s, %s, %s, %s)"
    conn.execute(sql, [version, catalog.trial_tokens, catalog.trial_days, now, created_by])


def write_audit(conn: Conn, audit_id: UUID, *, actor: str, detail: Mapping[str, object], now: datetime) -> None:
    """Write who edited the catalog, and what."""
    sql = """
        INSERT INTO audit_log (id, user_id, actor, act, seq, detail, created_at)
        VALUES (%s, NULL, %s, 'edit catalog', NULL, %s, %s)
    """
    conn.execute(sql, [audit_id, actor, Jsonb(dict(detail)), now])
