"""The money side: the catalog, selling through Stripe, payments and what moves back of them."""

from collections.abc import Callable, Mapping
from datetime import datetime

from tokentill.core import checks
from tokentill.core.plans.catalog import Catalog
from tokentill.core.stripe.checkouts import Checkout, CheckoutAsked
from tokentill.core.stripe.comparison.compare import Comparison
from tokentill.core.stripe.comparison.sides import StripeSide
from tokentill.core.users import User
from tokentill.services.calls.calling import Who
from tokentill.services.plans import cataloguing
from tokentill.services.plans.cataloguing import Edit
from tokentill.services.stripe import comparing, reversing, selling
from tokentill.services.stripe.reversing import PaymentReport, Preview
from tokentill.services.stripe.selling import Step
from tokentill.till.base import Base


class Money(Base):
    """Sells, and follows the money."""

    def read_catalog(self) -> tuple[int, Catalog]:
        """Return the database's catalog and its revision, which `edit_catalog` takes."""
        return cataloguing.read_catalog(self.context)

    def edit_catalog(
        self, price_list: Mapping[str, object], *, created_by: str, revision: int | None = None, dry_run: bool = False
    ) -> Edit:
        """Make a price list (`core.plans.price_lists`) the database's catalog. What it leaves out is retired.

        Touches nothing that was granted. Safe to repeat. With `revision`, only an edit of that one.

        Raises: InvalidCatalog, Conflict when the catalog is at another revision.
        """
        actor = checks.text(created_by, "created_by", length_max=255)
        return cataloguing.edit(self.context, price_list, actor=actor, revision=revision, is_dry_run=dry_run)

    def checkout(
        self,
        user: Who,
        *,
        pack: str | None = None,
        plan: str | None = None,
        quantity: int = 1,
        success_url: str,
        cancel_url: str | None = None,
        email: str | None = None,
        metadata: Mapping[str, str] | None = None,
        trial_days: int | None = None,
        allow_promotion_codes: bool = False,
        idempotency_key: str | None = None,
    ) -> Checkout:
        """Return a checkout for a pack or a plan: send the buyer to its `url`. The webhook grants when it is paid.

        With the same key and the same request it is one and the same session, however often it is asked for.

        Raises: UnknownPack, UnknownPlan, InvalidRequest, IdempotencyConflict, SwitchedOff, StripeRefused,
        StripeUnavailable.
        """
        asked = CheckoutAsked.of(
            User.of(user), pack=pack, plan=plan, quantity=quantity, success_url=success_url, cancel_url=cancel_url,
            email=email, metadata=metadata, trial_days=trial_days, allow_promotion_codes=allow_promotion_codes,
        )  # fmt: skip
        return selling.open_checkout(self.context, self.stripe, asked, idempotency_key)

    def portal(self, user: Who, *, return_url: str) -> str:
        """Return the address of Stripe's billing portal for this user, good for some minutes.

        Raises: CustomerNotFound, InvalidRequest, SwitchedOff, StripeRefused, StripeUnavailable.
        """
        return selling.open_portal(self.context, self.stripe, User.of(user), return_url)

    def sync_catalog(
        self, *, created_by: str, dry_run: bool = False, on_step: Callable[[Step], None] = lambda step: None
    ) -> list[Step]:
        """Find or make a product and a price in Stripe for all that is on sale, and note them. Safe to repeat.

        Raises: SwitchedOff, StripeRefused, StripeUnavailable, Conflict.
        """
        actor = checks.text(created_by, "created_by", length_max=255)
        return selling.sync_catalog(self.context, self.stripe, actor=actor, is_dry_run=dry_run, on_step=on_step)

    def settle_money(self) -> int:
        """Let the books follow the money of every payment that is ahead of them; return how many there were.

        Mostly there are none: an event of a refund or dispute does it at once. Safe to repeat; the worker does.

        Raises: StripeUnavailable when Stripe has to be asked and does not answer; what could be settled is.
        """
        return reversing.settle_due(self.context)

    def preview_refund(self, payment_id: str, amount_cents: int) -> Preview:
        """Say what refunding `amount_cents` more of a payment would take back. Changes nothing.

        `payment_id` is any name of the payment: its intent, charge, invoice or checkout session.

        Raises: PaymentNotFound, InvalidAmount.
        """
        named = checks.text(payment_id, "payment_id", length_max=255)
        cents = checks.whole(amount_cents, "amount_cents")
        return reversing.preview_refund(self.context, named, cents, at=self.clock())

    def payment(self, payment_id: str) -> PaymentReport:
        """Say how a payment stands, by any of its names: what was paid, what moved back, what became of its tokens.

        Raises: PaymentNotFound.
        """
        return reversing.report(self.context, checks.text(payment_id, "payment_id", length_max=255))

    def reconcile_with_stripe(
        self,
        side: StripeSide,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        customer_id: str | None = None,
        on_progress: Callable[[str], None] = lambda step: None,
    ) -> Comparison:
        """Compare the payments of [since, until), their refunds and disputes with Stripe's, both ways. Changes nothing.

        `side` is where Stripe's side comes from: `tokentill.stripe.listing.Listing` asks its API,
        `tokentill.stripe.exports.Exports` reads its files. Raises: what `side` raises.
        """
        return comparing.compare(
            self.context, side, since=since, until=until, customer_id=customer_id, on_progress=on_progress
        )
