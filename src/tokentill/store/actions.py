"""Reads and writes `ai_actions`: what the app uses AI for, what serves it, and how it is charged."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from psycopg.types.json import Jsonb

from tokentill.core.prices.action_edits import as_json, plain, read
from tokentill.core.prices.actions import AiAction
from tokentill.store.db import Conn


def load(conn: Conn) -> dict[str, AiAction]:
    """Return every action by name, those that are switched off among them."""
    sql = """
        SELECT action_type, model, provider, temperature, max_tokens, system_prompt, charge, fixed_tokens, multiplier,
               model_multipliers::text, markup, cents_per_million_tokens, is_active, revision, updated_at, updated_by
          FROM ai_actions
         ORDER BY action_type
    """
    return {
        key: AiAction(
            key=key, model=model, provider=provider, temperature=temperature, max_tokens=max_tokens,
            system_prompt=system_prompt, charge=charge, fixed_tokens=fixed_tokens, multiplier=multiplier,
            model_multipliers=json.loads(of_models, parse_float=Decimal, parse_int=Decimal), markup=markup,
            cents_per_million_tokens=worth, is_active=is_active, revision=revision, updated_at=updated_at,
            updated_by=updated_by,
        )
        for key, model, provider, temperature, max_tokens, system_prompt, charge, fixed_tokens, multiplier, of_models,
            markup, worth, is_active, revision, updated_at, updated_by
        in conn.execute(sql)
    }  # fmt: skip


def write(conn: Conn, action: AiAction) -> None:
    """Write an action as it is from now on, new or not."""
    sql = """
        INSERT INTO ai_actions (action_type, model, provider, temperature, max_tokens, system_prompt, charge,
                                fixed_tokens, multiplier, model_multipliers, markup, cents_per_million_tokens,
                                is_active, revision, updated_at, updated_by)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT ai_actions_pkey DO UPDATE
           SET model = excluded.model, provider = excluded.provider, temperature = excluded.temperature,
               max_tokens = excluded.max_tokens, system_prompt = excluded.system_prompt, charge = excluded.charge,
               fixed_tokens = excluded.fixed_tokens, multiplier = excluded.multiplier,
               model_multipliers = excluded.model_multipliers, markup = excluded.markup,
               cents_per_million_tokens = excluded.cents_per_million_tokens, is_active = excluded.is_active,
               revision = excluded.revision, updated_at = excluded.updated_at, updated_by = excluded.updated_by
    """
    # The numbers are written as such and not as texts: the table refuses what is none.
    of_models = ", ".join(f"{json.dumps(model)}: {plain(each)}" for model, each in action.model_multipliers.items())
    conn.execute(sql, [
        action.key, action.model, action.provider, action.temperature, action.max_tokens, action.system_prompt,
        action.charge, action.fixed_tokens, action.multiplier, f"{{{of_models}}}", action.markup,
        action.cents_per_million_tokens, action.is_active, action.revision, action.updated_at, action.updated_by,
    ])  # fmt: skip


def write_audit(
    conn: Conn, audit_id: UUID, before: AiAction | None, after: AiAction, *, actor: str, now: datetime
) -> None:
    """Write who edited an action, and the whole of it before (null: it was new) and after."""
    sql = """
        INSERT INTO audit_log (id, user_id, actor, act, seq, detail, created_at)
        VALUES (%s, NULL, %s, 'edit action', NULL, %s, %s)
    """
    detail = {
        "action": after.key, "revision": after.revision, "before": as_json(before) if before else None,
        "after": as_json(after),
    }  # fmt: skip
    conn.execute(sql, [audit_id, actor, Jsonb(detail), now])


def in_force_at(conn: Conn, key: str, at: datetime) -> AiAction | None:
    """Return the action by which a row that was written at `at` was charged; None: there was none of that name.

    To the instant in the process that edited it; the others follow within seconds.
    """
    last_edit = """
        SELECT detail -> 'after', (detail ->> 'revision')::bigint, created_at, actor
          FROM audit_log
         WHERE act = 'edit action' AND detail ->> 'action' = %s AND created_at <= %s
         ORDER BY created_at DESC, (detail ->> 'revision')::bigint DESC
         LIMIT 1
    """
    next_edit = """
        SELECT detail -> 'before'
          FROM audit_log
         WHERE act = 'edit action' AND detail ->> 'action' = %s AND created_at > %s
         ORDER BY created_at, (detail ->> 'revision')::bigint
         LIMIT 1
    """
    if row := conn.execute(last_edit, [key, at]).fetchone():
        raw, revision, updated_at, updated_by = row
        return _as_audited(key, raw, revision, updated_at, updated_by)
    if row := conn.execute(next_edit, [key, at]).fetchone():
        return None if row[0] is None else _as_audited(key, row[0])
    return load(conn).get(key)


def edits(conn: Conn) -> list[tuple[datetime, AiAction | None, AiAction]]:
    """Return when actions were edited, and what each was before and after, oldest first; without their prompts."""
    sql = """
        SELECT detail ->> 'action', created_at, nullif(detail -> 'before', 'null') - 'system_prompt',
               (detail -> 'after') - 'system_prompt'
          FROM audit_log
         WHERE act = 'edit action'
         ORDER BY created_at, (detail ->> 'revision')::bigint
    """
    return [
        (at, None if before is None else _as_audited(key, before), _as_audited(key, after))
        for key, at, before, after in conn.execute(sql)
    ]


def _as_audited(
    key: str, raw: Mapping[str, object], revision: int = 1, updated_at: datetime | None = None,
    updated_by: str | None = None,
) -> AiAction:  # fmt: skip
    found = read(key, raw, None)
    return replace(found, revision=revision, updated_at=updated_at, updated_by=updated_by)
