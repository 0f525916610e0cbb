"""What the selling and catalog routes take and answer. What is in range is the till's to say (`plans.price_lists`)."""

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, Field, StrictBool, StrictInt, StrictStr

from tokentill.core.plans.catalog import Catalog
from tokentill.core.plans.price_lists import as_json
from tokentill.core.stripe.checkouts import Checkout
from tokentill.http.bodies import Body, UtcMoment


class CheckoutBody(Body):
    user_id: StrictStr = Field(validation_alias=AliasChoices("user_id", "userId"))
    pack: StrictStr | None = Field(None, description="A pack of the catalog, or else:")
    plan: StrictStr | None = Field(None, description="a plan of the catalog.")
    quantity: StrictInt = Field(1, description="How many packs.")
    success_url: StrictStr = Field(description="Where the buyer comes back to after paying.")
    cancel_url: StrictStr | None = Field(None, description="Where the buyer comes back to without paying.")
    email: StrictStr | None = Field(None, description="Filled in for a buyer whom Stripe does not know yet.")
    metadata: dict[str, StrictStr] | None = Field(None, description="Yours; kept on the session and the subscription.")
    trial_days: StrictInt | None = Field(None, description="A plan begins with a trial of so many days.")
    allow_promotion_codes: StrictBool = False


class CheckoutView(BaseModel):
    """Where the buyer can pay, and until when."""

    checkout_id: str
    session_id: str
    url: str
    expires_at: UtcMoment | None

    @classmethod
    def of(cls, checkout: Checkout) -> "CheckoutView":
        assert checkout.session_id is not None and checkout.url is not None, checkout
        return cls(
            checkout_id=str(checkout.checkout_id),
            session_id=checkout.session_id,
            url=checkout.url,
            expires_at=checkout.expires_at,
        )


class PortalBody(Body):
    user_id: StrictStr = Field(validation_alias=AliasChoices("user_id", "userId"))
    return_url: StrictStr = Field(description="Where the portal leads back to.")


class PortalView(BaseModel):
    url: str


class TrialBody(Body):
    tokens: StrictInt
    days: StrictInt


class PackBody(Body):
    name: StrictStr
    price_cents: StrictInt
    currency: StrictStr = "usd"
    tokens: StrictInt
    price_ids: list[StrictStr] = Field([], description="Stripe prices that name it; known ones stay known.")
    stripe_price_id: StrictStr | None = Field(None, description="The one that sells it; null: none does.")
    is_active: StrictBool = Field(True, description="false: retired, not sold any more.")


class PlanBody(PackBody):
    kind: Literal["annual", "drip"] = Field(description="All tokens for a year at once, or some every 28 days.")
    rollover_cycles: StrictInt = Field(3, description="How many cycles after its own a drip stays spendable.")
    rollover_cap_tokens: StrictInt | None = None


class CatalogBody(Body):
    revision: StrictInt | None = Field(
        None, description="The one that was edited: 409 when it is not in force any more."
    )
    trial: TrialBody | None = None
    plans: dict[str, PlanBody]
    packs: dict[str, PackBody]

    def as_price_list(self) -> dict[str, Any]:
        return self.model_dump(exclude={"revision"}, exclude_unset=True, exclude_none=False) | (
            {"trial": self.trial.model_dump()} if self.trial else {"trial": {}}
        )


class CatalogView(BaseModel):
    """The whole catalog. Sent back unchanged, it changes nothing."""

    revision: int
    trial: TrialBody
    plans: dict[str, PlanBody]
    packs: dict[str, PackBody]

    @classmethod
    def of(cls, revision: int, catalog: Catalog) -> "CatalogView":
        return cls.model_validate({"revision": revision, **as_json(catalog)})
