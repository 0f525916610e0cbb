"""The clients: a till that runs elsewhere, asked over HTTP, from sync and from async code.

    with TillClient("https://till.example", api_key="…") as till:
        hold = till.hold("alice", 2_000, "chat_conversation")
        till.capture("alice", hold.hold_id, 1_234)

The methods are those of `tokentill.Till`, as far as an AI call needs them, with the same arguments; the errors have the
same names and codes. What failed because the till was busy or out of reach is asked again a few times: every request
here may be, since it has an idempotency key (one is made where none is given) or changes nothing when repeated.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx2

from tokentill.client import errors, wire
from tokentill.client.wire import (
    RETRIES_MAX,
    TTL_DEFAULT,
    Action,
    Answer,
    Balance,
    HoldReceipt,
    Receipt,
    Request,
    User,
)

if TYPE_CHECKING:
    from tokentill.meter import Meter

TIMEOUT_SECONDS = 10.0
RULES_KEPT_SECONDS = 60.0
RULES_KEPT_MAX = 10_000


class _Rules:
    """What the actions charge, as the till last said. Only holds are measured by it, so it may be a minute old."""

    def __init__(self) -> None:
        self._known: dict[Request, tuple[float, Mapping[str, Any]]] = {}

    def get(self, request: Request) -> Mapping[str, Any] | None:
        until, answer = self._known.get(request, (0.0, {}))
        return answer if time.monotonic() < until else None

    def keep(self, request: Request, answer: Mapping[str, Any]) -> None:
        if len(self._known) >= RULES_KEPT_MAX:
            self._known.clear()
        self._known[request] = (time.monotonic() + RULES_KEPT_SECONDS, answer)


class TillClient:
    """A till over HTTP. May be used from any thread.

    `http` is an httpx2 client of yours, which stays open when this is closed.
    """

    def __init__(
        self, url: str, api_key: str, *, http: httpx2.Client | None = None, retries_max: int = RETRIES_MAX,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._url, self._auth = url.rstrip("/"), {"Authorization": f"Bearer {api_key}"}
        self._http = http or httpx2.Client(timeout=TIMEOUT_SECONDS)
        self._is_own = http is None
        self._retries_max = retries_max
        self._sleep = sleep
        self._rules = _Rules()

    def close(self) -> None:
        if self._is_own:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hold(
        self, user: User, tokens: int, action_type: str, *, ttl: timedelta | int = TTL_DEFAULT,
        model: str | None = None, model_used: str | None = None, provider: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> HoldReceipt:  # fmt: skip
        """Set tokens aside. Raises: InsufficientTokens, AccountNotFound, AccountFrozen, UnknownAction, …"""
        request = wire.hold(
            user, tokens, action_type, ttl=ttl, model=model, model_used=model_used, provider=provider,
            metadata=metadata, idempotency_key=idempotency_key,
        )  # fmt: skip
        return wire.hold_receipt(self._ask(request))

    def renew(self, user: User, hold_id: str, *, ttl: timedelta | int = TTL_DEFAULT) -> HoldReceipt:
        """Let an open hold live for `ttl` from now. Raises: HoldNotFound, HoldClosed, AccountFrozen."""
        return wire.hold_receipt(self._ask(wire.renew(hold_id, ttl=ttl)))

    def capture(self, user: User, hold_id: str, tokens: int | None = None, **details: Any) -> Receipt:
        """Spend what a hold was placed for. Raises: HoldNotFound, HoldClosed, InsufficientTokens, …"""
        return wire.receipt(self._ask(wire.capture(hold_id, tokens, details)))

    def void(self, user: User, hold_id: str) -> HoldReceipt:
        """Free a hold's tokens. Raises: HoldNotFound, HoldClosed when it was captured."""
        return wire.hold_receipt(self._ask(wire.void(hold_id)))

    def spend(self, user: User, tokens: int | None, action_type: str, **details: Any) -> Receipt:
        """Take an AI operation's tokens. Raises: InsufficientTokens, AccountNotFound, UnknownAction, …"""
        return wire.receipt(self._ask(wire.spend(user, tokens, action_type, details)))

    def track_token_usage(
        self, user: User, action_type: str, tokens_used: int | None = None, **details: Any
    ) -> Receipt:  # fmt: skip
        """Record an AI operation that has happened, even into debt. `details` are those of `spend`."""
        return self.spend(user, tokens_used, action_type, **{"on_insufficient": "record", **details})

    def balance(self, user: User) -> Balance:
        """Return what the account holds now. Raises: AccountNotFound."""
        return wire.balance_of(self._ask(wire.balance(user)))

    def action(self, key: str) -> Action:
        """Return what is needed to make a call of this action. Raises: ActionNotFound."""
        return wire.action_of(self._ask(wire.action(key)))

    def tokens_for(
        self, action_type: str, input_tokens: int, output_tokens: int | None, *, model: str | None = None,
        provider: str | None = None,
    ) -> int:  # fmt: skip
        """Return what a call of this size would take, as the till charges now: what it said is kept for a minute.

        None of `output_tokens`: as many as the action's `max_tokens` allow, else 4,096. Where that depends on prices or
        models, it may be up to an eighth more.
        """
        rule = self._kept(wire.action(action_type))
        output_tokens = wire.output_tokens_of(rule, output_tokens)
        if not wire.is_the_tills_to_say(rule):
            return wire.tokens_for(rule, input_tokens, output_tokens)
        read, written = wire.rounded_up(input_tokens), wire.rounded_up(output_tokens)
        tokens = self._kept(wire.charge(action_type, read, written, model, provider)).get("tokens")
        return tokens if isinstance(tokens, int) else wire.tokens_for(rule, input_tokens, output_tokens)

    def _kept(self, request: Request) -> Mapping[str, Any]:
        found = self._rules.get(request)
        if found is None:
            try:
                found = self._ask(request).body
            except (errors.NotFound, errors.InvalidRequest):
                found = {}  # An older till that does not tell, or no such action: placing the hold will say which.
            self._rules.keep(request, found)
        return found

    def meter(self, user: User, action: str, **details: Any) -> "Meter":
        """Return a meter for one AI call: `with till.meter("alice", "chat_conversation") as m:`, or `async with`."""
        return _meter(self, user, action, details)

    def _ask(self, request: Request) -> Answer:
        for retries in range(self._retries_max + 1):
            is_last = retries == self._retries_max
            try:
                answered = self._http.request(
                    request.method, self._url + request.path, content=request.content,
                    headers={**self._auth, **request.headers},
                )  # fmt: skip
            except httpx2.TransportError as error:
                if is_last:
                    raise wire.unreachable(error, retries_taken=retries) from error
                self._sleep(wire.wait_seconds(retries))
                continue
            if answered.status_code not in wire.RETRIED or is_last:
                return wire.answer_of(answered.status_code, answered.headers, answered.content, retries_taken=retries)
            self._sleep(wire.wait_seconds(retries, answered.headers))
        raise AssertionError("the last try answers or raises")


