"""Load: whose tokens are spent, on what, and how many callers wait for their answers at the same time.

A closed loop: each caller asks, waits for the answer that comes after COMMIT, and asks again, as the users of the
library do. Nothing is prepared beforehand but the choice of members.
"""

import asyncio
import random
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate
from typing import Any
from uuid import UUID

import uvloop

from tokentill.bench.filling import member
from tokentill.bench.meters import Reading
from tokentill.bench.options import Distribution, Keys
from tokentill.core.ledger.commands import Spend
from tokentill.errors import BadSetting
from tokentill.ids import Uuid7s
from tokentill.till import Till
from tokentill.tuning import tune_process

ACTION = "chat_conversation"
MODEL = "gpt-5-mini"
CHOICES = 1 << 16  # Members drawn beforehand, then used in turns.
ZIPF_EXPONENT = 1.0
IN_FLIGHT = 1_000  # Of spends that are asked for at once and in order.

# What one call of a model used: what callers say beside who and what for.
CALLS: tuple[dict[str, Any], ...] = tuple(
    {
        "model_used": MODEL,
        "input_tokens": 500 + 7 * n,
        "output_tokens": 100,
        "pools": {"input_uncached": 300 + 7 * n, "cache_read": 200, "output_text": 100},
        "cost_estimate": Decimal(600 + 7 * n) * Decimal("0.0003"),
    }
    for n in range(64)
)

# The same without what it cost: the price book says so.
UNPRICED_CALLS: tuple[dict[str, Any], ...] = tuple(
    {"provider": "openai", **{name: said for name, said in call.items() if name != "cost_estimate"}} for call in CALLS
)

Once = Callable[[], Awaitable[object]]


def choose(accounts: int, distribution: Distribution, *, seed: int = 0, part: int = 0, parts: int = 1) -> list[UUID]:
    """Return members in the order in which they spend. Of `parts`, only every so-manieth member is drawn.

    uniform: each as often; zipf: member n about 1/n as often as the first; hot: one member only.
    """
    members = [member(number) for number in range(part, accounts, parts)]
    assert members, (accounts, part, parts)
    if distribution == "hot":
        return members[:1]
    chance = random.Random(seed * 1000 + part)
    weights = [1 / (n + 1) ** ZIPF_EXPONENT if distribution == "zipf" else 1.0 for n in range(len(members))]
    return chance.choices(members, cum_weights=list(accumulate(weights)), k=CHOICES)


class Spends:
    """Asks for one spend after the other, full rows each, with a key as a careful caller gives it.

    `keys`: "given" a UUIDv7 of the caller's own, so that the till must fingerprint the request; "made" by the till.
    """

    def __init__(self, till: Till, users: list[UUID], keys: Keys, *, is_priced: bool = False) -> None:
        self._till = till
        self._users = users
        self._keys = keys
        self._calls = UNPRICED_CALLS if is_priced else CALLS
        self._new_id = Uuid7s()
        self._count = 0

    def ask(self) -> Spend:
        number = self._count
        self._count += 1
        key = str(self._new_id()) if self._keys == "given" else None
        user = self._users[number % len(self._users)]
        return self._till.asking.spend(user, None, ACTION, idempotency_key=key, **self._calls[number % len(CALLS)])

    def once(self) -> Awaitable[object]:
        return self._till.submit(self.ask())

    def once_blocking(self) -> None:
        self._till.submit(self.ask()).result()


def spend_once_each(till: Till, users: list[UUID], keys: Keys) -> int:
    """Let every member spend once, so that the till knows them all as it does in life; return how many there were.

    A lone caller would take longer than any warm-up to come round.
    """
    each = list(dict.fromkeys(users))
    spends = Spends(till, each, keys)
    for first in range(0, len(each), IN_FLIGHT):
        answers = [till.submit(spends.ask()) for _ in each[first : first + IN_FLIGHT]]
        for answer in answers:
            answer.result()
    return len(each)


@dataclass(slots=True)
class Driven:
    """What a closed loop did. `waits` are of the measured part only; `acknowledged` counts the warm-up, too."""

    waits: "array[float]" = field(default_factory=lambda: array("d"))
    acknowledged: int = 0
    started: Reading | None = None
    ended: Reading | None = None

    @property
    def seconds(self) -> float:
        assert self.started is not None and self.ended is not None
        return self.ended.at - self.started.at

    @property
    def ops_per_s(self) -> float:
        return round(len(self.waits) / self.seconds, 1)


def drive(once: Once, read: Callable[[], Reading], *, callers: int, warm_up: float, seconds: float) -> Driven:
    """Let so many callers go round; the meters are read when the warm-up ends and when the last answer is there.

    Raises: the first error that a caller is answered; the others are stopped.
    """
    tune_process()
    return uvloop.run(_drive(once, read, callers, warm_up, seconds))


async def _drive(once: Once, read: Callable[[], Reading], callers: int, warm_up: float, seconds: float) -> Driven:
    driven, clock = Driven(), time.perf_counter
    begin = clock() + warm_up
    end = begin + seconds

    async def caller() -> None:
        while (asked := clock()) < end:
            await once()
            driven.acknowledged += 1
            answered = clock()
            if answered >= begin:
                driven.waits.append(answered - asked)

    def start() -> None:  # At its time, whether or not anybody has been answered: a load that starves must show it.
        driven.started = read()

    asyncio.get_running_loop().call_later(warm_up, start)
    await asyncio.gather(*(caller() for _ in range(callers)))
    return _ended(driven, read)


def drive_alone(once: Callable[[], None], read: Callable[[], Reading], *, warm_up: float, seconds: float) -> Driven:
    """The same with one caller who blocks."""
    driven, clock = Driven(), time.perf_counter
    begin = clock() + warm_up
    end = begin + seconds
    while (asked := clock()) < end:
        once()
        driven.acknowledged += 1
        answered = clock()
        if answered >= begin:
            if driven.started is None:
                driven.started = read()
            driven.waits.append(answered - asked)
    return _ended(driven, read)


def _ended(driven: Driven, read: Callable[[], Reading]) -> Driven:
    driven.ended = read()
    if driven.started is None or not driven.waits:
        raise BadSetting("Not one answer came within the time: give --seconds more, or fewer --callers.")
    return driven
