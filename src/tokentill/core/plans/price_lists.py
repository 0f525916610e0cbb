"""Price lists: a catalog as people write it (TOML, JSON), checked, and what an edit would change.

A price list is the whole catalog. What it leaves out is retired, never removed: it may have been paid for a moment
ago, and subscriptions go on. Stripe's price ids need not be in it: those that are known stay known.

    {"trial": {"tokens": 1000000, "days": 56},
     "plans": {"monthly": {"name": "Monthly", "kind": "drip", "price_cents": 9900, "tokens": 375000}},
     "packs": {"power": {"name": "Power Pack", "price_cents": 9900, "tokens": 2000000}}}
"""

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from tokentill.core import checks
from tokentill.core.edits import Change
from tokentill.core.plans.catalog import Catalog, Offer, Pack, Plan
from tokentill.errors import InvalidCatalog, InvalidRequest

PRICE_CENTS_MAX = 99_999_999  # What Stripe charges at most.
TRIAL_DAYS_MAX = 36_500
CYCLES_MAX = 1_000
OFFERS_MAX = 1_000

_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_CURRENCY = re.compile(r"[a-z]{3}")

Kind = TypeVar("Kind", Plan, Pack)


def read(raw: Mapping[str, object], before: Catalog) -> Catalog:
    """Return the catalog that a price list makes of the one before. Raises: InvalidCatalog, naming what and where."""
    try:
        return _read(raw, before)
    except InvalidCatalog:
        raise
    except InvalidRequest as error:
        raise InvalidCatalog(error.detail) from None


def _read(raw: Mapping[str, object], before: Catalog) -> Catalog:
    if unknown := sorted(map(str, raw.keys() - {"trial", "plans", "packs"})):
        raise InvalidCatalog(f"A catalog has trial, plans and packs; {unknown[0][:60]!r} is not known.")
    trial = _table(raw.get("trial", {}), "trial")
    if unknown := sorted(map(str, trial.keys() - {"tokens", "days"})):
        raise InvalidCatalog(f"trial: {unknown[0][:60]!r} is not known; it has tokens and days.")
    listed = {name: _table(raw.get(name, {}), name) for name in ("plans", "packs")}
    # A price that the list gives to one offer leaves the one that had it.
    given = {key: _given_prices(entry, f"{name}.{key}") for name in listed for key, entry in listed[name].items()}
    taken = {price_id: key for key, price_ids in given.items() for price_id in price_ids}
    plans = {key: _offer(Plan, key, entry, before.plans.get(key), taken) for key, entry in listed["plans"].items()}
    packs = {key: _offer(Pack, key, entry, before.packs.get(key), taken) for key, entry in listed["packs"].items()}
    after = Catalog(
        plans=plans | {key: _retired(plan, taken) for key, plan in before.plans.items() if key not in plans},
        packs=packs | {key: _retired(pack, taken) for key, pack in before.packs.items() if key not in packs},
        trial_tokens=checks.whole(trial.get("tokens", before.trial_tokens), "trial.tokens"),
        trial_days=checks.whole(trial.get("days", before.trial_days), "trial.days", maximum=TRIAL_DAYS_MAX),
    )
    _require_coherent(after)
    return after


def as_json(catalog: Catalog) -> dict[str, object]:
    """Return the catalog as a price list, retired offers among the others. Read again, it changes nothing."""
    return {
        "trial": {"tokens": catalog.trial_tokens, "days": catalog.trial_days},
        "plans": {offer.key: _as_json(offer) for offer in catalog.offers() if isinstance(offer, Plan)},
        "packs": {offer.key: _as_json(offer) for offer in catalog.offers() if isinstance(offer, Pack)},
    }


def changes(before: Catalog, after: Catalog) -> list[Change]:
    """Return what differs, offer by offer; nothing for catalogs that say the same."""
    found = [
        Change("trial", name, getattr(before, f"trial_{name}"), getattr(after, f"trial_{name}"))
        for name in ("tokens", "days")
    ]
    for offer in after.offers():
        was = (before.plans if isinstance(offer, Plan) else before.packs).get(offer.key)
        old, what = _as_json(was) if was else {}, f"{'plan' if isinstance(offer, Plan) else 'pack'} {offer.key}"
        found += [Change(what, field, old.get(field), value) for field, value in _as_json(offer).items()]
    return [change for change in found if change.before != change.after]


def changed_offers(before: Catalog, after: Catalog) -> list[Offer]:
    """Return the offers that are new or differ, as they are to be."""
    known: dict[str, Offer] = {**before.plans, **before.packs}
    return [offer for offer in after.offers() if known.get(offer.key) != offer]


def with_price(catalog: Catalog, key: str, price_id: str) -> Catalog:
    """Return the catalog in which this Stripe price sells that offer from now on; other prices stay known."""
    if key in catalog.plans:
        return replace(catalog, plans={**catalog.plans, key: _priced(catalog.plans[key], price_id)})
    return replace(catalog, packs={**catalog.packs, key: _priced(catalog.packs[key], price_id)})


def _priced(offer: Kind, price_id: str) -> Kind:
    ids = offer.price_ids if price_id in offer.price_ids else (price_id, *offer.price_ids)
    return replace(offer, price_ids=ids, stripe_price_id=price_id)


def _as_json(offer: Offer) -> dict[str, Any]:
    found = {field.name: getattr(offer, field.name) for field in fields(offer) if field.name != "key"}
    return {**found, "price_ids": list(offer.price_ids)}


def _table(raw: object, name: str) -> Mapping[str, object]:
    if not isinstance(raw, Mapping):
        raise InvalidCatalog(f"{name} must be a table of names and values.")
    return raw


