"""The queue: our jobs as procrastinate's tasks, each put into the queue by its schedule, by whoever comes first.

The queue only spares work: of several workers one takes a job that is due. The jobs themselves are right without it.
"""

from collections.abc import Callable
from importlib import resources

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Status

from tokentill.errors import BadSetting
from tokentill.services.context import Context
from tokentill.services.jobs.working import JOBS, Job, run
from tokentill.store.jobs import queue_arguments

QUEUE = "till"

# The last of procrastinate's migrations that ours hold (0011_jobs).
SCHEMA_KNOWN = "03.04.00_50_post_add_retry_failed_job_procedure.sql"

# Seconds.
HEARTBEAT = 10.0
POLLING = 1.0
STALLED = 60.0  # A worker that has not been heard of for so long is dead.


def make(context: Context, url: str) -> App:
    """Return procrastinate's app for the jobs of this till, not opened yet. Raises: BadSetting."""
    require_known_schema()
    connector = PsycopgConnector(**queue_arguments(url), min_size=1, max_size=2, name="till-worker")
    app = App(connector=connector)
    for job in JOBS:
        task = app.task(name=_name(job), queue=QUEUE, queueing_lock=_name(job))(_task(context, job))
        app.periodic(cron=job.cron)(task)

    @app.periodic(cron="47 * * * *")
    @app.task(name="till.tidy", queue=QUEUE, queueing_lock="till.tidy")
    async def tidy(timestamp: int) -> None:
        """Take away what killed workers left in the queue. It held nobody up."""
        for left in await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=STALLED):
            await app.job_manager.finish_job(left, Status.FAILED, delete_job=True)
        await app.job_manager.prune_stalled_workers(STALLED)

    return app


def require_known_schema() -> None:
    """Raise BadSetting when the installed procrastinate wants tables that this tokentill does not make."""
    files = (resources.files("procrastinate") / "sql" / "migrations").iterdir()
    newer = sorted(file.name for file in files if file.name.endswith(".sql") and file.name > SCHEMA_KNOWN)
    if newer:
        raise BadSetting(
            f"The installed procrastinate wants a newer schema ({newer[-1]}) than this tokentill makes: "
            "install the version that requirements.lock names, or upgrade tokentill."
        )


async def put_all(app: App) -> None:
    """Put every job into the queue now: what fell due while nobody worked does not wait for the schedule."""
    for job in JOBS:
        try:
            await app.configure_task(_name(job), allow_unknown=False).defer_async(timestamp=0)
        except AlreadyEnqueued:
            continue


async def work(app: App) -> None:
    """Take jobs from the queue until cancelled; the job that is running then is finished first."""
    # It looks by itself, and is not notified: behind a pooler that keeps no sessions nobody would be.
    await app.run_worker_async(
        queues=[QUEUE], name="till", concurrency=1, install_signal_handlers=False, delete_jobs="always",
        listen_notify=False, fetch_job_polling_interval=POLLING,
        update_heartbeat_interval=HEARTBEAT, stalled_worker_timeout=STALLED,
    )  # fmt: skip


def _name(job: Job) -> str:
    return f"till.{job.name}"


def _task(context: Context, job: Job) -> Callable[[int], None]:
    def carry_out(timestamp: int) -> None:  # When it was scheduled for: no matter, for what is due now is due.
        run(context, job, at=context.clock())

    return carry_out
