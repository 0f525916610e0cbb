"""The worker's command: the jobs that fall due with time, once or until interrupted."""

import threading
from contextlib import suppress
from typing import Annotated

import typer

from tokentill.cli import show, working
from tokentill.cli.show import AsJson
from tokentill.services.jobs.working import JOBS, JobRun, run
from tokentill.settings import Settings
from tokentill.till import Till
from tokentill.worker.running import Worker


def worker(
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, then exit: for cron.")] = False,
    json: AsJson = False,
) -> None:
    """Run the jobs (drips, retries, expiries) until interrupted (Ctrl-C or SIGTERM); the one that runs is finished.

    `till serve` does so by itself. Any number of workers may run: each job is done once.
    """
    settings = Settings.read()
    working.log_to_stderr()
    if not once:
        from tokentill.worker import queue  # Here: no other command needs to load procrastinate.

        queue.require_known_schema()
    with working.stopped_by_sigterm(), Till.connect(settings=settings) as till:
        if once:
            _once(till, json=json)
            return
        tended = Worker(till.context, till.url)
        tended.start()
        with suppress(KeyboardInterrupt):  # How it is stopped.
            try:
                if json:
                    show.as_json({"working": True, "jobs": [job.name for job in JOBS]})
                else:
                    show.line(f"working: {', '.join(job.name for job in JOBS)}")
                show.flush()
                threading.Event().wait()
            finally:
                tended.stop()


def _once(till: Till, *, json: bool) -> None:
    runs = [run(till.context, job, at=till.clock(), alone=False) for job in JOBS]
    if json:
        show.as_json({"jobs": [{"job": ran.job, "counts": ran.counts, "error": ran.error} for ran in runs]})
    else:
        columns = {"job": "left", "done": "left"}
        rows = [[ran.job, _told(ran)] for ran in runs]
        show.table("till worker --once", columns, rows, empty="There is no job.")
    if any(ran.error for ran in runs):
        raise typer.Exit(1)


def _told(ran: JobRun) -> str:
    return ran.error or ", ".join(f"{count:,} {what}" for what, count in ran.counts.items())
