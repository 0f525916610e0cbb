"""The worker: runs the jobs (`services.jobs.working`) when they are due, by procrastinate's queue."""
