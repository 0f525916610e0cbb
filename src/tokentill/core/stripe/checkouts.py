"""Checkouts: a buyer's way to Stripe and back, and what Stripe is asked to make it.

A checkout is an intention: it is written down, with all that Stripe will be asked, before Stripe is asked. Its id comes
of the user and the caller's idempotency key, and Stripe's idempotency key comes of its id, so that asking again (after
a crash, by another process) leads to one and the same session.

Nothing is granted here: the webhook grants when the session is paid.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from tokentill.core import checks
from tokentill.core.keys import KEY_LENGTH_MAX, canonical
from tokentill.core.plans.catalog import CYCLE, Offer, Pack, Plan
from tokentill.core.stripe.sales import PACK_FIELDS, USER_FIELDS
from tokentill.core.users import User, digest
from tokentill.errors import InvalidRequest, InvalidText

QUANTITY_MAX = 1_000
TRIAL_DAYS_MAX = 730  # Stripe's limits, here and below.
CLIENT_REFERENCE_LENGTH_MAX = 200
METADATA_KEYS_MAX = 40  # Of Stripe's 50: some are ours.
METADATA_KEY_LENGTH_MAX = 40
METADATA_VALUE_LENGTH_MAX = 500

_URL = re.compile(r"https?://[^\s\x00-\x1f]{1,2000}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
# What interpretation reads out of metadata: a caller's word there would say that something else was bought.
_RESERVED = {*PACK_FIELDS, *USER_FIELDS, "plan", "plan_key", "plan_id", "quantity", "tokens", "till_checkout"}

State = Literal["asked", "open", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A checkout as it stands. `url` is where the buyer pays, until `expires_at`."""

    user_id: UUID
    checkout_id: UUID
    request_hash: UUID
    offer_key: str
    quantity: int
    params: Mapping[str, Any]
    attempt: int = 1
    state: State = "asked"
    session_id: str | None = None
    url: str | None = None
    expires_at: datetime | None = None
    created_at: datetime
    is_replay: bool = False

    @property
    def stripe_key(self) -> str:
        """The idempotency key that Stripe is asked with. After a refusal another one: Stripe remembers those."""
        return f"till-checkout-{self.user_id}-{self.checkout_id}-{self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutAsked:
    """What a caller wants sold: one pack (several times), or one plan."""

    user: User
    pack: str | None = None
    plan: str | None = None
    quantity: int = 1
    success_url: str
    cancel_url: str | None = None
    email: str | None = None
    metadata: Mapping[str, str]
    trial_days: int | None = None
    allow_promotion_codes: bool = False

    @classmethod
    def of(
        cls,
        user: User,
        *,
        pack: str | None,
        plan: str | None,
        quantity: int,
        success_url: str,
        cancel_url: str | None,
        email: str | None,
        metadata: Mapping[str, str] | None,
        trial_days: int | None,
        allow_promotion_codes: bool,
    ) -> "CheckoutAsked":
        """Check what a caller asks. Raises: InvalidRequest."""
        if (pack is None) == (plan is None):
            raise InvalidRequest("A checkout sells one thing: name a pack or a plan.", field="pack")
        quantity = checks.whole(quantity, "quantity", maximum=QUANTITY_MAX)
        if plan is not None and quantity != 1:
            raise InvalidRequest("A plan is sold once: its quantity is 1.", field="quantity")
        if plan is None and trial_days is not None:
            raise InvalidRequest("Only a plan can begin with a trial.", field="trial_days")
        if email is not None and not _EMAIL.fullmatch(checks.text(email, "email", length_max=320)):
            raise InvalidText("email must be an e-mail address.", field="email")
        if not isinstance(allow_promotion_codes, bool):
            raise InvalidRequest("allow_promotion_codes must be true or false.", field="allow_promotion_codes")
        return cls(
            user=user,
            pack=checks.text_or_none(pack, "pack", length_max=255),
            plan=checks.text_or_none(plan, "plan", length_max=255),
            quantity=quantity,
            success_url=web_address(success_url, "success_url"),
            cancel_url=None if cancel_url is None else web_address(cancel_url, "cancel_url"),
            email=email,
            metadata=_metadata(metadata or {}),
            trial_days=None
            if trial_days is None
            else checks.whole(trial_days, "trial_days", maximum=TRIAL_DAYS_MAX),
            allow_promotion_codes=allow_promotion_codes,
        )  # fmt: skip

    @property
    def request_hash(self) -> UUID:
        """Equal for the same request again."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "user"}
        return UUID(bytes=digest(canonical({**fields, "metadata": dict(self.metadata)}).encode()))


def checkout_id_of(user: User, idempotency_key: str) -> UUID:
    """Return the id of the checkout that this user's key names. Raises: InvalidText."""
    if not isinstance(idempotency_key, str) or not 1 <= len(idempotency_key) <= KEY_LENGTH_MAX:
        raise InvalidText(f"An idempotency key is a text of 1 to {KEY_LENGTH_MAX} characters.")
    named = f"checkout\x1f{user.user_id}\x1f{idempotency_key}"
    return UUID(bytes=digest(named.encode("utf-8", "surrogatepass")))


