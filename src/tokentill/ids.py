"""Where the edges get time and ids from. Everything below is handed these as functions."""

import os
import struct
import threading
import time
from datetime import UTC, datetime
from uuid import UUID, SafeUUID


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
            self._last = stamp = now if now > self._last else self._last + 1
            if not _chance:
                _chance.extend(_eight_bytes(os.urandom(8 * 256)))
            (chance,) = _chance.pop()
        number = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0x2 << 62 | chance >> 2
        # What UUID(int=number) does, without its questions.
        made = _new_uuid(UUID)
        _set(made, "int", number)
        _set(made, "is_safe", SafeUUID.unknown)
        return made


_new_uuid, _set = UUID.__new__, object.__setattr__
_eight_bytes = struct.Struct("!Q").iter_unpack

# Drawn from the system by the hundred: asking it costs more than all the rest. A forked child must draw its own.
_chance: list[tuple[int, ...]] = []
os.register_at_fork(after_in_child=_chance.clear)
