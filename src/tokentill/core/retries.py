"""Retries: when what failed is tried again by itself, ever more seldom, and in the end only by hand."""

from datetime import datetime, timedelta

# After the first failure, the second, …; then once a day. A fault of a moment is over soon; a link that somebody has
# to make, or a catalog that somebody has to mend, may take days.
WAITS = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=6),
    timedelta(hours=12),
)
DAILY = timedelta(days=1)
ATTEMPTS_MAX = 15  # Almost nine days in all.


def next_attempt_at(attempts: int, *, at: datetime) -> datetime | None:
    """Return when to try again what failed at `at` for the `attempts`-th time. None: not by itself any more."""
    assert attempts >= 1, attempts
    if attempts >= ATTEMPTS_MAX:
        return None
    return at + (WAITS[attempts - 1] if attempts <= len(WAITS) else DAILY)
