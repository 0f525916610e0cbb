"""Working: what falls due with time, and nobody asks for.

Each job is a function of (context, at) that any edge may call, at any time, as often as it likes and in several
processes at once: it does what is due by `at` and is not done yet. Running late, by whatever time, ends in the same
books as running on time; what two do at once happens once, because every key is a business fact. Schedules and queues
(the edge `worker`) only decide when.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tokentill.core.ledger.commands import Sweep
from tokentill.core.users import User
from tokentill.errors import TillError
from tokentill.services.context import Context
from tokentill.services.plans import dripping
from tokentill.services.stripe import receiving, reversing
from tokentill.store import due, jobs, keys
from tokentill.store.jobs import LastRun

log = logging.getLogger("tokentill.worker")

Counts = Mapping[str, int]

SWEEP_BATCH = 1_000  # Accounts asked for at once.
EVENTS_BATCH = 100
PRUNE_READ = 50_000  # Keys found by one look at the table,
PRUNE_BATCH = 5_000  # and deleted by one transaction: a short one holds nobody up.


def drip_due(context: Context, at: datetime) -> Counts:
    """Give every cycle that our own clock owes. A subscription that cannot be served is logged, and counted."""
    run = dripping.drip_due(context, at=at)
    for subscription, error in run.failures:
        log.warning("subscription %s got no drip: %s", subscription.subscription_id, error.detail)
    return {"drips": len(run.receipts), "tokens": run.tokens, "failed": len(run.failures)}


def retry_events(context: Context, at: datetime) -> Counts:
    """Try again the Stripe events that failed, or were left lying, and are due for it."""
    retried = 0
    while True:  # What was tried is due no more: it is handled, or waits for a later turn.
        count = len(receiving.retry_due(context, at=at, limit=EVENTS_BATCH))
        retried += count
        if count < EVENTS_BATCH:
            return {"events": retried}


def settle_money(context: Context, at: datetime) -> Counts:
    """Let the books follow the money that moved back, wherever they have not yet."""
    return {"payments": reversing.settle_due(context)}


def sweep_due(context: Context, at: datetime) -> Counts:
    """Write off every lot that is over, each by its `expiration` row. Reads never show those, swept or not."""
    swept = 0
    last: due.DueLot | None = None
    while True:
        with context.connection() as conn:
            ended = due.lots(conn, at=at, after=last, limit=SWEEP_BATCH)
        if not ended:
            return {"accounts": swept}
        users = dict.fromkeys(lot.user_id for lot in ended)
        answers = context.engine.submit_many([Sweep(user=User(user_id)) for user_id in users], at=at)
        swept += sum(answer.result() is not None for answer in answers)
        last = ended[-1]


def prune_keys(context: Context, at: datetime) -> Counts:
    """Forget the keys of usage that are older than the till keeps them; those of money and grants stay for ever.

    A hold that was captured stays captured, whether its capture's key is known or not.
    """
    before = at - context.usage_keys_kept
    forgotten = 0
    while True:
        with context.connection() as conn:
            old = keys.old_usage_keys(conn, before=before, limit=PRUNE_READ)
        for start in range(0, len(old), PRUNE_BATCH):
            with context.connection() as conn:
                forgotten += keys.forget_usage_keys(conn, old[start : start + PRUNE_BATCH], before=before)
        if len(old) < PRUNE_READ:
            return {"keys": forgotten}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work that falls due with time. `cron` says when it is looked for; a run after `late` is called late."""

    name: str
    cron: str
    late: timedelta
    work: Callable[[Context, datetime], Counts]


_EVERY_MINUTE, _EVERY_HOUR = ("* * * * *", timedelta(minutes=10)), ("17 * * * *", timedelta(hours=3))

JOBS = tuple(
    Job(name=name, cron=cron, late=late, work=work)
    for name, (cron, late), work in (
        ("drips", _EVERY_MINUTE, drip_due),
        ("events", _EVERY_MINUTE, retry_events),
        ("money", _EVERY_MINUTE, settle_money),
        ("sweep", _EVERY_HOUR, sweep_due),
        ("keys", _EVERY_HOUR, prune_keys),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """What became of running a job. `is_elsewhere`: another process is at it, so nothing was done here."""

    job: str
    counts: Counts = field(default_factory=dict)
    error: str | None = None
    is_elsewhere: bool = False


def run(context: Context, job: Job, *, at: datetime, alone: bool = True) -> JobRun:
    """Run a job for the moment `at`, and write down how it went. Raises nothing: what failed is due again next time.

    `alone`: leave it, if another process is at it at this moment. That saves work; it is right either way.
    """
    try:
        if not alone:
            return _run(context, job, at)
        with context.connection() as conn, jobs.claimed(conn, job.name) as is_ours:
            return _run(context, job, at) if is_ours else JobRun(job=job.name, is_elsewhere=True)
    except TillError as error:  # Of the claim: nobody answers.
        log.warning("job %s cannot run: %s", job.name, error.detail)
        return JobRun(job=job.name, error=error.detail)


def _run(context: Context, job: Job, at: datetime) -> JobRun:
    counts: Counts = {}
    error = None
    try:
        counts = job.work(context, at)
    except TillError as refused:
        error = refused.detail
        log.warning("job %s failed: %s", job.name, error)
    except Exception as bug:  # The other jobs must go on, and this one must be tried again.
        error = f"{type(bug).__name__}: {bug}"
        log.exception("job %s failed", job.name)
    if any(counts.values()):
        log.info("job %s: %s", job.name, ", ".join(f"{count:,} {what}" for what, count in counts.items()))
    done_at = None if error else at
    finished = LastRun(
        job=job.name, started_at=at, finished_at=context.clock(), counts=counts, error=error, done_at=done_at
    )
    with context.connection() as conn:
        jobs.record(conn, finished)
    return JobRun(job=job.name, counts=counts, error=error)
