"""The meter: an AI call between a hold and its capture.

    with till.meter("alice", "chat_conversation", model="gpt-5", estimate=800, max_output=2_000) as m:
        m.record(openai.chat.completions.create(…))

    open ──► recorded    captured with what the call used
      │ ├──► watched     captured with what the stream said; what was seen, marked `estimated`, if it broke off
      │ ├──► failed      recorded with its counts, for 0 tokens
      │ └──► nothing     nothing was recorded and nothing failed: the hold is voided, with a warning in the log
      └────► (the process died) the hold frees itself by time

Two round trips, one before the call and one after it. Whatever happens in the block, there is one capture at most.
A call whose usage contradicts itself is charged by the rule of `core.usage.fallback`, and one that says nothing of it
what was held for it; both are marked `estimated`: never 0 by mistake.

Where other models were at work inside the call (an image tool, an advisor), each is a row of its own beside it.

Units: `estimate` and `max_output` are model tokens; `minimum` and what is held are the account's tokens.
"""

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

from tokentill.core.calls import one_model
from tokentill.core.usage.reading import Pools, UnreadableUsage, fallback_pools, read_service_tier
from tokentill.errors import InvalidRequest, InvalidText
from tokentill.meter.background import background
from tokentill.meter.counting import MAX_OUTPUT, fitting, together
from tokentill.meter.responses import (
    as_body,
    as_event,
    others_of,
    problem_of,
    provider_of,
    reported_cost,
    used_by,
    words_of,
)
from tokentill.meter.streams import Seen
from tokentill.meter.tills import AnyTill, Ask, Steps, code_of, is_async, is_invalid, reachable, run, run_async
from tokentill.meter.unattended import (
    TELLS_MAX_SECONDS,
    arenew,
    await_exit,
    renew,
    running,
    settle_quietly,
    spawn,
    tell_again,
)

TTL = timedelta(minutes=2)  # How long a hold outlives its process. Renewed every third of it.
LASTS_MAX_SECONDS = 3600.0  # Nothing is renewed for longer: such a call hangs, and others can use its tokens.
_KEY_LENGTH_MAX = 200  # Of 255: the rest names the parts of one call.

log = logging.getLogger("tokentill.meter")
T = TypeVar("T")


