"""Reads and writes the price book: models and prices, in rows that are never changed, and the edits' revisions."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from tokentill.core.prices.book import BookPrice, PriceBook
from tokentill.core.prices.names import BookModel
from tokentill.store import ai_edits
from tokentill.store.db import Conn

_MODELS = msgspec.json.Decoder(list[BookModel])
_PRICES = msgspec.json.Decoder(list[BookPrice])

EDITED_FROM = 1_000_001  # Below are the prices that migrations seed.


def load(conn: Conn) -> PriceBook:
    """Return the price book of the latest revision, whatever is written meanwhile."""
    number = ai_edits.revision(conn)
    # As one document each: decoded in C, while rows would take four times as long, with the interpreter to themselves.
    models = """
        SELECT coalesce(json_agg(row), '[]')::text
          FROM (SELECT DISTINCT ON (provider, model) provider, model, aliases, match, position, is_active, source,
                       revision, created_at, created_by
                  FROM ai_models
                 WHERE revision <= %s
                 ORDER BY provider, model, revision DESC) AS row
    """
    prices = """
        SELECT coalesce(json_agg(row), '[]')::text
          FROM (SELECT price_id, provider, model, service_tier, effective_from, daily_from, daily_until, prices, source,
                       note, revision, created_at, created_by
                  FROM ai_prices
                 WHERE revision <= %s
                 ORDER BY price_id) AS row
    """
    [named] = conn.execute(models, [number]).fetchone() or ["[]"]
    [priced] = conn.execute(prices, [number]).fetchone() or ["[]"]
    return PriceBook(number, _MODELS.decode(named), _PRICES.decode(priced))


def next_price_id(conn: Conn) -> int:
    """Return the first price id that is free. Ask once the revision is taken: then nobody else writes prices."""
    row = conn.execute("SELECT max(price_id) FROM ai_prices").fetchone()
    return max(EDITED_FROM, 1 + (0 if row is None or row[0] is None else int(row[0])))


def write_models(conn: Conn, models: list[BookModel]) -> None:
    """Write models as they are from their revision on."""
    sql = """
        INSERT INTO ai_models (provider, model, revision, aliases, match, position, is_active, source, created_at,
                               created_by)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    """
    rows = [
        (row.provider, row.model, row.revision, list(row.aliases), None if row.match is None else Jsonb(row.match),
         row.position, row.is_active, row.source, row.created_at, row.created_by)
        for row in models
    ]  # fmt: skip
    with conn.cursor() as cursor:
        cursor.executemany(sql, rows)


def write_prices(conn: Conn, prices: list[BookPrice]) -> None:
    """Write prices, each under its id."""
    sql = """
        INSERT INTO ai_prices (price_id, provider, model, service_tier, effective_from, daily_from, daily_until, prices,
                               source, note, revision, created_at, created_by)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    """
    rows = [
        (row.price_id, row.provider, row.model, row.service_tier, row.effective_from, row.daily_from, row.daily_until,
         None if row.prices is None else Jsonb(row.prices), row.source, row.note, row.revision, row.created_at,
         row.created_by)
        for row in prices
    ]  # fmt: skip
    with conn.cursor() as cursor:
        cursor.executemany(sql, rows)


def write_audit(conn: Conn, audit_id: UUID, *, actor: str, detail: Mapping[str, object], now: datetime) -> None:
    """Write who edited the price book, and what."""
    sql = """
        INSERT INTO audit_log (id, user_id, actor, act, seq, detail, created_at)
        VALUES (%s, NULL, %s, 'edit prices', NULL, %s, %s)
    """
    conn.execute(sql, [audit_id, actor, Jsonb(dict(detail)), now])


def calls_without_cost(conn: Conn, since: datetime) -> list[tuple[str | None, str, str | None, int, datetime]]:
    """Return (provider, model, tier, calls, last one) of what was called since then and has no cost, most calls first.

    Calls that failed, or do not say of which model they were and what they used, are left out; so are those that have a
    cost by a correction, and corrections.
    """
    sql = """
        SELECT u.provider, u.model_used, u.service_tier, count(*), max(u.created_at)
          FROM token_usage u
         WHERE u.created_at >= %(since)s AND u.cost_estimate IS NULL AND u.model_used IS NOT NULL AND u.success
           AND u.corrects_seq IS NULL
           AND (u.pools IS NOT NULL OR u.input_tokens IS NOT NULL OR u.output_tokens IS NOT NULL)
           AND NOT EXISTS (SELECT FROM token_usage c
                            WHERE c.user_id = u.user_id AND c.corrects_seq = u.seq AND c.created_at >= %(since)s)
         GROUP BY u.provider, u.model_used, u.service_tier
         ORDER BY count(*) DESC, u.model_used, u.provider, u.service_tier
    """
    return conn.execute(sql, {"since": since}).fetchall()


def calls_by_price(conn: Conn, since: datetime) -> list[tuple[int, int]]:
    """Return (price_id, calls) of what was called since then."""
    sql = """
        SELECT price_id, count(*)
          FROM token_usage
         WHERE created_at >= %s AND price_id IS NOT NULL AND corrects_seq IS NULL
         GROUP BY price_id
    """
    return conn.execute(sql, [since]).fetchall()
