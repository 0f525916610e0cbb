"""Reads the calls whose cost is to be looked at again, each with what was corrected about it since."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from tokentill.store.db import Conn


class Recorded(NamedTuple):
    """A call as it was recorded. `corrected_…` is what later rows say of it; None: nothing was corrected."""

    user_id: UUID
    external_id: str | None
    seq: int
    action_type: str
    model_used: str
    provider: str | None
    service_tier: str | None
    input_tokens: int | None
    output_tokens: int | None
    pools: Mapping[str, int] | None
    cost_estimate: Decimal | None
    price_id: int | None
    tokens_used: int
    success: bool
    occurred_at: datetime
    created_at: datetime
    corrected_seq: int | None  # The latest row that corrects it.
    corrected_cost: Decimal | None  # What they add to its cost.
    corrected_tokens: int | None  # What it is charged since then.


def calls(
    conn: Conn, *, since: datetime, until: datetime, model: str | None, action_type: str | None
) -> Iterator[Recorded]:
    """Yield the calls that happened in [since, until) and say what they used, account by account.

    Read as of one moment, a few at a time, however many there are; so do not commit on `conn` meanwhile. A row is never
    older than its call, by more than the five minutes that clocks may differ.
    """
    sql = """
        WITH corrections AS (
            SELECT user_id, corrects_seq, max(seq) AS seq, sum(cost_estimate) AS cost,
                   (array_agg((metadata->>'tokens_charged')::bigint ORDER BY seq DESC))[1] AS tokens
              FROM token_usage
             WHERE corrects_seq IS NOT NULL AND created_at >= %(since)s - interval '5 minutes'
             GROUP BY user_id, corrects_seq
        )
        SELECT u.user_id, a.external_id, u.seq, u.action_type, u.model_used, u.provider, u.service_tier, u.input_tokens,
               u.output_tokens, u.pools, u.cost_estimate, u.price_id, u.tokens_used, u.success, u.occurred_at,
               u.created_at, c.seq, c.cost, c.tokens
          FROM token_usage u
          JOIN token_accounts a ON a.user_id = u.user_id
          LEFT JOIN corrections c ON c.user_id = u.user_id AND c.corrects_seq = u.seq
         WHERE u.created_at >= %(since)s - interval '5 minutes' AND u.occurred_at >= %(since)s
           AND u.occurred_at < %(until)s AND u.corrects_seq IS NULL AND u.model_used IS NOT NULL
           AND (u.pools IS NOT NULL OR u.input_tokens IS NOT NULL OR u.output_tokens IS NOT NULL)
           AND (%(model)s::text IS NULL OR u.model_used = %(model)s)
           AND (%(action)s::text IS NULL OR u.action_type = %(action)s)
         ORDER BY u.user_id, u.seq
    """
    with conn.cursor(name="repriced_calls") as cursor:
        cursor.itersize = 5_000
        params = {"since": since, "until": until, "model": model, "action": action_type}
        for row in cursor.execute(sql, params):
            yield Recorded(*row)
