"""What a member buys at Stripe in a story, what becomes of that money, and what Stripe tells of it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.stripe_double import World
from tokentill.core.plans.catalog import EXAMPLE

Event = dict[str, Any]


class AtStripe:
    """One member's payments, by the names that the story gives them. Stripe tells of each act at once, or later."""

    def __init__(self, member: str, clock: Callable[[], datetime]) -> None:
        self._member = member
        self._world = World(clock=clock)
        self._sessions: dict[str, str] = {}
        self._refunds: dict[str, str] = {}
        self._disputes: dict[str, str] = {}
        self._kept_back: list[Event] = []

    def news(self) -> list[Event]:
        """Return what Stripe tells, oldest first, and was not asked for yet."""
        told, self._world.events = self._world.events, []
        return told

    def keep_back(self) -> None:
        """Let what Stripe would tell now come later, with `late_news`."""
        self._kept_back += self.news()

    def late_news(self) -> list[Event]:
        late, self._kept_back = self._kept_back, []
        return late

    def payment(self, name: str) -> str:
        """Return the checkout by which this was paid: one of the payment's names."""
        return self._sessions[name]

    def buy(self, name: str, what: str, count: int = 1) -> None:
        if what in EXAMPLE.packs:
            pack = EXAMPLE.packs[what]
            self._pay(name, "payment", self._price(pack.price_cents, {"pack": what}), count, {"pack": what})
        else:
            plan = EXAMPLE.only_plan("drip")
            rhythm = {"interval": "day", "interval_count": 28}
            price = self._price(plan.price_cents, {"plan": plan.key}, recurring=rhythm)
            self._pay(name, "subscription", price, count, {})

    def _price(self, cents: int, metadata: dict[str, str], **more: Any) -> str:
        product = {"name": "Tokens", "metadata": metadata}
        made = self._world.make_price({"product_data": product, "unit_amount": cents, "currency": "usd", **more})
        return str(made["id"])

    def _pay(self, name: str, mode: str, price: str, count: int, metadata: dict[str, str]) -> None:
        session = self._world.make_session({
            "mode": mode, "success_url": "https://app.example.com", "client_reference_id": self._member,
            "line_items": [{"price": price, "quantity": count}], "metadata": metadata,
        })  # fmt: skip
        self._world.pay(session["id"])
        self._sessions[name] = session["id"]

    def refund(self, name: str, cents: int | None, *, is_pending: bool) -> None:
        made = self._world.refund(self._sessions[name], cents, status="pending" if is_pending else "succeeded")
        self._refunds[name] = made["id"]

    def end_refund(self, name: str, *, arrives: bool) -> None:
        """The payment's last refund arrives at last, or comes back."""
        end = self._world.settle_refund if arrives else self._world.fail_refund
        end(self._refunds[name])

    def dispute(self, name: str, cents: int | None) -> None:
        self._disputes[name] = self._world.dispute(self._sessions[name], cents)["id"]

    def end_dispute(self, name: str, *, is_won: bool) -> None:
        self._world.close_dispute(self._disputes[name], "won" if is_won else "lost")
