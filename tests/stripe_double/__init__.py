"""A double of Stripe: its API over real HTTP on loopback, its objects, and the events that it sends.

    with StripeDouble(clock=clock) as stripe_double:
        client = stripe_double.client()              # the real `stripe` library, pointed at the double
        session = client.v1.checkout.sessions.create({...})
        stripe_double.pay(session.id)                # what a buyer does
        stripe_double.deliver(webhook_url, secret)   # what Stripe sends then

`world.py` has the objects and what happens to them, `server.py` speaks HTTP, `delivery.py` sends the events: twice,
late and in another order, as a seed says.
"""

from tests.stripe_double.delivery import Letter, deliver, mixed
from tests.stripe_double.double import StripeDouble
from tests.stripe_double.shapes import ANCIENT, NEW, OLD, render
from tests.stripe_double.world import StripeError, World

__all__ = ["ANCIENT", "NEW", "OLD", "Letter", "StripeDouble", "StripeError", "World", "deliver", "mixed", "render"]
