"""Routing: of several workers on one database, each account's commands are carried out by one.

Any of them could carry out any command, exactly; but two that write the same account conflict, and each conflict is
work done twice. So a worker passes a command about another one's account on, over a Unix socket in a folder that only
they can enter, and has the answer back by number, many in flight at once. When the other one is not there, or does not
answer, the worker carries the command out itself: the command's key sees to it that what was done already is not done
again.

A message is a length (four bytes) and a pickle: requests one way, outcomes the other. Whoever can write into the
folder can run code here; it must belong to the workers' user and be closed to all others.
"""

import contextlib
import logging
import pickle
import socket
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from tokentill.core.companions import Companion
from tokentill.core.ledger.commands import Command
from tokentill.core.ledger.holds import HoldReceipt
from tokentill.engine.answers import Answer, settle, take
from tokentill.engine.engine import WAITING_MAX, Engine, overloaded
from tokentill.errors import TillError, Unavailable
from tokentill.store.db import Conn
from tokentill.store.journal import Receipt

# Seconds. A worker that answers nothing for so long is taken to be gone; at most twice as long passes.
PATIENCE = 10.0

log = logging.getLogger("tokentill.engine")

Outcome = tuple[int, Receipt | HoldReceipt | None, Exception | None]  # Of the command with that number.


def owner_of(user_id: UUID, count: int) -> int:
    """Return which of `count` workers carries out this account's commands. The same in every process and version."""
    # Of all the bits: a part of a UUID may be the same for all of an app's users.
    return zlib.crc32(user_id.bytes) % count


@dataclass(slots=True)
class Counts:
    """How many commands a worker had, by what became of them."""

    own: int = 0
    received: int = 0
    passed_on: int = 0
    taken_over: int = 0


@dataclass(frozen=True, slots=True)
class _Passed:
    """A command that another worker was asked for."""

    command: Command
    at: datetime | None
    companions: tuple[Companion, ...]
    answer: Answer[Any]


