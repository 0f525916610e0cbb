"""What a caller of the engine holds while the command is on its way."""

import asyncio
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

from tokentill.store.journal import Receipt


class Answer(Future[Receipt | None]):
    """The future answer: `.result()` blocks a thread, `await` suspends a coroutine.

    It resolves only after COMMIT. None is the answer of a command that had nothing to write.
    """

    def __await__(self) -> Generator[Any, None, Receipt | None]:
        return asyncio.wrap_future(self).__await__()
