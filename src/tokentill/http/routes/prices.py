"""`/v1/ai/models` and `/v1/ai/prices`: what calls cost us, and editing that."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from tokentill.core.prices.book import tier_named
from tokentill.errors import InvalidRequest, PriceNotFound
from tokentill.http.auth import AdminOnly
from tokentill.http.bodies import Moment
from tokentill.http.deps import Actor, TillDep, cursor_of, page_of
from tokentill.http.problems import problems
from tokentill.http.routes.price_bodies import ModelBody, ModelsView, ModelView, PriceBody, PricesView, PriceView

router = APIRouter(prefix="/v1/ai", tags=["prices"], dependencies=[AdminOnly],
                   responses=problems(401, 408, 413, 422, 500, 503))  # fmt: skip

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(description="The next_cursor of the page before.")]


@router.get("/models", summary="The models that have prices")
def read_models(
    till: TillDep,
    provider: str | None = None,
    name: Annotated[str | None, Query(description="Only the model that this name means.", max_length=255)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ModelsView:
    """Whom each is sold by, and the names that mean it; the retired ones among them."""
    book = till.read_price_book()
    start = page_of(cursor) or 0
    if name is not None:
        found = book.find(provider, name)
        return ModelsView(revision=book.revision, models=[ModelView.of(found.model)] if found else [], next_cursor=None)
    seller = None if provider is None else book.names.seller(provider)
    rows = [row for key, row in sorted(book.models.items()) if seller in (None, row.provider)]
    page = rows[start : start + limit]
    goes_on = start + limit < len(rows)
    return ModelsView(
        revision=book.revision, models=[ModelView.of(row) for row in page],
        next_cursor=cursor_of(start + limit) if goes_on else None,
    )  # fmt: skip


@router.put(
    "/models/{provider}/{model:path}", responses=problems(400, 409), summary="Add, rename or retire a model"
)  # fmt: skip
def put_model(
    provider: str,
    model: Annotated[str, Path(description="As the provider names it; may have slashes.", max_length=255)],
    body: ModelBody,
    till: TillDep,
    actor: Actor = None,
) -> ModelView:
    """A model of your own, or other names for one. It has no price until it is given one. Touches no cost recorded."""
    row = till.put_model(
        provider, model, aliases=body.aliases, is_active=body.is_active, created_by=actor or "admin"
    )  # fmt: skip
    return ModelView.of(row)


@router.get("/prices", summary="Prices, newest first")
def read_prices(
    till: TillDep,
    provider: str | None = None,
    model: Annotated[str | None, Query(description="Only of the model that this name means.", max_length=255)] = None,
    service_tier: Annotated[str | None, Query(description="`default` is the usual one.", max_length=63)] = None,
    at: Annotated[Moment | None, Query(description="Only what is in force at this moment.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> PricesView:
    """Every row that was ever written: those that are not in force say what an earlier call was priced with."""
    book = till.read_price_book()
    before = page_of(cursor)
    if model is not None:
        found = book.find(provider, model)
        rows = book.prices_of(found.model.provider, found.model.model) if found else []
    else:
        seller = None if provider is None else book.names.seller(provider)
        rows = [row for row in book.rows() if seller in (None, row.provider)]
    if service_tier is not None:
        rows = [row for row in rows if row.service_tier == tier_named(service_tier)]
    if at is not None:
        rows = [row for row in rows if book.in_force(row.provider, row.model, row.service_tier, at=at) == row]
    rows = [row for row in sorted(rows, key=lambda row: -row.price_id) if before is None or row.price_id < before]
    page = rows[:limit]
    return PricesView(
        revision=book.revision, prices=[PriceView.of(row) for row in page],
        next_cursor=cursor_of(page[-1].price_id) if len(rows) > limit else None,
    )  # fmt: skip


@router.post("/prices", status_code=201, responses=problems(400, 404, 409), summary="Override or withdraw a price")
def set_price(body: PriceBody, till: TillDep, actor: Actor = None) -> PriceView:
    """Outranks what updates bring until it is withdrawn, with `prices` null. Repeated, it is written once."""
    who = actor or "admin"
    if body.prices is None:
        if body.effective_from is not None:
            raise InvalidRequest("A withdrawal holds at once and for all times.", field="effective_from")
        row = till.withdraw_price(body.provider, body.model, service_tier=body.service_tier, created_by=who)
    else:
        row = till.set_price(
            body.provider, body.model, body.rates(), effective_from=body.effective_from,
            service_tier=body.service_tier, note=body.note, created_by=who,
        )  # fmt: skip
    return PriceView.of(row)


@router.get("/prices/{price_id}", responses=problems(404), summary="One price")
def read_price(price_id: int, till: TillDep) -> PriceView:
    """As a usage row names it, in force or not."""
    row = till.read_price_book().by_id(price_id)
    if row is None:
        raise PriceNotFound(f"The price book has no price {price_id}.", price_id=price_id)
    return PriceView.of(row)
