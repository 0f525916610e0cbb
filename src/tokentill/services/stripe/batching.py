"""Arriving: Stripe's deliveries, many at a time, stored and acted on in batches.

A batch is what arrived while the last one was being worked on; a lone event does not wait for company. One thread works
on them, so that what this process is told about one customer, subscription or payment keeps its order.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

from tokentill.engine import Answer
from tokentill.engine.answers import settle
from tokentill.errors import InvalidRequest, MalformedBody, Overloaded, TillError, Unavailable
from tokentill.services.context import Context
from tokentill.services.stripe.receiving import Arrival, act_on, arrival_of, names_of, store_all
from tokentill.store.inbox import InboxEvent

BATCH_MAX = 128
SMALL = 8
GATHERING_SECONDS = 0.001
ASKING_MAX = 2  # Events at a time whose cart Stripe is asked for.
WAITING_MAX = 4_096  # Stripe sends what is turned away again; and what waits here is not stored yet.

_Waiting = tuple[Mapping[str, object], Answer[InboxEvent]]

log = logging.getLogger("tokentill.receiving")


class Arrivals:
    """Takes in events. The thread begins with the first one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()  # None: the till closes.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._asking = ThreadPoolExecutor(ASKING_MAX, thread_name_prefix="till-asking")

    def receive(self, payload: Mapping[str, object]) -> Answer[InboxEvent]:
        """Take in an event. The answer, with what became of it, comes once it is stored and was acted on.

        Raises: MalformedBody when it is no Stripe event; Unavailable when the till is closed or too many wait. The
        answer raises Unavailable when it could not be stored: send it again.
        """
        names_of(payload)
        answer = Answer[InboxEvent]()
        if self._queue.qsize() >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX:,} events wait already; try again in a second.", retry_after=1)
        with self._lock:
            if self._is_closed:
                raise Unavailable("The till is closed.")
            self._queue.put((payload, answer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="till-arrivals", daemon=True)
                self._thread.start()
        return answer

    def close(self) -> None:
        """Store and act on what waits, then stop. Idempotent."""
        with self._lock:
            self._is_closed = True
            self._queue.put(None)
        if self._thread is not None:
            self._thread.join()
        self._asking.shutdown()

    def _run(self) -> None:
        is_open, size = True, 0
        while is_open:
            waiting = [self._queue.get()]
            self._let_arrive(size)
            try:
                while len(waiting) < BATCH_MAX:
                    waiting.append(self._queue.get_nowait())
            except Empty:
                pass
            is_open = None not in waiting
            batch = [each for each in waiting if each is not None]
            size = len(batch)
            if batch:
                self._read(batch)

    def _let_arrive(self, size: int) -> None:
        """After a batch of this size, let those who were answered send their next: a batch of leftovers costs as much.

        A lone event follows a small batch, and waits for nobody.
        """
        arrived = self._queue.qsize()
        while SMALL < size > arrived + 1:
            time.sleep(GATHERING_SECONDS)
            before, arrived = arrived, self._queue.qsize()
            if arrived == before:
                return

    def _read(self, batch: Sequence[_Waiting]) -> None:
        read: list[tuple[Arrival, Answer[InboxEvent]]] = []
        try:
            catalog = self._context.catalog
            for payload, answer in batch:
                try:
                    read.append((arrival_of(self._context, catalog, payload), answer))
                except MalformedBody as error:
                    settle([(answer, None, error)])
        except Exception as error:
            if not isinstance(error, TillError):
                log.exception("%d events could not be read", len(batch))
            settle((answer, None, error) for _, answer in batch)
        else:
            if read:
                self._take_in(read)

    def _take_in(self, batch: Sequence[tuple[Arrival, Answer[InboxEvent]]]) -> None:
        arrivals = [arrival for arrival, _ in batch]
        try:
            stored = store_all(self._context, arrivals)
        except InvalidRequest as error:
            if len(batch) == 1:
                settle([(batch[0][1], None, error)])
            else:  # One of them is what PostgreSQL cannot hold.
                for each in batch:
                    self._take_in([each])
        except TillError as error:
            settle((answer, None, error) for _, answer in batch)
        except Exception as error:
            log.exception("%d events could not be stored", len(batch))
            settle((answer, None, error) for _, answer in batch)
        else:
            # Who has to ask Stripe first keeps nobody else waiting: it is stored, and that is all Stripe wants to hear.
            for arrival, answer in batch:
                if arrival.wants_cart:
                    settle([(answer, stored[arrival.event.event_id], None)])
                    self._asking.submit(act_on, self._context, [arrival], stored)
            told = [(arrival, answer) for arrival, answer in batch if not arrival.wants_cart]
            events = act_on(self._context, [arrival for arrival, _ in told], stored)
            settle((answer, event, None) for (_, answer), event in zip(told, events, strict=True))
