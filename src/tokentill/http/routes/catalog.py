"""`/v1/catalog`: what is sold, and editing it."""

from fastapi import APIRouter

from tokentill.http.auth import AdminOnly
from tokentill.http.deps import Actor, TillDep
from tokentill.http.problems import problems
from tokentill.http.routes.selling_bodies import CatalogBody, CatalogView

router = APIRouter(prefix="/v1/catalog", tags=["catalog"], dependencies=[AdminOnly])


@router.get("", responses=problems(401, 408, 413, 500, 503), summary="The catalog in force")
def read_catalog(till: TillDep) -> CatalogView:
    """Plans and packs, the retired ones among them, and the trial."""
    return CatalogView.of(*till.read_catalog())


@router.put("", responses=problems(400, 401, 408, 409, 413, 422, 500, 503), summary="Replace the catalog")
def replace_catalog(body: CatalogBody, till: TillDep, actor: Actor = None) -> CatalogView:
    """What the body leaves out is retired. Touches nothing that was granted; put again, it changes nothing."""
    edit = till.edit_catalog(body.as_price_list(), created_by=actor or "admin", revision=body.revision)
    return CatalogView.of(edit.revision, edit.catalog)