def session_params(asked: CheckoutAsked, offer: Offer, *, checkout_id: UUID, customer_id: str | None) -> dict[str, Any]:
    """Return what Stripe is asked for: a Checkout Session that sells `offer` to this user.

    A known customer is charged as such. The session's metadata says whose it is and what was sold; a subscription's
    says it to all its invoices. A payment intent's says only whose it is: an intent that named its pack would grant it
    beside the session.
    """
    is_plan = isinstance(offer, Plan)
    ours = {"user_id": asked.user.name, "till_checkout": str(checkout_id)}
    sold = ours | {"plan_id" if is_plan else "pack_id": offer.key, "quantity": str(asked.quantity)}
    params: dict[str, Any] = {
        "mode": "subscription" if is_plan else "payment",
        "line_items": [{**_price(offer), "quantity": asked.quantity}],
        "success_url": asked.success_url,
        "metadata": {**asked.metadata, **sold},
    }
    if len(asked.user.name) <= CLIENT_REFERENCE_LENGTH_MAX:  # A longer one is in the metadata, which is read as well.
        params["client_reference_id"] = asked.user.name
    if asked.cancel_url is not None:
        params["cancel_url"] = asked.cancel_url
    if asked.allow_promotion_codes:
        params["allow_promotion_codes"] = True
    if customer_id is not None:
        params["customer"] = customer_id
    elif asked.email is not None:
        params["customer_email"] = asked.email
    if is_plan:
        params["subscription_data"] = {"metadata": {**asked.metadata, **sold}}
        if asked.trial_days is not None:
            params["subscription_data"]["trial_period_days"] = asked.trial_days
    else:
        params["payment_intent_data"] = {"metadata": ours}
        if customer_id is None:
            params["customer_creation"] = "always"  # Or nobody would know the buyer again, at the portal or next time.
    return params


def recurring_of(offer: Offer) -> dict[str, Any] | None:
    """Return the rhythm of a plan's price as Stripe puts it; None: paid once."""
    if isinstance(offer, Pack):
        return None
    return {"interval": "day", "interval_count": CYCLE.days} if offer.kind == "drip" else {"interval": "year"}


def web_address(value: object, name: str) -> str:
    """Return the address of a web page. Raises: InvalidText."""
    if not isinstance(value, str) or not _URL.fullmatch(value) or not checks.is_storable(value):
        raise InvalidText(f"{name} must be a web address like https://app.example/thanks.", field=name)
    return value


def _price(offer: Offer) -> dict[str, Any]:
    if offer.stripe_price_id is not None:
        return {"price": offer.stripe_price_id}
    priced: dict[str, Any] = {
        "currency": offer.currency,
        "unit_amount": offer.price_cents,
        "product_data": {"name": offer.name, "metadata": {"product_key": offer.key}},
    }
    recurring = recurring_of(offer)
    return {"price_data": priced | ({"recurring": recurring} if recurring else {})}


def _metadata(given: Mapping[str, str]) -> dict[str, str]:
    """Return a caller's metadata for Stripe. Raises: InvalidText."""
    if not isinstance(given, Mapping) or len(given) > METADATA_KEYS_MAX:
        raise InvalidText(f"metadata must be an object of at most {METADATA_KEYS_MAX} texts.", field="metadata")
    for name, value in given.items():
        if not isinstance(name, str) or not 1 <= len(name) <= METADATA_KEY_LENGTH_MAX or "[" in name or "]" in name:
            detail = f"A name in metadata has 1 to {METADATA_KEY_LENGTH_MAX} characters and no brackets."
            raise InvalidText(detail, field="metadata")
        if name.startswith("till_") or name in _RESERVED:
            raise InvalidText(f"metadata.{name} is for the till to set; take another name.", field="metadata")
        if not isinstance(value, str) or len(value) > METADATA_VALUE_LENGTH_MAX:
            detail = f"metadata.{name} must be a text of at most {METADATA_VALUE_LENGTH_MAX} characters."
            raise InvalidText(detail, field="metadata")
        if not (checks.is_storable(name) and checks.is_storable(value)):
            raise InvalidText("metadata holds a NUL or half of a surrogate pair.", field="metadata")
    return dict(given)


def creation_key(what: str, revision: int, params: Mapping[str, object]) -> str:
    """Return Stripe's idempotency key for making a product or a price, the same for the same one of one catalog."""
    return f"till-{what}-{revision}-{hashlib.sha256(canonical(params).encode()).hexdigest()[:32]}"
