"""What is sold: plans and packs, for how much, for how many tokens, and how long those live.

`EXAMPLE` is the catalog the till starts with. A `Catalog` is a value: the services pass the one in force to
whoever decides, so an edit changes what is sold next and touches nothing that was granted before. What is no longer
sold stays in the catalog, retired: somebody may have paid for it a moment ago, or still subscribe to it.

Units: `_tokens` whole tokens; `_cents` whole minor units of `currency` (lower case ISO 4217).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from tokentill.errors import UnknownPack, UnknownPlan

# 28 days of exactly 86,400 seconds: a calendar interval would shift with daylight saving.
CYCLE = timedelta(seconds=2_419_200)
YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A subscription. `drip` plans give `tokens` every 28-day cycle, `annual` ones all at once."""

    key: str
    name: str
    kind: Literal["annual", "drip"]
    price_cents: int
    currency: str = "usd"
    tokens: int
    rollover_cycles: int = 3  # How many cycles after its own a drip stays spendable.
    rollover_cap_tokens: int | None = None  # None: no cap.
    price_ids: tuple[str, ...] = ()  # Stripe prices that sell this plan, or did: renewals still name them.
    stripe_price_id: str | None = None  # The one that charges what this says; None: a checkout says it itself.
    is_active: bool = True  # False: retired. Not sold any more; what was sold goes on.

    @property
    def cycle(self) -> timedelta:
        return CYCLE if self.kind == "drip" else YEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Tokens paid for once. They live for ever."""

    key: str
    name: str
    price_cents: int
    currency: str = "usd"
    tokens: int
    price_ids: tuple[str, ...] = ()
    stripe_price_id: str | None = None
    is_active: bool = True


Offer = Plan | Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The plans and packs in force, the retired ones among them."""

    plans: Mapping[str, Plan] = field(default_factory=dict)
    packs: Mapping[str, Pack] = field(default_factory=dict)
    trial_tokens: int = 1_000_000
    trial_days: int = 56

    def plan(self, key: str) -> Plan:
        """Return the plan of that key. Raises: UnknownPlan."""
        if key not in self.plans:
            raise UnknownPlan(f"No plan {_shown(key)}; the catalog has {_listed(self.plans)}.", plan=key[:100])
        return self.plans[key]

    def pack(self, key: str) -> Pack:
        """Return the pack of that key. Raises: UnknownPack."""
        if key not in self.packs:
            raise UnknownPack(f"No pack {_shown(key)}; the catalog has {_listed(self.packs)}.", pack=key[:100])
        return self.packs[key]

    def plan_for_sale(self, key: str) -> Plan:
        """Return a plan that is sold today. Raises: UnknownPlan, also when it is retired."""
        plan = self.plan(key)
        if not plan.is_active:
            raise UnknownPlan(f"The plan {_shown(key)} is not sold any more.", plan=key)
        return plan

    def pack_for_sale(self, key: str) -> Pack:
        """Return a pack that is sold today. Raises: UnknownPack, also when it is retired."""
        pack = self.pack(key)
        if not pack.is_active:
            raise UnknownPack(f"The pack {_shown(key)} is not sold any more.", pack=key)
        return pack

    def offers(self) -> list[Offer]:
        """Return all plans and packs, the retired ones among them: plans first, then by price and key."""
        found: list[Offer] = [*self.plans.values(), *self.packs.values()]
        return sorted(found, key=lambda offer: (isinstance(offer, Pack), offer.price_cents, offer.key))

    def only_plan(self, kind: Literal["annual", "drip"]) -> Plan:
        """Return the one plan of this kind that is sold. Raises: UnknownPlan when there is none, or more than one."""
        plans = [plan for plan in self.plans.values() if plan.kind == kind and plan.is_active]
        if len(plans) != 1:
            raise UnknownPlan(f"The catalog has {len(plans)} {kind} plans; name the one you mean.", kind=kind)
        return plans[0]


def _shown(key: str) -> str:
    return repr(key if len(key) <= 100 else f"{key[:99]}…")


def _listed(offers: Mapping[str, Plan] | Mapping[str, Pack]) -> str:
    return ", ".join(sorted(key for key, offer in offers.items() if offer.is_active)) or "none"


EXAMPLE = Catalog(
    plans={
        plan.key: plan
        for plan in (
            Plan(
                key="vision_pro_annual",
                name="Vision Pro Annual",
                kind="annual",
                price_cents=99_900,
                tokens=5_000_000,
            ),
            Plan(
                key="vision_pro_28day",
                name="Vision Pro 28-Day",
                kind="drip",
                price_cents=9_900,
                tokens=375_000,
            ),
        )
    },
    packs={
        pack.key: pack
        for pack in (
            Pack(key="power", name="Power Pack", price_cents=9_900, tokens=2_000_000),
            Pack(key="mega", name="Mega Pack", price_cents=19_900, tokens=5_000_000),
            Pack(key="ultra", name="Ultra Pack", price_cents=39_900, tokens=12_000_000),
        )
    },
)
