"""`/api/stripe/webhook`: where Stripe says what happened. Answered at the door (`http.hot.door`); here it is described.

The answer is 200 as soon as the event is stored, whatever it means for the till: what failed is kept and shown, and
Stripe sending it again would not help. Only what could not be stored is answered with an error, so that Stripe does.
"""

from fastapi import APIRouter, Request

from tokentill.http.bodies import EventView
from tokentill.http.deps import TillDep
from tokentill.http.problems import problems
from tokentill.stripe.webhook import verify

router = APIRouter(prefix="/api/stripe", tags=["stripe"])

# Read by hand, so that nothing but the signature decides: FastAPI would answer 422 for their shape.
_DOCUMENTED = {
    "parameters": [
        {
            "name": "Stripe-Signature",
            "in": "header",
            "required": True,
            "schema": {"type": "string"},
            "description": "As Stripe computes it, at most 300 seconds from now.",
        }
    ],
    "requestBody": {
        "required": True,
        "description": "The event, byte for byte as Stripe signed it.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
}


@router.post(
    "/webhook", responses=problems(400, 408, 413, 500, 503), openapi_extra=_DOCUMENTED, summary="Receive a Stripe event"
)
async def receive_event(request: Request, till: TillDep) -> EventView:
    """The signature is checked on the raw body; the same event twice happens once."""
    secrets: tuple[str, ...] = request.app.state.webhook_secrets
    event = verify(await request.body(), request.headers.get("stripe-signature"), secrets=secrets, at=till.clock())
    return EventView.of(await till.submit_stripe_event(event))
