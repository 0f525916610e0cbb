"""Where the edges get time and ids from. Everything below is handed these as functions."""

import os
import threading
import time
from datetime import UTC, datetime
from uuid import UUID


def utc_now() -> datetime:
    return datetime.now(UTC)


class Uuid7s:
    """Makes UUIDv7s that grow within a process: the time in milliseconds, then a counter, then chance.

    Source: RFC 9562 sections 5.7 and 6.2 (method 1, a counter in rand_a).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0  # 48 bits of milliseconds and 12 of counter.

    def __call__(self) -> UUID:
        with self._lock:
            now = (time.time_ns() // 1_000_000) << 12
            self._last = now if now > self._last else self._last + 1
            stamp = self._last
        chance = int.from_bytes(os.urandom(8)) >> 2
        return UUID(int=(stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0x2 << 62 | chance)