class RoutedEngine(Engine):
    """An engine that is one worker's of several: it carries out what is its own, and passes on what is not."""

    def __init__(
        self,
        connect: Callable[[], Conn],
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
        number: int,
        count: int,
        folder: Path,
    ) -> None:
        """Be worker `number` (from 0) of `count`, which meet in `folder`. The rest is as of `Engine`."""
        super().__init__(connect, clock=clock, new_id=new_id)
        self.number = number
        self.count = count
        self.counts = Counts()
        self._folder = folder
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._links: dict[int, _Link] = {}
        self._guests: list[_Guest] = []
        self._is_leaving = False
        path = self._path(number)
        path.unlink(missing_ok=True)  # Of the worker before this one, which was killed.
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._welcome, name="till-routing", daemon=True).start()
        self._meet()

    def submit(
        self, command: Command, *, at: datetime | None = None, companions: tuple[Companion, ...] = ()
    ) -> Answer[Any]:
        """Ask for `command`, as of `Engine.submit`, wherever it is carried out. Raises as that does."""
        link = self._link_for(command.user.user_id)
        if link is not None:
            passed = _Passed(command, at, companions, Answer())
            if link.pass_on([passed]):
                self.count_in("passed_on")
                return passed.answer
            self.count_in("taken_over")
        return super().submit(command, at=at, companions=companions)

    def submit_many(self, commands: Sequence[Command], *, at: datetime | None = None) -> list[Answer[Any]]:
        """Ask for many commands at once, as of `Engine.submit_many`. One account's stay in their order."""
        answers: dict[int, Answer[Any]] = {}
        here: list[int] = []
        away: dict[int, list[int]] = {}
        for place, command in enumerate(commands):
            owner = owner_of(command.user.user_id, self.count)
            (here if owner == self.number else away.setdefault(owner, [])).append(place)
        for owner, places in away.items():
            link = self._link_to(owner)
            passed = [_Passed(commands[place], at, (), Answer()) for place in places]
            if link is not None and link.pass_on(passed):
                self.count_in("passed_on", len(passed))
                answers.update(zip(places, (each.answer for each in passed), strict=True))
            else:
                self.count_in("taken_over", len(places))
                here += places
        if here:
            self.count_in("own", len(here))
            answers.update((place, self._submit_here(commands[place], at)) for place in here)
        return [answers[place] for place in range(len(commands))]

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller is in a callback of an answer, and must not wait for another one."""
        return super().is_own_thread or threading.current_thread().name.startswith("till-routing")

    def close(self) -> None:
        """Finish what was asked here and passed on, and what others have asked here, then stop. Idempotent."""
        with self._lock:
            if self._is_leaving:
                return
            self._is_leaving = True
            links, guests = list(self._links.values()), list(self._guests)
        self._path(self.number).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # Wakes the thread that waits in accept().
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in links:  # First: what is lost now can still be taken over.
            link.close()
        for guest in guests:
            guest.stop_reading()
        super().close()
        for guest in guests:
            guest.close()

    def count_in(self, what: str, number: int = 1) -> None:
        with self._counting:
            setattr(self.counts, what, getattr(self.counts, what) + number)

    # -- towards other workers ----------------------------------------------------------------------------------------

    def _link_for(self, user_id: UUID) -> "_Link | None":
        """Return the way to the account's worker; None: it is this one, or the other is not there."""
        owner = owner_of(user_id, self.count)
        if owner == self.number:
            self.count_in("own")
            return None
        link = self._link_to(owner)
        if link is None:
            self.count_in("taken_over")
        return link

    def _link_to(self, owner: int) -> "_Link | None":
        link = self._links.get(owner)
        if link is None or link.is_lost:
            with self._lock:
                link = self._links.get(owner)
                if (link is None or link.is_lost) and not self._is_leaving:
                    link = self._connected(owner)
                    if link is not None:
                        self._links[owner] = link
        return link

    def _meet(self) -> None:
        """Connect to whoever is there. Who comes later connects to us, and then we to them."""
        for owner in range(self.count):
            if owner != self.number:
                self._link_to(owner)

    def _connected(self, owner: int) -> "_Link | None":
        """Nobody listens at a worker that is gone, so trying costs next to nothing."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(str(self._path(owner)))
        except OSError:
            sock.close()
            return None
        return _Link(sock, take_over=self._take_over)

    def _take_over(self, passed: _Passed) -> None:
        """Carry out what another worker was asked for and has not answered. It may have been done: the key knows."""
        self.count_in("taken_over")
        answer = self._submit_here(passed.command, passed.at, passed.companions)
        answer.add_done_callback(partial(_tell, passed.answer))

    def _submit_here(
        self, command: Command, at: datetime | None, companions: tuple[Companion, ...] = ()
    ) -> Answer[Any]:
        """Ask this worker's own lanes, whoever owns the account; what they do not take is answered so."""
        try:
            return super().submit(command, at=at, companions=companions)
        except TillError as error:
            refused: Answer[Any] = Answer()
            settle([(refused, None, error)])
            return refused

    # -- towards this worker ------------------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.sock"

    def _welcome(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # Closed.
                return
            with self._lock:
                if self._is_leaving:
                    sock.close()
                    return
                self._guests = [guest for guest in self._guests if not guest.is_gone]
                self._guests.append(_Guest(sock, super().submit, self.count_in))
            self._meet()


class _Link:
    """One connection to another worker. Lost once is lost for good; what waits then is taken over.

    Nothing is passed on before the other one has said a first word: the kernel accepts connections for a process that
    hangs, too.
    """

    def __init__(self, sock: socket.socket, *, take_over: Callable[[_Passed], None]) -> None:
        self.is_lost = False
        self._is_welcome = False
        self._sock = sock
        self._take_over = take_over
        self._wake = threading.Condition()
        self._number = 0
        self._pending: dict[int, _Passed] = {}  # Oldest first.
        self._outbox: list[tuple[int, Command, datetime | None, tuple[Companion, ...]]] = []
        self._writer = threading.Thread(target=self._write, name="till-routing-out", daemon=True)
        self._reader = threading.Thread(target=self._read, name="till-routing-in", daemon=True)
        self._writer.start()
        self._reader.start()

    def pass_on(self, many: Sequence[_Passed]) -> bool:
        """Ask the other worker for these; what there is no room for is answered Overloaded. False: it is not there."""
        with self._wake:
            if self.is_lost or not self._is_welcome:
                return False
            room = WAITING_MAX - len(self._pending)
            for passed in many[:room]:
                self._number += 1
                take([passed.answer])  # It is on its way: no longer to be cancelled.
                self._pending[self._number] = passed
                self._outbox.append((self._number, passed.command, passed.at, passed.companions))
            self._wake.notify_all()
        for passed in many[room:]:
            settle([(passed.answer, None, overloaded(WAITING_MAX))])
        return True

    def close(self) -> None:
        """Wait until the other worker has answered, for a while; take over what it has not."""
        with self._wake:
            self._wake.wait_for(lambda: self.is_lost or not self._pending, PATIENCE)
        self._lose()
        self._reader.join()
        self._writer.join()

    def _write(self) -> None:
        try:
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self.is_lost or self._outbox)
                    if self.is_lost:
                        return
                    sent, self._outbox = self._outbox, []
                _send(self._sock, sent)
        except Exception as error:
            if not isinstance(error, OSError):
                log.exception("commands cannot be passed on")
            self._lose()

    def _read(self) -> None:
        inbox, oldest = _Inbox(self._sock), None
        try:
            while True:
                try:
                    outcomes = inbox.receive()
                except TimeoutError:
                    with self._wake:
                        waiting = next(iter(self._pending), None)
                    if waiting is not None and waiting == oldest:
                        log.warning("a worker does not answer; what it was asked for is done here")
                        break
                    oldest = waiting
                    continue
                self._settle(outcomes)
        except (OSError, EOFError):
            pass  # It has ended, or was killed.
        except Exception:
            log.exception("a worker's answers cannot be read")
        self._lose()

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        with self._wake:
            self._is_welcome = True
            settled = [
                (passed, receipt, error)
                for number, receipt, error in outcomes
                if (passed := self._pending.pop(number, None))  # None: it is being taken over already.
            ]
            if not self._pending:
                self._wake.notify_all()
        for passed, receipt, error in settled:
            if type(error) is Unavailable:  # It is closing, and has done nothing.
                self._take_over(passed)
            elif error is not None:
                settle([(passed.answer, None, error)])
            else:
                settle([(passed.answer, receipt, None)])

    def _lose(self) -> None:
        with self._wake:
            self.is_lost = True
            left, self._pending = list(self._pending.values()), {}
            self._wake.notify_all()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for passed in left:
            self._take_over(passed)