def _meter(till: "TillClient | AsyncTillClient", user: User, action: str, details: Mapping[str, Any]) -> "Meter":
    # Here and not above: a till that only grants and spends needs no meter, and the meter knows these clients.
    from tokentill.meter import Meter

    return Meter(till, user, action, **details)


class AsyncTillClient:
    """The same for async code."""

    def __init__(
        self, url: str, api_key: str, *, http: httpx2.AsyncClient | None = None, retries_max: int = RETRIES_MAX
    ) -> None:
        self._url, self._auth = url.rstrip("/"), {"Authorization": f"Bearer {api_key}"}
        self._http = http or httpx2.AsyncClient(timeout=TIMEOUT_SECONDS)
        self._is_own = http is None
        self._retries_max = retries_max
        self._rules = _Rules()

    async def aclose(self) -> None:
        if self._is_own:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def hold(
        self, user: User, tokens: int, action_type: str, *, ttl: timedelta | int = TTL_DEFAULT,
        model: str | None = None, model_used: str | None = None, provider: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> HoldReceipt:  # fmt: skip
        """Set tokens aside. Raises: InsufficientTokens, AccountNotFound, AccountFrozen, UnknownAction, …"""
        request = wire.hold(
            user, tokens, action_type, ttl=ttl, model=model, model_used=model_used, provider=provider,
            metadata=metadata, idempotency_key=idempotency_key,
        )  # fmt: skip
        return wire.hold_receipt(await self._ask(request))

    async def renew(self, user: User, hold_id: str, *, ttl: timedelta | int = TTL_DEFAULT) -> HoldReceipt:
        """Let an open hold live for `ttl` from now. Raises: HoldNotFound, HoldClosed, AccountFrozen."""
        return wire.hold_receipt(await self._ask(wire.renew(hold_id, ttl=ttl)))

    async def capture(self, user: User, hold_id: str, tokens: int | None = None, **details: Any) -> Receipt:
        """Spend what a hold was placed for. Raises: HoldNotFound, HoldClosed, InsufficientTokens, …"""
        return wire.receipt(await self._ask(wire.capture(hold_id, tokens, details)))

    async def void(self, user: User, hold_id: str) -> HoldReceipt:
        """Free a hold's tokens. Raises: HoldNotFound, HoldClosed when it was captured."""
        return wire.hold_receipt(await self._ask(wire.void(hold_id)))

    async def spend(self, user: User, tokens: int | None, action_type: str, **details: Any) -> Receipt:
        """Take an AI operation's tokens. Raises: InsufficientTokens, AccountNotFound, UnknownAction, …"""
        return wire.receipt(await self._ask(wire.spend(user, tokens, action_type, details)))

    async def track_token_usage(
        self, user: User, action_type: str, tokens_used: int | None = None, **details: Any
    ) -> Receipt:  # fmt: skip
        """Record an AI operation that has happened, even into debt. `details` are those of `spend`."""
        return await self.spend(user, tokens_used, action_type, **{"on_insufficient": "record", **details})

    async def balance(self, user: User) -> Balance:
        """Return what the account holds now. Raises: AccountNotFound."""
        return wire.balance_of(await self._ask(wire.balance(user)))

    async def action(self, key: str) -> Action:
        """Return what is needed to make a call of this action. Raises: ActionNotFound."""
        return wire.action_of(await self._ask(wire.action(key)))

    async def tokens_for(
        self, action_type: str, input_tokens: int, output_tokens: int | None, *, model: str | None = None,
        provider: str | None = None,
    ) -> int:  # fmt: skip
        """Return what a call of this size would take, as the till charges now: what it said is kept for a minute.

        None of `output_tokens`: as many as the action's `max_tokens` allow, else 4,096. Where that depends on prices or
        models, it may be up to an eighth more.
        """
        rule = await self._kept(wire.action(action_type))
        output_tokens = wire.output_tokens_of(rule, output_tokens)
        if not wire.is_the_tills_to_say(rule):
            return wire.tokens_for(rule, input_tokens, output_tokens)
        read, written = wire.rounded_up(input_tokens), wire.rounded_up(output_tokens)
        tokens = (await self._kept(wire.charge(action_type, read, written, model, provider))).get("tokens")
        return tokens if isinstance(tokens, int) else wire.tokens_for(rule, input_tokens, output_tokens)

    async def _kept(self, request: Request) -> Mapping[str, Any]:
        found = self._rules.get(request)
        if found is None:
            try:
                found = (await self._ask(request)).body
            except (errors.NotFound, errors.InvalidRequest):
                found = {}  # An older till that does not tell, or no such action: placing the hold will say which.
            self._rules.keep(request, found)
        return found

    def meter(self, user: User, action: str, **details: Any) -> "Meter":
        """Return a meter for one AI call: `async with till.meter("alice", "chat_conversation") as m:`."""
        return _meter(self, user, action, details)

    async def _ask(self, request: Request) -> Answer:
        for retries in range(self._retries_max + 1):
            is_last = retries == self._retries_max
            try:
                answered = await self._http.request(
                    request.method, self._url + request.path, content=request.content,
                    headers={**self._auth, **request.headers},
                )  # fmt: skip
            except httpx2.TransportError as error:
                if is_last:
                    raise wire.unreachable(error, retries_taken=retries) from error
                await asyncio.sleep(wire.wait_seconds(retries))
                continue
            if answered.status_code not in wire.RETRIED or is_last:
                return wire.answer_of(answered.status_code, answered.headers, answered.content, retries_taken=retries)
            await asyncio.sleep(wire.wait_seconds(retries, answered.headers))
        raise AssertionError("the last try answers or raises")