class Meter:
    """One AI call, metered. Use it once, by `with` or `async with`, or by `open` and `settle`.

    `estimate` is what the prompt comes to. `minimum` must be available for the call to be made at all; without it,
    what the prompt would take. With an `idempotency_key`, whatever runs twice with the same key is charged once; a call
    that failed may be tried again with its key. Without `max_output`, the answer may have what the action says.
    """

    def __init__(
        self,
        till: AnyTill,
        user: str | UUID,
        action: str,
        *,
        model: str | None = None,
        model_used: str | None = None,
        provider: str | None = None,
        estimate: int = 0,
        max_output: int | None = None,
        minimum: int | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ttl: timedelta = TTL,
        raises: bool = True,
    ) -> None:
        """`provider` is who serves the call, where the answer does not show it (openai, deepseek, azure, …).

        `raises=False` logs what goes wrong when the call is over, instead of raising it: its answer is there.
        """
        if idempotency_key is not None and not 1 <= len(idempotency_key) <= _KEY_LENGTH_MAX:
            raise InvalidText(f"A meter's idempotency key is a text of 1 to {_KEY_LENGTH_MAX} characters.")
        self.till, self.user, self.action, self.provider = till, user, action, provider
        self.model = one_model(model, model_used)
        self.held_tokens = 0  # What is set aside; less than the worst case where less is available.
        self.hold_id: Any = None
        self.receipt: Any = None  # Of the capture, when it is over.
        self._estimate, self._max_output, self._minimum = estimate, max_output, minimum
        self._key, self._metadata, self._ttl, self._raises = idempotency_key, dict(metadata or {}), ttl, raises
        self._pools: Pools | None = None
        self._is_recorded = False
        self._note: str | None = None  # Why the usage is a guess.
        self._is_cut = False  # A guess because not all was seen; then nobody need look into it.
        self._raw: object = None  # What the provider said of it then.
        self._tier: str | None = None
        self._others: list[tuple[str | None, Pools]] = []
        self._error: str | None = None
        self._has_failed = False
        self._request_id: str | None = None
        self._streams: list[Seen] = []
        self._lock = threading.Lock()
        self._is_opened = self._is_settled = False
        self._process = os.getpid()
        self._opened_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._own_name: str | None = None

    # -- What happened ---------------------------------------------------------------------------------------------

    def record(self, response: object, *, provider: str | None = None, model: str | None = None) -> None:
        """Take note of what the call used: a response (a body, or an SDK's object) or Pools. Several add up.

        Nothing is sent yet. Raises: TypeError for what says nothing of usage.
        """
        if isinstance(response, Pools):
            note = "the usage counts nothing" if response == Pools() else None  # Which is not believed of anybody.
            self.used(None if note else response, model=model, note=note)
            return
        body = as_body(response)
        served = provider or self.provider or provider_of(response)
        words = words_of(served)
        read = used_by(body, words)
        model, request_id = model or body.get("model"), body.get("id")
        about: dict[str, Any] = {
            "model": model if isinstance(model, str) else None, "provider": served,
            "request_id": request_id if isinstance(request_id, str) else None, "cost": reported_cost(body),
            "service_tier": read_service_tier(body), "others": others_of(body, words),
        }  # fmt: skip
        problem = problem_of(body)
        if problem is not None:
            self.failed(problem)
            self.used(read if isinstance(read, Pools) else None, **about)
        elif isinstance(read, Pools):
            self.used(read, **about)
        else:
            self.used(self.guess(read), note=read.reason, raw=read.raw, **about)

    def guess(self, read: UnreadableUsage, estimate: Pools | None = None) -> Pools | None:
        """Return what is charged for usage that cannot be read; None: it says nothing, so what was held is.

        `estimate` is the call's size by what was sent and said; without it, what the hold was measured by.
        """
        if estimate is None and fallback_pools(read.raw, estimate=None) is not None:
            estimate = Pools(input_uncached=self._estimate, output_text=self._output)
        return fallback_pools(read.raw, estimate=estimate)

    def used(
        self, pools: Pools | None, *, model: str | None = None, request_id: str | None = None,
        provider: str | None = None, service_tier: str | None = None, note: str | None = None, raw: object = None,
        is_cut: bool = False, others: Iterable[tuple[str | None, Pools]] = (), cost: str | None = None,
    ) -> None:  # fmt: skip
        """Take note of usage that has been read. `note` says why it is a guess; None of pools: not even that.

        `raw` is what the provider said, where it could not be read. `is_cut`: nothing is wrong with what it said, but
        not all of it was seen. `others` are (model, pools) of other models at
        work inside the call; `cost` is what the provider says it costs, in cents.
        """
        self._require_running()
        self._take(
            pools, model=model, request_id=request_id, provider=provider, service_tier=service_tier, note=note, raw=raw,
            is_cut=is_cut, others=others, cost=cost,
        )  # fmt: skip

    def _take(
        self, pools: Pools | None, *, model: str | None, request_id: str | None, service_tier: str | None,
        note: str | None, raw: object, is_cut: bool, others: Iterable[tuple[str | None, Pools]], cost: str | None,
        provider: str | None = None,
    ) -> None:  # fmt: skip
        self._is_recorded = True
        if pools is not None:
            self._pools = together(self._pools, pools)
        self.model = model or self.model
        self.provider = provider or self.provider
        self._request_id = request_id or self._request_id
        self._tier = service_tier or self._tier
        self._others += others
        if cost is not None:
            self._metadata["reported_cost_cents"] = cost
        if is_cut:
            self._is_cut, self._metadata["usage_note"] = True, note
        elif note is not None:
            self._note, self._raw = note, raw

    def failed(self, error: BaseException | str) -> None:
        """Take note that the call failed: it is recorded, and costs nothing."""
        self._has_failed = True
        self._error = _said(error)

    def broke_off(self, error: BaseException | str) -> None:
        """Take note why the stream ended early. What was seen of it is charged."""
        self._error = _said(error)

    def watch(self, stream: Iterable[T], *, provider: str | None = None) -> Iterator[T]:
        """Pass a stream's events on and take note of them. One that is left early is charged as far as it was read."""
        seen: Seen | None = None
        for event in stream:
            self._require_running()
            seen = seen or self.watching(self._served(provider, event))
            seen.add(as_event(event))
            yield event
        (seen or self.watching(provider)).is_complete = True

    async def watch_async(self, stream: AsyncIterable[T], *, provider: str | None = None) -> AsyncIterator[T]:
        """The same for a stream that is awaited."""
        seen: Seen | None = None
        async for event in stream:
            self._require_running()
            seen = seen or self.watching(self._served(provider, event))
            seen.add(as_event(event))
            yield event
        (seen or self.watching(provider)).is_complete = True

    def _served(self, provider: str | None, event: object) -> str | None:
        self.provider = provider or self.provider or provider_of(event)
        return self.provider

    def _require_running(self) -> None:
        """Raise InvalidRequest when the call is over: what is used from now on, nobody would be charged for."""
        if self._is_settled:
            raise InvalidRequest(
                "This metered call is over. Record its answer, and read its stream to the end, inside the block."
            )

    def watching(self, provider: str | None) -> Seen:
        """Return what will be charged for a stream: tell it every event."""
        self._require_running()
        seen = Seen(words_of(provider))
        self._streams.append(seen)
        return seen

    # -- Before and after ------------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Place the hold. Raises: InsufficientTokens when not even the minimum is there, and what `hold` raises."""
        run(self._placing(), self.till)
        self._start_renewing()
        return self

    def settle(self) -> None:
        """End the hold: capture it, or void it where nothing has happened. The second time, nothing is done.

        A till that is out of reach just now is told later, from the background. Raises: what `capture` raises.
        """
        if not self._ends():
            return
        try:
            run(self.settling(), self.till)
        except Exception as error:
            if self.is_for_later(error):
                background.later(self.renews_seconds, partial(tell_again, self, time.monotonic()))
            elif self._raises:
                raise

    async def aopen(self) -> Self:
        """The same as `open`, for async code."""
        await run_async(self._placing(), self.till)
        self._loop = asyncio.get_running_loop()
        self._start_renewing()
        return self

    async def asettle(self) -> None:
        """The same as `settle`, for async code. A caller that is cancelled meanwhile does not stop it."""
        if self._ends():
            if self._renewal is not None:
                self._renewal.cancel()
            settling = spawn(self._asettle())
            settling.add_done_callback(self._cut_short)
            await asyncio.shield(settling)

    def _cut_short(self, settling: "asyncio.Task[None]") -> None:
        if not settling.cancelled():
            return
        # The loop has ended before it was done. What was asked twice happens once.
        if is_async(self.till):
            log.error("A call of %s could not be recorded: its event loop has ended.", self.action)
        else:
            background.later(0, partial(tell_again, self, time.monotonic()))

    def settle_soon(self) -> None:
        """Settle without waiting for it: from where nobody can wait, such as the end of a forgotten stream."""
        if not is_async(self.till):
            background.later(0, partial(settle_quietly, self))
        elif self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: spawn(self.asettle()))
        elif not self._is_settled:
            log.error("A call of %s could not be recorded: its event loop has ended.", self.action)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _unless(error):
            self._heard(error)
            self.settle()

    async def __aenter__(self) -> Self:
        return await self.aopen()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _unless(error):
            self._heard(error)
            await self.asettle()

    # -- Within ----------------------------------------------------------------------------------------------------

    @property
    def renews_seconds(self) -> float:
        return self._ttl.total_seconds() / 3

    @property
    def _output(self) -> int:
        return MAX_OUTPUT if self._max_output is None else self._max_output

    @property
    def has_anything_to_tell(self) -> bool:
        return not self._is_settled and (self._is_recorded or any(seen.has_begun for seen in self._streams))

    def _placing(self) -> Steps[None]:
        with self._lock:
            if self._is_opened:
                raise InvalidRequest("A meter is for one call: take another one for the next.")
            self._is_opened = True
        by = {"model": self.model, "provider": self.provider}
        worst: int = yield Ask("tokens_for", (self.action, self._estimate, self._max_output), by)
        self._opened_at = time.monotonic()
        if worst == 0 and not self._minimum:
            return  # An action that is free needs no tokens.
        least = self._minimum
        if least is None:
            least = yield Ask("tokens_for", (self.action, self._estimate, min(self._output, 1)), by)
        worst = wanted = max(worst, least)
        key, runs = self._key, 1
        while True:
            # The size is part of the key: tried again after a price was edited, it is another hold of the same call.
            named = None if key is None else f"{key}#{wanted}"
            details = {"ttl": self._ttl, **by, "metadata": self._metadata, "idempotency_key": named}
            try:
                hold = yield Ask("hold", (self.user, wanted, self.action), details)
            except Exception as error:
                there = reachable(error)
                # Always less than before: however fast others spend, this comes to an end.
                if there is None or not max(1, least) <= there < wanted:
                    raise
                wanted = there
                continue
            if key is not None and hold.state in ("voided", "expired"):
                # Of a call with this key that failed or died. This one sets tokens aside of its own.
                key, runs, wanted = f"{self._key}#run{runs + 1}", runs + 1, worst
                continue
            self.hold_id, self.held_tokens = hold.hold_id, hold.tokens
            return

    def settling(self) -> Steps[None]:
        if not (self._is_recorded or self._has_failed):
            if self.hold_id is not None:
                log.warning("Nothing was recorded of a metered call of %s; its hold is voided.", self.action)
                yield Ask("void", (self.user, self.hold_id))
            return
        # Of a failed call nobody need know what it used: it costs nothing.
        note = None if self._has_failed else self._note
        # What others say of a call may be too long to be kept, or not storable. That must not make the call free.
        facts: dict[str, Any] = {
            "model_used": fitting(self.model, 255), "success": not self._has_failed,
            "pools": None if self._pools is None else self._pools.as_json() or None,
            "error_message": fitting(self._error, 500),
            "estimated": not self._has_failed and (self._is_cut or note is not None),
            "usage_note": fitting(note, 500),
            "raw_usage": self._raw if note is not None and isinstance(self._raw, Mapping) else None,
            "provider_request_id": fitting(self._request_id, 255), "provider": fitting(self.provider, 63),
            "service_tier": fitting(self._tier, 63), "metadata": self._metadata or None,
        }  # fmt: skip
        try:
            yield from self._writing(facts)
        except Exception as error:
            if not is_invalid(error):
                raise
            log.error("A call of %s is recorded without what was said of it: %s", self.action, error)
            facts |= {"raw_usage": None, "metadata": None}
            yield from self._writing(facts)
        yield from self._telling_others(facts)

    def _writing(self, facts: Mapping[str, Any]) -> Steps[None]:
        """Write the call's own row."""
        if self._has_failed and self._key is not None:
            # Not captured and not by the call's key: whoever tries it again with that has had no answer yet.
            if self.hold_id is not None:
                try:
                    yield Ask("void", (self.user, self.hold_id))
                except Exception as error:
                    if code_of(error) != "hold_closed":  # Captured by the same call, which runs elsewhere, too.
                        raise
            self.receipt = yield self._spending(facts, f"{self._name}#failed")
            return
        key = None if self._key is None else f"{self._key}#call"
        try:
            if self.hold_id is None:
                self.receipt = yield self._spending(facts, key or f"{self._name}#call")
                return
            details = {**facts, "action_type": self.action, "idempotency_key": key}
            self.receipt = yield Ask("capture", (self.user, self.hold_id), details)
        except Exception as error:
            code = code_of(error)
            if code == "hold_closed" and getattr(error, "fields", {}).get("state") == "voided":
                # Somebody freed its tokens while the call was running. The call has happened all the same.
                self.receipt = yield self._spending(facts, key or f"{self._name}#call")
            elif code == "idempotency_conflict" and key is not None:
                # This key's call was charged before, by another hold: this one is not needed.
                self._others = []
                if self.hold_id is not None:
                    with suppress(Exception):
                        yield Ask("void", (self.user, self.hold_id))
            else:
                raise

    @property
    def _name(self) -> str:
        """What this very run of the call is known by."""
        if self._own_name is None:
            self._own_name = str(self.hold_id or uuid4())
        return self._own_name

    def _spending(self, facts: Mapping[str, Any], key: str) -> Ask:
        # What is measured in seconds, characters or images has no counts that an action could charge by.
        tokens = None if self._pools and (self._pools.input_tokens or self._pools.output_tokens) else self.held_tokens
        details = {**facts, "on_insufficient": "record", "idempotency_key": key}
        return Ask("spend", (self.user, tokens, self.action), details)

    def _telling_others(self, facts: Mapping[str, Any]) -> Steps[None]:
        """Record what other models did inside the call: rows of their own, since they have prices of their own.

        An action with a fixed price has taken it for the whole call.
        """
        if not self._others:
            return
        fixed: int = yield Ask("tokens_for", (self.action, 0, 0))
        of_call = self._key or self._name
        for number, (model, pools) in enumerate(self._others):
            has_counts = pools.input_tokens or pools.output_tokens
            details = {
                "pools": pools.as_json(), "model_used": fitting(model, 255), "on_insufficient": "record",
                "metadata": {**(facts["metadata"] or {}), "within_model": facts["model_used"]},
                **{name: facts[name] for name in ("success", "provider", "service_tier", "provider_request_id")},
                "idempotency_key": f"{of_call}#other{number}",
            }  # fmt: skip
            yield Ask("spend", (self.user, None if has_counts and not fixed else 0, self.action), details)

    def _ends(self) -> bool:
        """Whether it is this caller who ends the call, and not another one before. What streams said is read now."""
        with self._lock:
            # A fork has a copy of every call of its parent, which is none of its business.
            if self._is_settled or os.getpid() != self._process:
                return False
            self._is_settled = True
        for seen in self._streams:
            used = seen.usage(self._estimate)
            if seen.error is not None:
                self._error = seen.error  # What the provider said outranks how the caller noticed.
            has_output = used.pools is not None and used.pools.output_tokens > 0
            if not seen.has_begun or (seen.error is not None and not has_output):
                # Nothing came of it.
                self._has_failed = True
                self._error = self._error or used.note
            if seen.has_begun:
                self._take(
                    used.pools, model=seen.model, request_id=seen.request_id, service_tier=seen.service_tier,
                    note=used.note, raw=used.raw, is_cut=used.is_cut, others=seen.other_models, cost=seen.cost,
                )  # fmt: skip
        return True

    def _heard(self, error: BaseException | None) -> None:
        if error is None:
            return
        if any(seen.has_begun and not seen.is_complete for seen in self._streams):
            self.broke_off(error)
        else:
            self.failed(error)

    async def _asettle(self) -> None:
        try:
            try:
                await run_async(self.settling(), self.till)
            except asyncio.CancelledError:
                # Nobody cancels this but a loop that ends, and it waits. What is asked twice happens once.
                await run_async(self.settling(), self.till)
                raise
        except Exception as error:
            if self.is_for_later(error):
                spawn(self._atell_again())
            elif self._raises:
                raise

    def is_for_later(self, error: Exception) -> bool:
        if getattr(error, "retryable", False):
            log.warning("The till could not be told of a call of %s, and will be: %s", self.action, error)
            return True
        if not self._raises:
            log.error("A call of %s could not be recorded: %s", self.action, error)
        return False

    async def _atell_again(self) -> None:
        since = time.monotonic()
        while time.monotonic() - since < TELLS_MAX_SECONDS:
            await asyncio.sleep(self.renews_seconds)
            try:
                await run_async(self.settling(), self.till)
            except Exception as error:
                if not self.is_for_later(error):
                    raise
            else:
                return

    # Both renewals know the meter weakly: one that nobody holds any more is not renewed, and frees itself by time.

    def _start_renewing(self) -> None:
        running.add(self)
        await_exit()
        if self.hold_id is None:
            return
        if is_async(self.till):
            self._renewal = spawn(arenew(weakref.ref(self), self.renews_seconds))
        else:
            background.later(self.renews_seconds, partial(renew, weakref.ref(self)))

    def renewing(self) -> Steps[float | None]:
        """Ask for more time. Returns in how many seconds to ask again; None: not any more."""
        if self._is_settled or time.monotonic() - self._opened_at > LASTS_MAX_SECONDS:
            return None
        try:
            yield Ask("renew", (self.user, self.hold_id), {"ttl": self._ttl})
        except Exception as error:  # noqa: BLE001 - the call goes on without; its capture is then a spend like any other
            if getattr(error, "retryable", False):
                return self.renews_seconds / 2
            log.warning("A hold of %s could not be renewed: %s", self.action, error)
            return None
        return self.renews_seconds


class _unless:  # noqa: N801 - reads like contextlib's
    """Log an error of ours where the caller's own is on its way: it must not be hidden behind it."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._error is None or not isinstance(error, Exception):
            return False
        log.error("A call could not be recorded: %s", error)
        return True


def _said(error: BaseException | str) -> str:
    return error if isinstance(error, str) else f"{type(error).__name__}: {error}"