class _Guest:
    """Another worker that asks this one."""

    def __init__(
        self, sock: socket.socket, submit: Callable[..., Answer[Any]], count_in: Callable[[str, int], None]
    ) -> None:
        self.is_gone = False
        self._sock = sock
        self._submit = submit
        self._count_in = count_in
        self._wake = threading.Condition()
        self._is_closing = False
        self._due = 0  # Commands that are not answered yet.
        self._outbox: list[Outcome] = []
        threading.Thread(target=self._read, name="till-routing-guest-in", daemon=True).start()
        self._writer = threading.Thread(target=self._write, name="till-routing-guest-out", daemon=True)
        self._writer.start()

    def stop_reading(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Send the answers that are there, and hang up."""
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()
        self._writer.join(PATIENCE)

    def _read(self) -> None:
        inbox = _Inbox(self._sock)
        try:
            while True:
                requests = inbox.receive()
                with self._wake:
                    self._due += len(requests)
                self._count_in("received", len(requests))
                for number, command, at, companions in requests:
                    try:
                        answer = self._submit(command, at=at, companions=companions)
                    except TillError as error:
                        self._answer(number, None, error)
                    else:
                        answer.add_done_callback(partial(self._answered, number))
        except (OSError, EOFError):
            pass
        except Exception:
            log.exception("a worker's commands cannot be read")
            with contextlib.suppress(OSError):  # It then does them itself.
                self._sock.shutdown(socket.SHUT_RDWR)
        with self._wake:
            self.is_gone = True
            self._wake.notify_all()

    def _answered(self, number: int, answer: Answer[Any]) -> None:
        error = answer.exception()
        self._answer(number, None if error else answer.result(), error)

    def _answer(self, number: int, receipt: Receipt | HoldReceipt | None, error: Exception | None) -> None:
        if error is not None and not isinstance(error, TillError):
            error = RuntimeError(repr(error))  # Whatever it is made of, this can travel.
        with self._wake:
            self._due -= 1
            self._outbox.append((number, receipt, error))
            if len(self._outbox) == 1:
                self._wake.notify_all()

    def _write(self) -> None:
        try:
            _send(self._sock, [])  # The first word.
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._outbox or self._is_closing or (self.is_gone and not self._due))
                    sent, self._outbox = self._outbox, []
                    if not sent:
                        return
                _send(self._sock, sent)
        except OSError:
            pass  # The other one is gone; whoever has its callers asks again.
        finally:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()


class _Inbox:
    """Reads messages; what has come of one is kept when a read times out in its middle."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._came = bytearray()

    def receive(self) -> Any:
        """Return the next message. Raises: EOFError, TimeoutError, OSError."""
        while len(self._came) < 4 or len(self._came) < 4 + (length := int.from_bytes(self._came[:4])):
            part = self._sock.recv(1 << 18)
            if not part:
                raise EOFError
            self._came += part
        message = bytes(self._came[4 : 4 + length])
        del self._came[: 4 + length]
        return pickle.loads(message)


def _send(sock: socket.socket, message: object) -> None:
    packed = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    sock.sendall(len(packed).to_bytes(4) + packed)


def _tell(answer: Answer[Any], done: Answer[Any]) -> None:
    """Let `answer` say what `done` says."""
    error = done.exception()
    settle([(answer, None if error else done.result(), error)])
