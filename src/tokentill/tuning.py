"""What a process that serves the till, and nothing else, sets for itself. A host that holds a `Till` may do the same.

    from tokentill.tuning import tune_process

A spend makes some twenty objects that live until its batch is answered, and none of them leads back to itself. The
garbage collector would look through them again and again: by default after every 700 new ones.
"""

import gc

YOUNG_MAX = 50_000  # New objects between two looks: some two batches' worth.


def tune_process() -> None:
    """Have the garbage collector look less often, and never again at what is there already. Call it when set up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, 20, 50)
