"""What the price book's routes take and answer. Prices are decimal text, in cents per million of the pool's unit."""

from datetime import time
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, StrictInt, StrictStr

from tokentill.core.prices.book import BookPrice
from tokentill.core.prices.names import BookModel
from tokentill.http.bodies import Body, Moment, UtcMoment


class StepBody(Body):
    above: StrictInt = Field(description="Holds for calls whose whole input is more than this; 0: for all.")
    price: StrictStr


def _text_or_steps(value: object) -> object:
    # Before the union: its own complaint would be two, one for each kind.
    if not isinstance(value, str | list | None):
        raise ValueError("must be a text like 250, a list of steps, or null")
    return value


Rates = dict[str, Annotated[StrictStr | list[StepBody] | None, BeforeValidator(_text_or_steps)]]
RATES = "Pool → cents per million, as text, or steps by the size of the whole input; null: has no price."


class ModelBody(Body):
    aliases: list[StrictStr] | None = Field(None, description="Other names that mean it; null: they stay.")
    is_active: StrictBool = Field(True, description="false: retired. Calls to it keep having a cost.")


class ModelView(BaseModel):
    provider: str
    model: str
    aliases: list[str]
    match: dict[str, Any] | None = Field(description="A rule for names that are not listed, in genai-prices' words.")
    is_active: bool
    source: str = Field(description="genai-prices, or own.")
    revision: int
    created_at: UtcMoment | None
    created_by: str

    @classmethod
    def of(cls, row: BookModel) -> "ModelView":
        return cls(
            provider=row.provider, model=row.model, aliases=list(row.aliases),
            match=None if row.match is None else dict(row.match), is_active=row.is_active, source=row.source,
            revision=row.revision, created_at=row.created_at, created_by=row.created_by,
        )  # fmt: skip


class ModelsView(BaseModel):
    revision: int = Field(description="Of the last edit of models, prices or actions.")
    models: list[ModelView]
    next_cursor: str | None


class PriceBody(Body):
    provider: StrictStr
    model: StrictStr
    prices: Rates | None = Field(description=RATES + " The whole null: withdraw the model's overrides in this tier.")
    effective_from: Moment | None = Field(None, description="null: since ever.")
    service_tier: StrictStr | None = Field(None, description="batch, flex, priority, …; null: the usual one.")
    note: StrictStr | None = None

    def rates(self) -> dict[str, Any]:
        return {
            pool: [step.model_dump() for step in rate] if isinstance(rate, list) else rate
            for pool, rate in (self.prices or {}).items()
        }


class PriceView(BaseModel):
    price_id: int
    provider: str
    model: str
    service_tier: str | None
    effective_from: UtcMoment | None
    daily_from: time | None = Field(description="Of each day, in UTC; null: all day.")
    daily_until: time | None
    prices: dict[str, Any] | None = Field(description=RATES)
    source: str = Field(description="genai-prices, or override.")
    note: str | None
    revision: int
    created_at: UtcMoment | None
    created_by: str

    @classmethod
    def of(cls, row: BookPrice) -> "PriceView":
        return cls(
            price_id=row.price_id, provider=row.provider, model=row.model, service_tier=row.service_tier,
            effective_from=row.effective_from, daily_from=row.daily_from, daily_until=row.daily_until,
            prices=None if row.prices is None else dict(row.prices), source=row.source, note=row.note,
            revision=row.revision, created_at=row.created_at, created_by=row.created_by,
        )  # fmt: skip


class PricesView(BaseModel):
    revision: int
    prices: list[PriceView]
    next_cursor: str | None
