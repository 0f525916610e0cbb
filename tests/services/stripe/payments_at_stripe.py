"""One member's money at Stripe, at random: what buyers and banks do, what Stripe tells of it, and the closed form.

A history is a seed's: packs (several of a kind, several kinds in a cart), payments of an app of its own, subscriptions
with their invoices; refunds that arrive at once, later or never; disputes that are inquiries first, won, lost, turned
again. Its events come in several API versions.

Nothing of `core.ledger.reversals` is used here but its names of policies: what is sold, and what should be gone of it,
is said again, from Stripe's own objects.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

from tests.conftest import Clock
from tests.stripe_double import ANCIENT, NEW, OLD, World
from tokentill.core.ledger.reversals import Policies

Object = dict[str, Any]

PACKS = {"power": (9_900, 2_000_000), "mega": (19_900, 5_000_000), "ultra": (39_900, 12_000_000)}
CYCLE_CENTS, CYCLE_TOKENS = 9_900, 375_000


@dataclass(frozen=True, slots=True)
class Bought:
    """What one payment bought."""

    charge_id: str
    lots: tuple[int, ...]  # Tokens, in the order of the cart.


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """How one payment stands in Stripe."""

    paid: int
    refunded: int
    lost: int
    in_dispute: int

    def share(self, granted: int, cents: int) -> int:
        part = Fraction(max(0, min(cents, self.paid)), self.paid) if self.paid else Fraction(0)
        return ceil(granted * part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What should be gone of a lot, by the closed form."""

    in_all: int
    from_lot: int
    owed: int

    @classmethod
    def of(cls, granted: int, spent: int, money: Money, policies: Policies) -> "Gone":
        in_all = money.share(granted, money.refunded + money.lost + money.in_dispute)
        from_lot = min(in_all, granted - spent)
        left = in_all - from_lot
        by_lost = min(left, money.share(granted, money.lost))
        by_all_disputes = money.share(granted, money.lost + money.in_dispute)
        undecided = min(left - by_lost, by_all_disputes - money.share(granted, money.lost))
        by_refunds = left - by_lost - undecided
        owed = by_lost * (policies.dispute == "debt") + by_refunds * (policies.refund == "debt")
        return cls(in_all=in_all, from_lot=from_lot, owed=owed)