def _given_prices(entry: object, where: str) -> tuple[str, ...]:
    """Return the price ids that an entry of the list names, each once."""
    entry = _table(entry, where)
    price_ids, sells = entry.get("price_ids", ()), entry.get("stripe_price_id")
    if isinstance(price_ids, str) or not isinstance(price_ids, list | tuple):
        raise InvalidCatalog(f"{where}.price_ids must be a list of Stripe's price ids.")
    if len(price_ids) > 1000:
        raise InvalidCatalog(f"{where}.price_ids has over 1,000 entries.")
    named = [*([] if sells is None or sells in price_ids else [sells]), *price_ids]
    return tuple(dict.fromkeys(checks.text(each, f"{where}.price_ids", length_max=255) for each in named))


def _offer(
    kind: type[Kind], key: str, raw: object, before: Kind | None, taken: Mapping[str, str]
) -> Kind:  # fmt: skip
    where = f"{'plans' if kind is Plan else 'packs'}.{key}"
    entry = _table(raw, where)
    if not _KEY.fullmatch(key):
        raise InvalidCatalog(f"{where[:100]}: a key is of a-z, 0-9, _ and -, at most 63 characters.")
    known_fields = {field.name for field in fields(kind)} - {"key"}
    if unknown := sorted(map(str, entry.keys() - known_fields)):
        raise InvalidCatalog(f"{where}: {unknown[0][:60]!r} is not known; it has {', '.join(sorted(known_fields))}.")
    if missing := [name for name in ("name", "price_cents", "tokens") if entry.get(name) is None]:
        raise InvalidCatalog(f"{where}.{missing[0]} is missing.")
    values: dict[str, Any] = {
        "key": key,
        "name": checks.text(entry.get("name"), f"{where}.name", length_max=250),
        "price_cents": checks.whole(entry.get("price_cents"), f"{where}.price_cents", minimum=0,
                                    maximum=PRICE_CENTS_MAX),
        "currency": _currency(entry.get("currency", "usd"), where),
        "tokens": checks.whole(entry.get("tokens"), f"{where}.tokens"),
        "is_active": _flag(entry.get("is_active", True), f"{where}.is_active"),
    }  # fmt: skip
    if kind is Plan:
        values["kind"] = _rhythm(entry.get("kind"), before, where)
        values["rollover_cycles"] = checks.whole(
            entry.get("rollover_cycles", 3), f"{where}.rollover_cycles", minimum=0, maximum=CYCLES_MAX
        )
        cap = entry.get("rollover_cap_tokens")
        values["rollover_cap_tokens"] = checks.whole_or_none(cap, f"{where}.rollover_cap_tokens", minimum=1)
    offer = kind(**values)
    return replace(offer, **_prices(offer, entry, before, taken, where))


def _prices(
    offer: Offer, entry: Mapping[str, object], before: Offer | None, taken: Mapping[str, str], where: str
) -> dict[str, Any]:
    """Which Stripe prices name the offer, and which one sells it.

    What the list says, and what is known beside it: a price that sold the offer goes on naming it in renewals. The one
    that sells it does so only while it charges what the offer costs.
    """
    known = _kept(before, offer.key, taken) if before else ()
    price_ids = tuple(dict.fromkeys((*_given_prices(entry, where), *known)))
    sells = entry.get("stripe_price_id", before.stripe_price_id if before else None)
    if before is not None and sells == before.stripe_price_id and not _costs_the_same(before, offer):
        sells = None
    return {"price_ids": price_ids, "stripe_price_id": sells if sells in price_ids else None}


def _costs_the_same(before: Offer, after: Offer) -> bool:
    return (before.price_cents, before.currency) == (after.price_cents, after.currency)


def _kept(offer: Offer, key: str, taken: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(price_id for price_id in offer.price_ids if taken.get(price_id, key) == key)


def _retired(offer: Kind, taken: Mapping[str, str]) -> Kind:
    kept = _kept(offer, offer.key, taken)
    sells = offer.stripe_price_id if offer.stripe_price_id in kept else None
    return replace(offer, is_active=False, price_ids=kept, stripe_price_id=sells)


def _rhythm(kind: object, before: Offer | None, where: str) -> object:
    if kind not in ("annual", "drip"):
        raise InvalidCatalog(f"{where}.kind is 'annual' or 'drip'.")
    if isinstance(before, Plan) and before.kind != kind:
        # Its subscriptions' cycles are counted in 28 days or in years.
        raise InvalidCatalog(f"{where} is of kind {before.kind} and stays so: a plan of kind {kind} needs another key.")
    return kind


def _currency(value: object, where: str) -> str:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value.lower()):
        raise InvalidCatalog(f"{where}.currency must be three letters, like 'usd'.")
    return value.lower()


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidCatalog(f"{where} must be true or false.")
    return value


def _require_coherent(catalog: Catalog) -> None:
    if both := sorted(catalog.plans.keys() & catalog.packs.keys()):
        raise InvalidCatalog(f"{both[0]!r} is a plan and a pack: each needs a key of its own.")
    offers = catalog.offers()
    if len(offers) > OFFERS_MAX:
        raise InvalidCatalog(f"The catalog would have {len(offers):,} plans and packs; at most {OFFERS_MAX:,} fit.")
    owners: dict[str, str] = {}
    for offer in offers:
        for price_id in offer.price_ids:
            if owners.setdefault(price_id, offer.key) != offer.key:
                raise InvalidCatalog(f"The price {price_id} is named by {owners[price_id]} and by {offer.key}.")
