"""Selling in a test what no event of Stripe's says by itself: a sale with a doubt, or one that differs from another."""

from tokentill import Till
from tokentill.core.stripe.meanings import PackPaid
from tokentill.core.users import User
from tokentill.services.stripe import granting
from tokentill.store.inbox import InboxEvent


def sell_packs(till: Till, event: InboxEvent, user: User, sale: PackPaid) -> None:
    asked = granting.ask_packs(till.context, till.catalog, event, user, sale)
    granting.end_packs(till.context, sale, asked)
