"""Baselines: what the same rows cost when they are written in other ways, on a copy of the same filled database.

Each is a program that reads alone: `python -m tokentill.bench.baselines.by_hand --help`. `running` runs them all.
"""
