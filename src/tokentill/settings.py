"""Settings: the environment as one frozen value. The only reader of os.environ.

Every setting is documented in docs/reference/settings.md.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

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
    stripe_api_key: str | None = None  # None: nothing is sold through Stripe from here.
    stripe_api_base: str | None = None  # None: Stripe's own.
    refund_policy: str = "forgive"  # Of tokens that were spent before their money was refunded; or "debt".
    dispute_policy: str = "debt"  # The same of a lost dispute.
    dispute_freezes: bool = False
    usage_key_hours: int = 72  # How long a retry of a spend is recognised as one.
    stripe_mode: Literal["test", "live"] | None = None  # None: the first event that is acted on decides.
    unknown_model: Literal["record", "refuse", "fallback"] = "record"  # What a call without a price meets.
    fallback_model: str | None = None  # Whose price it has then: a name in the price book, or provider/name.
    stripe_webhook_secrets: tuple[str, ...] = ()  # Several while one is being rotated; none: the webhook is off.

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the settings. Raises: BadSetting, naming the variable."""
        env = os.environ if environ is None else environ
        url = env.get("TILL_DATABASE_URL") or None
        if url is not None and not url.startswith(("postgresql://", "postgres://")):
            raise BadSetting("TILL_DATABASE_URL must be a URL like postgresql://user@host:5432/name.")
        pooler = env.get("TILL_POOLER") or None
        if pooler not in (None, "transaction", "session"):
            raise BadSetting(f"TILL_POOLER is transaction or session, not {pooler!r}.")
        if url is not None and pooler is not None:  # It goes wherever the URL goes (`store.db.pooler_of`).
            url += f"{'&' if '?' in url else '?'}till_pooler={pooler}"
        secrets = tuple(part.strip() for part in (env.get("TILL_STRIPE_WEBHOOK_SECRET") or "").split(","))
        admin_key = env.get("TILL_ADMIN_KEY") or None
        if admin_key is not None and len(admin_key) < 16:
            raise BadSetting("TILL_ADMIN_KEY must have at least 16 characters: whoever guesses it can grant tokens.")
        mode = env.get("TILL_STRIPE_MODE") or None
        if mode not in (None, "test", "live"):
            raise BadSetting(f"TILL_STRIPE_MODE is test or live, not {mode!r}.")
        unknown_model = _one_of(env, "TILL_UNKNOWN_MODEL", "record", "refuse", "fallback")
        fallback_model = (env.get("TILL_FALLBACK_MODEL") or "").strip() or None
        if (unknown_model == "fallback") != (fallback_model is not None):
            raise BadSetting("TILL_UNKNOWN_MODEL=fallback and TILL_FALLBACK_MODEL go together: whose price is it?")
        api_key = _api_key(env)
        mode_of_key = _mode_of(api_key)
        if mode is not None and mode_of_key not in (None, mode):
            raise BadSetting(f"TILL_STRIPE_MODE is {mode}, and TILL_STRIPE_API_KEY is a key of {mode_of_key} mode.")
        return cls(
            database_url=url,
            home=_home(env),
            pg_bin=Path(env["TILL_PG_BIN"]) if env.get("TILL_PG_BIN") else None,
            allow_unsafe_postgres=_flag(env, "TILL_ALLOW_UNSAFE_POSTGRES"),
            admin_key=admin_key,
            access_log=_flag(env, "TILL_ACCESS_LOG"),
            stripe_api_key=api_key,
            stripe_api_base=_api_base(env),
            refund_policy=_one_of(env, "TILL_REFUND_POLICY", "forgive", "debt"),
            dispute_policy=_one_of(env, "TILL_DISPUTE_POLICY", "debt", "forgive"),
            dispute_freezes=_flag(env, "TILL_DISPUTE_FREEZE"),
            usage_key_hours=_hours(env, "TILL_USAGE_KEY_HOURS", default=72, minimum=24),
            stripe_mode=mode or mode_of_key,  # type: ignore[arg-type]  # one of the two, as was just checked
            unknown_model=unknown_model,  # type: ignore[arg-type]  # one of the three, as was just checked
            fallback_model=fallback_model,
            stripe_webhook_secrets=tuple(secret for secret in secrets if secret),
        )


def environment_with(**changes: str) -> dict[str, str]:
    """Return the environment for a process that we start, with these variables changed."""
    return {**os.environ, **changes}


def _one_of(env: Mapping[str, str], name: str, default: str, *others: str) -> str:
    value = env.get(name) or default
    if value not in (default, *others):
        raise BadSetting(f"{name} is {' or '.join((default, *others))}, not {value!r}.")
    return value


def _flag(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name) or "0"
    if value not in ("0", "1"):
        raise BadSetting(f"{name} is 0 or 1, not {value!r}.")
    return value == "1"


def _hours(env: Mapping[str, str], name: str, *, default: int, minimum: int) -> int:
    value = env.get(name) or str(default)
    if not (value.isascii() and value.isdigit() and len(value) <= 6 and int(value) >= minimum):
        raise BadSetting(f"{name} is a whole number of hours, at least {minimum}, not {value[:60]!r}.")
    return int(value)


def _api_key(env: Mapping[str, str]) -> str | None:
    key = (env.get("TILL_STRIPE_API_KEY") or "").strip() or None
    if key is not None and (key.startswith(("pk_", "whsec_")) or not key.isascii() or any(map(str.isspace, key))):
        raise BadSetting("TILL_STRIPE_API_KEY must be a secret key (sk_…) or a restricted one (rk_…) of Stripe's API.")
    return key


def _mode_of(api_key: str | None) -> str | None:
    """Return the mode that a key of Stripe's says it is of."""
    found = re.match(r"[a-z]+_(test|live)_", api_key or "")
    return found[1] if found else None


def _api_base(env: Mapping[str, str]) -> str | None:
    """Where Stripe's API is. The key goes there with every request: never in the clear over a network."""
    base = (env.get("TILL_STRIPE_API_BASE") or "").strip().rstrip("/") or None
    if base is None:
        return None
    try:
        parts = urlsplit(base)
        host = parts.hostname or ""
    except ValueError:
        raise BadSetting("TILL_STRIPE_API_BASE must be a URL like https://api.stripe.com.") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise BadSetting("TILL_STRIPE_API_BASE must be a URL like https://api.stripe.com.")
    if parts.scheme == "http" and not _is_loopback(host):
        raise BadSetting("TILL_STRIPE_API_BASE must begin with https://: only this machine's own addresses do without.")
    return base


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _home(env: Mapping[str, str]) -> Path:
    """Where the embedded database lives. Root's is a place that the unprivileged server user can reach."""
    if env.get("TILL_HOME"):
        return Path(env["TILL_HOME"]).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/tokentill")
    if data := env.get("XDG_DATA_HOME"):
        return Path(data) / "tokentill"
    try:
        return Path.home() / ".local" / "share" / "tokentill"
    except (RuntimeError, KeyError):  # A user id without a name, and no HOME.
        raise BadSetting("Set TILL_HOME to a folder for the database: this user has no home.") from None
