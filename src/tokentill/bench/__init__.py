"""`till bench`: what the till does a second, what that costs, and how it compares, all measured in one run.

A bench is one function `run(options, tell)` that returns a report, a dictionary for JSON. Every bench works on a
database of its own (`ground`), filled with believable books (`filling`), and proves them at its end (`proving`): a
fast till whose books are wrong is worth nothing.

Units: `_ms` milliseconds, `_us` microseconds, `_per_s` a second; `per_op` is per spend, or per pair of a hold and
its capture.
"""
