"""`/v1/payments/…`: how a payment stands, and what refunding it would take back. Reads only."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from tokentill.http.auth import AdminOnly
from tokentill.http.deps import TillDep
from tokentill.http.problems import problems
from tokentill.services.stripe.reversing import PaymentReport, Preview

router = APIRouter(
    prefix="/v1/payments/{payment_id}", tags=["payments"], dependencies=[AdminOnly],
    responses=problems(401, 404, 408, 413, 422, 500, 503),
)  # fmt: skip


class ReversedLotView(BaseModel):
    """A lot that the payment bought, and what was taken back of it so far."""

    lot: int
    kind: str
    granted: int
    taken_tokens: int = Field(description="From the lot itself.")
    owed_tokens: int = Field(description="Taken from other lots, or owed.")
    forgiven_tokens: int


class PaymentView(BaseModel):
    """How a payment stands."""

    payment_id: str
    names: list[str] = Field(description="All the names it is known by, as Stripe has them.")
    user_id: str
    paid_cents: int
    currency: str | None
    refunded_cents: int
    lost_cents: int = Field(description="Withdrawn by disputes that are decided, less what came back.")
    disputed_cents: int = Field(description="The same of disputes that are open.")
    is_settled: bool = Field(description="Whether the tokens have followed the money.")
    lots: list[ReversedLotView]

    @classmethod
    def of(cls, report: PaymentReport) -> "PaymentView":
        return cls.model_validate(report.told())


class RefundPreviewView(BaseModel):
    """What a refund would do. Nothing was changed, here or in Stripe."""

    payment_id: str
    user_id: str
    amount_cents: int
    currency: str | None
    paid_cents: int
    refunded_cents: int = Field(description="So far.")
    from_lots_tokens: int = Field(description="Unspent tokens of the payment that would go.")
    owed_tokens: int = Field(description="Spent ones that would be taken from other lots, or owed.")
    forgiven_tokens: int
    balance_before: int
    balance_after: int
    sentence: str

    @classmethod
    def of(cls, preview: Preview) -> "RefundPreviewView":
        return cls.model_validate(preview.told())


@router.get("", summary="How a payment stands")
def read_payment(payment_id: str, till: TillDep) -> PaymentView:
    """By any of its names: a payment intent, a charge, an invoice or a checkout session."""
    return PaymentView.of(till.payment(payment_id))


@router.get("/refund-preview", summary="What a refund would take back")
def preview_refund(
    payment_id: str,
    till: TillDep,
    amount_cents: Annotated[int, Query(ge=1, description="How much more would be refunded, in whole cents.")],
) -> RefundPreviewView:
    """Asks the very function that will take it. Changes nothing, here or in Stripe."""
    return RefundPreviewView.of(till.preview_refund(payment_id, amount_cents))
