"""Reads `ai_actions`: what the app uses AI for, and how it is charged."""

from tokentill.core.pricing import AiAction
from tokentill.store.db import Conn


def load(conn: Conn) -> dict[str, AiAction]:
    """Return the active actions by name."""
    sql = "SELECT action_type, charge, fixed_tokens, multiplier FROM ai_actions WHERE is_active"
    return {
        key: AiAction(key=key, charge=charge, fixed_tokens=fixed_tokens, multiplier=multiplier)
        for key, charge, fixed_tokens, multiplier in conn.execute(sql)
    }
