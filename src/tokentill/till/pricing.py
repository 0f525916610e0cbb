"""The price book: what calls cost us."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from tokentill.core import checks
from tokentill.core.prices.book import BookPrice, PriceBook
from tokentill.core.prices.changes import Differences
from tokentill.core.prices.names import BookModel
from tokentill.services.calls import price_book, repricing
from tokentill.services.calls.price_book import MAX_CHANGE_PERCENT, Checkup
from tokentill.services.calls.repricing import Repriced
from tokentill.till.base import Base


class Pricing(Base):
    """Says what calls cost, and edits that. An edit changes no cost that was recorded, grants and takes nothing."""

    def read_price_book(self) -> PriceBook:
        """Return the price book as it is now; other processes' edits count. Raises: DatabaseUnavailable."""
        return self.rates.read().book

    def set_price(
        self,
        provider: str,
        model: str,
        prices: Mapping[str, object],
        *,
        created_by: str,
        effective_from: datetime | None = None,
        service_tier: str | None = None,
        note: str | None = None,
    ) -> BookPrice:
        """Override what a model costs: `{"input_uncached": "250", "output_text": "1000"}`, in cents per million.

        Pools that are left out have no price, but for those that another stands in for (`core.prices.book.STANDS_IN`).
        Holds from `effective_from` on (None: since ever) and over updates, until withdrawn. Safe to repeat.

        Raises: ModelNotFound, InvalidAmount, InvalidTime, InvalidText, Conflict.
        """
        edited = price_book.set_price(
            self.context, self.read_price_book(), provider=provider, model=model, rates=prices,
            actor=checks.text(created_by, "created_by", length_max=255), effective_from=effective_from,
            service_tier=service_tier, note=note,
        )  # fmt: skip
        self.rates.read()  # It counts for the next call.
        return edited

    def withdraw_price(
        self, provider: str, model: str, *, created_by: str, service_tier: str | None = None
    ) -> BookPrice:  # fmt: skip
        """End the overrides of a model in a tier. Raises: ModelNotFound, PriceNotFound, Conflict."""
        edited = price_book.withdraw_price(
            self.context, self.read_price_book(), provider=provider, model=model, service_tier=service_tier,
            actor=checks.text(created_by, "created_by", length_max=255),
        )  # fmt: skip
        self.rates.read()  # It counts for the next call.
        return edited

    def put_model(
        self,
        provider: str,
        model: str,
        *,
        created_by: str,
        aliases: Sequence[str] | None = None,
        is_active: bool = True,
    ) -> BookModel:
        """Add a model, say which other names mean it, or retire it. Safe to repeat. Raises: InvalidText, Conflict."""
        edited = price_book.put_model(
            self.context, self.read_price_book(), provider=provider, model=model, aliases=aliases, is_active=is_active,
            actor=checks.text(created_by, "created_by", length_max=255),
        )  # fmt: skip
        self.rates.read()  # It counts for the next call.
        return edited

    def price_differences(self) -> Differences:
        """Return what the installed genai-prices says otherwise than the book. Changes nothing."""
        return price_book.differences(self.context, self.read_price_book())

    def update_prices(
        self, found: Differences, *, created_by: str, max_change_percent: Decimal = MAX_CHANGE_PERCENT,
        force: bool = False,
    ) -> int:  # fmt: skip
        """Write the differences that `price_differences` found; return the revision. Overrides stay in force.

        Raises: PriceChangeTooLarge unless forced; Conflict.
        """
        edited = price_book.update(
            self.context, self.read_price_book(), found, max_change_percent=max_change_percent, is_forced=force,
            actor=checks.text(created_by, "created_by", length_max=255),
        )  # fmt: skip
        self.rates.read()  # It counts for the next call.
        return edited

    def check_prices(self, *, days: int = 30, older_than_days: int = 180) -> Checkup:
        """Say what recent calls lacked in the book, and which of its prices are old. Changes nothing."""
        return price_book.check(self.context, self.read_price_book(), days=days, older_than_days=older_than_days)

    def reprice(
        self,
        since: datetime,
        *,
        until: datetime | None = None,
        model: str | None = None,
        action_type: str | None = None,
        charges: bool = False,
        is_dry_run: bool = False,
        created_by: str,
    ) -> list[Repriced]:
        """Correct what calls of [since, until) cost, where the price book says otherwise now; `until` None: now.

        `model` and `action_type` as they were recorded. With `charges`, the tokens of actions that charge by cost
        (`cost_plus`) follow: more are taken, even into debt; fewer come back as a grant. A dry run writes nothing and
        says the same. Safe to repeat.

        Raises: InvalidTime, InvalidText.
        """
        since = checks.moment(since, "from")
        until = checks.moment_or_none(until, "until")
        actor = checks.text(created_by, "created_by", length_max=255)
        return repricing.reprice(
            self.context, self.rates.read(), since=since, until=until, model=model, action_type=action_type,
            charges=charges, is_dry_run=is_dry_run, actor=actor,
        )  # fmt: skip