@dataclass(slots=True)
class History:
    """One member at Stripe: acts of buyers and banks, and the events that tell of them."""

    chance: random.Random
    clock: Clock
    name: str
    world: World = field(init=False)
    bought: list[Bought] = field(default_factory=list)
    _prices: dict[str, str] = field(default_factory=dict)
    _carts: dict[str, Object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World(clock=self.clock, salt=f"{self.name}x")
        for pack, (cents, _) in PACKS.items():
            self._prices[pack] = self._price(cents, {"pack": pack})
        rhythm = {"interval": "day", "interval_count": 28}
        self._prices["plan"] = self._price(CYCLE_CENTS, {"plan": "vision_pro_28day"}, recurring=rhythm)
        self.world.events.clear()

    def _price(self, cents: int, metadata: Mapping[str, str], **more: Any) -> str:
        product = {"name": "Tokens", "metadata": metadata}
        price = self.world.make_price(
            {"product_data": product, "unit_amount": cents, "currency": "usd", "metadata": metadata, **more}
        )
        return str(price["id"])

    # --- What buyers do ---

    def _lapse(self, minutes_max: int = 90) -> None:
        """Some time passes, or none: much of what belongs together has the same second in Stripe."""
        self.clock.advance(minutes=self.chance.choice((0, self.chance.randint(0, minutes_max))))
        self.world.api_version = self.chance.choice((ANCIENT, OLD, NEW))

    def buy_something(self) -> None:
        self._lapse()
        self.chance.choice((self.buy_packs, self.buy_packs, self.buy_by_intent, self.subscribe))()

    def buy_packs(self) -> None:
        """A checkout: paid at once, after a card was declined, or by a bank that takes its time or says no."""
        chance = self.chance
        kinds = chance.sample(list(PACKS), chance.choice((1, 1, 2, 3)))
        cart = [(kind, chance.randint(1, 3)) for kind in kinds]
        metadata = {"pack": kinds[0]} if len(kinds) == 1 else {}
        reference = chance.choice((self.name, None))
        if reference is None:
            metadata["user_id"] = self.name
        session = self.world.make_session({
            "mode": "payment", "success_url": "https://app.example.com",
            "line_items": [{"price": self._prices[kind], "quantity": count} for kind, count in cart],
            "client_reference_id": reference, "metadata": metadata,
        })  # fmt: skip
        self._carts[session["id"]] = session
        discount = chance.choice((0, 0, chance.randint(1, session["amount_subtotal"] - 100)))
        is_paid = True
        match chance.randint(0, 3):
            case 0:
                self.world.pay_async(session["id"], discount_cents=discount)
                self._lapse()
                is_paid = chance.random() < 0.8
                self.world.settle_async(session["id"], succeeded=is_paid)
            case 1:
                self.world.fail(session["id"])
                self._lapse()
                self.world.pay(session["id"], discount_cents=discount)
            case _:
                self.world.pay(session["id"], discount_cents=discount)
        if is_paid:
            lots = tuple(PACKS[kind][1] * count for kind, count in cart)
            self.bought.append(Bought(self.world.charge_of(session["id"])["id"], lots))

    def buy_by_intent(self) -> None:
        kind, count = self.chance.choice(list(PACKS)), self.chance.randint(1, 3)
        cents, tokens = PACKS[kind]
        intent = self.world.pay_intent(cents * count, metadata={"pack": kind, "user_id": self.name})
        self.bought.append(Bought(self.world.charge_of(intent["id"])["id"], (tokens * count,)))

    def subscribe(self) -> None:
        """A checkout of a subscription and up to two renewals, of which a card may be declined at first."""
        told = {"subscription_data": {"metadata": {"user_id": self.name}}} if self.chance.random() < 0.7 else {}
        session = self.world.make_session({
            "mode": "subscription", "success_url": "https://app.example.com", "client_reference_id": self.name,
            "line_items": [{"price": self._prices["plan"], "quantity": 1}], **told,
        })  # fmt: skip
        self.world.pay(session["id"])
        self.bought.append(Bought(self.world.charge_of(session["id"])["id"], (CYCLE_TOKENS,)))
        for _ in range(self.chance.randint(0, 2)):
            item = self.world.objects[session["subscription"]]["items"]["data"][0]
            self.clock.advance(seconds=item["current_period_end"] - self.world.now())
            is_paid = self.chance.random() < 0.7
            invoice = self.world.renew(session["subscription"], paid=is_paid)
            if not is_paid:
                self._lapse()
                self.world.pay_invoice(invoice["id"])
            self.bought.append(Bought(self.world.charge_of(invoice["id"])["id"], (CYCLE_TOKENS,)))

    # --- What happens to the money ---

    def move_money(self, *, decides_all: bool) -> None:
        """Some refunds and disputes of each payment. `decides_all`: no dispute is open at the end."""
        for bought in self.bought:
            charge = self.world.objects[bought.charge_id]
            for _ in range(self.chance.choice((0, 1, 1, 2, 3))):
                self._lapse()
                self.chance.choice((self._refund, self._refund, self._dispute))(charge, decides_all)

    def _refund(self, charge: Object, decides_all: bool) -> None:
        left = charge["amount_captured"] - charge["amount_refunded"]
        if left == 0:
            return
        amount = self.chance.choice((left, self.chance.randint(1, left)))
        status = self.chance.choice(("succeeded", "succeeded", "pending", "requires_action"))
        refund = self.world.refund(charge["id"], amount, status=status)  # type: ignore[arg-type]
        self._lapse()
        if status == "succeeded":
            if self.chance.random() < 0.3:
                self.world.fail_refund(refund["id"])
            return
        match self.chance.randint(0, 4):
            case 0:
                self.world.settle_refund(refund["id"])
            case 1:
                self.world.fail_refund(refund["id"])
            case 2:
                self.world.cancel_refund(refund["id"])
            case 3:
                self.world.settle_refund(refund["id"])
                self._lapse()
                self.world.fail_refund(refund["id"])
            case _:
                pass  # It stays pending.

    def _dispute(self, charge: Object, decides_all: bool) -> None:
        world, chance = self.world, self.chance
        amount = chance.choice((charge["amount"], chance.randint(1, charge["amount"])))
        is_inquiry = chance.random() < 0.3
        dispute_id = str(world.dispute(charge["id"], amount, inquiry=is_inquiry)["id"])
        self._lapse()
        if chance.random() < 0.5:
            world.answer_dispute(dispute_id)
        if is_inquiry:
            if chance.random() < 0.5:
                world.close_dispute(dispute_id, "warning_closed")
                return
            self._lapse()
            world.escalate_dispute(dispute_id)
        if not decides_all and chance.random() < 0.3:
            return
        self._lapse()
        end = chance.choice(("won", "lost", "lost"))
        world.close_dispute(dispute_id, end)  # type: ignore[arg-type]
        if end == "lost" and chance.random() < 0.3:
            self._lapse()
            dispute = world.objects[dispute_id]
            # The bank turns, and gives some or all of it back.
            world._move(dispute, chance.choice((amount, chance.randint(1, amount))))
            world._emit("charge.dispute.funds_reinstated", dispute)

    # --- What is told of it ---

    def events(self) -> list[Object]:
        """What has been told since the last call. A cart of several kinds shows its lines: the app asks for them."""
        told, self.world.events = self.world.events, []
        for event in told:
            shown = event["data"]["object"]
            if (cart := self._carts.get(shown["id"])) and len(cart["line_items"]["data"]) > 1:
                shown["line_items"] = self.world.shown(cart["line_items"], event["api_version"])
        return told

    def letters(self, events: Sequence[Object]) -> list[Object]:
        """Each event once or more, some again under another id, in any order."""
        copies = [event for event in events for _ in range(self.chance.choice((1, 1, 1, 2, 3)))]
        again = [{**event, "id": f"{event['id']}_again"} for event in events if self.chance.random() < 0.2]
        letters = copies + again
        self.chance.shuffle(letters)
        return letters

    # --- The closed form ---

    def money(self, charge_id: str) -> Money:
        charge = self.world.objects[charge_id]
        refunds = [one for one in self.world.of_kind("refund") if one["charge"] == charge_id]
        disputes = [one for one in self.world.of_kind("dispute") if one["charge"] == charge_id]
        lost = in_dispute = 0
        for dispute in disputes:
            net = -sum(one["amount"] for one in dispute["balance_transactions"])
            if dispute["status"] in ("needs_response", "under_review"):
                in_dispute += net
            else:
                lost += net
        refunded = sum(one["amount"] for one in refunds if one["status"] == "succeeded")
        return Money(paid=charge["amount"], refunded=refunded, lost=lost, in_dispute=in_dispute)

    @property
    def has_open_dispute(self) -> bool:
        return any(one["status"] in ("needs_response", "under_review") for one in self.world.of_kind("dispute"))
