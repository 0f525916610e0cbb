"""StripeDouble: the world and its server together, which is what tests hold."""

from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import stripe

from tests.stripe_double.delivery import Letter, deliver, mixed
from tests.stripe_double.server import Asked, Mood, Server
from tests.stripe_double.shapes import NEW, Object
from tests.stripe_double.world import Clock, World

API_KEY = "sk_test_double"


class StripeDouble(World):
    """A Stripe account that one test has to itself. Close it, or use `with`."""

    def __init__(
        self, *, clock: Clock, api_version: str = NEW, salt: str = "", names_payments: bool = False,
        livemode: bool = False, api_key: str = API_KEY,
    ) -> None:  # fmt: skip
        super().__init__(
            clock=clock, api_version=api_version, salt=salt, names_payments=names_payments, livemode=livemode
        )
        self.api_key = api_key
        self._server = Server(self, api_key)
        self._clients: list[stripe.HTTPClient] = []
        self._told = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for http in self._clients:
            http.close()  # type: ignore[no-untyped-call]  # the library's own
        self._server.close()

    @property
    def url(self) -> str:
        """The API base: TILL_STRIPE_API_BASE, or `base_addresses={"api": …}`."""
        return self._server.url

    @property
    def asked(self) -> list[Asked]:
        """Every request that arrived, oldest first."""
        return self._server.asked

    def client(self, *, timeout_seconds: float = 10, retries_max: int = 0, **options: Any) -> stripe.StripeClient:
        """The real library, pointed here."""
        http = stripe.RequestsClient(timeout=timeout_seconds)
        self._clients.append(http)
        return stripe.StripeClient(
            options.pop("api_key", self.api_key), base_addresses={"api": self.url}, http_client=http,
            max_network_retries=retries_max, **options,
        )  # fmt: skip

    def break_next(self, count: int, mood: Mood, *, path: str = "/") -> None:
        """Let the next `count` requests below `path` fail: see `Mood`."""
        with self.lock:
            self._server.moods.waiting += [(mood, path)] * count

    # --- Events ---

    def new_events(self) -> list[Object]:
        """The events since the last call, oldest first."""
        with self.lock:
            found, self._told = self.events[self._told :], len(self.events)
            return found

    def deliver(
        self, url: str, secret: str, *, at: datetime | None = None, events: Sequence[Object] | None = None,
        seed: int | None = None, copies_max: int = 3,
    ) -> list[Letter]:  # fmt: skip
        """Send what is new (or `events`) to a webhook: once and in order, or, with a seed, mixed and in copies."""
        chosen = list(self.new_events() if events is None else events)
        if seed is not None:
            chosen = mixed(chosen, seed=seed, copies_max=copies_max)
        return deliver(chosen, url, secret, at=at or self.clock())

    def hand(
        self, receive: Callable[[Object], object], *, events: Sequence[Object] | None = None, seed: int | None = None,
        copies_max: int = 3,
    ) -> list[object]:  # fmt: skip
        """The same without HTTP: hand each event to `receive` (`till.receive_stripe_event`)."""
        chosen = list(self.new_events() if events is None else events)
        if seed is not None:
            chosen = mixed(chosen, seed=seed, copies_max=copies_max)
        return [receive(event) for event in chosen]
