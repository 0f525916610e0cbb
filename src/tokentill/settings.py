"""Settings: the environment as one frozen value. The only reader of os.environ.

Every setting is documented in docs/reference/settings.md.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokentill.errors import BadSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says. An empty variable counts as unset."""

    database_url: str | None = None  # None: the embedded PostgreSQL.
    home: Path
    pg_bin: Path | None = None
    allow_unsafe_postgres: bool = False
    admin_key: str | None = None  # None: the API answers only the webhook and health.
    access_log: bool = False
    stripe_webhook_secrets: tuple[str, ...] = ()  # Several while one is being rotated; none: the webhook is off.

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the settings. Raises: BadSetting, naming the variable."""
        env = os.environ if environ is None else environ
        url = env.get("TILL_DATABASE_URL") or None
        if url is not None and not url.startswith(("postgresql://", "postgres://")):
            raise BadSetting("TILL_DATABASE_URL must be a URL like postgresql://user@host:5432/name.")
        secrets = tuple(part.strip() for part in (env.get("TILL_STRIPE_WEBHOOK_SECRET") or "").split(","))
        admin_key = env.get("TILL_ADMIN_KEY") or None
        if admin_key is not None and len(admin_key) < 16:
            raise BadSetting("TILL_ADMIN_KEY must have at least 16 characters: whoever guesses it can grant tokens.")
        return cls(
            database_url=url,
            home=_home(env),
            pg_bin=Path(env["TILL_PG_BIN"]) if env.get("TILL_PG_BIN") else None,
            allow_unsafe_postgres=_flag(env, "TILL_ALLOW_UNSAFE_POSTGRES"),
            admin_key=admin_key,
            access_log=_flag(env, "TILL_ACCESS_LOG"),
            stripe_webhook_secrets=tuple(secret for secret in secrets if secret),
        )


def environment_with(**changes: str) -> dict[str, str]:
    """Return the environment for a process that we start, with these variables changed."""
    return {**os.environ, **changes}


def _flag(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name) or "0"
    if value not in ("0", "1"):
        raise BadSetting(f"{name} is 0 or 1, not {value!r}.")
    return value == "1"


def _home(env: Mapping[str, str]) -> Path:
    """Where the embedded database lives. Root's is a place that the unprivileged server user can reach."""
    if env.get("TILL_HOME"):
        return Path(env["TILL_HOME"]).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/tokentill")
    data = env.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "tokentill"
