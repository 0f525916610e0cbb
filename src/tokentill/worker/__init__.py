"""The worker: runs the jobs (`services.working`) when they are due, by procrastinate's queue."""
