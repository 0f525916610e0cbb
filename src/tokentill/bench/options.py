"""What a bench is asked to do: the options of the command line as one value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Distribution = Literal["uniform", "zipf", "hot"]
Keys = Literal["given", "made"]
Sharing = Literal["disjoint", "shared"]

Tell = Callable[[str], None]  # Hears what the bench does next.


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much of what. See docs/reference/cli.md for what each means."""

    accounts: int = 10_000
    callers: int = 2_048
    rows: int = 100_000
    lots: int = 1
    distribution: Distribution = "uniform"
    seconds: float = 3.0
    runs: int = 3
    processes: int = 1
    sharing: Sharing = "disjoint"
    keys: Keys = "made"
    with_baselines: bool = True
    is_priced: bool = False  # `spend` only: each run once more, with the price book saying what each call cost.
    url: str | None = None  # None: an embedded server of its own.
    batch: int = 1  # `http` only: events in a request.
    calls: int = 300  # `meter` only: of each way, after a tenth as many that do not count.
    workers: int = 1  # `http` only: processes that serve.
    kills: int = 5  # `recover` only: of each kind.

    @property
    def warm_up_seconds(self) -> float:
        """Before each measuring: caches fill, and each page's first change after a checkpoint is behind us."""
        return min(1.0, self.seconds / 2)
