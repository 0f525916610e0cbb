"""Subscriptions: how they stand, what comes of them, and what is ours to change about them."""

from tokentill.core import checks
from tokentill.core.plans.subscriptions import Subscription
from tokentill.core.users import User
from tokentill.services.calls.calling import Who
from tokentill.services.plans import previewing
from tokentill.services.plans.previewing import ComingCycle
from tokentill.services.stripe import following
from tokentill.till.base import Base


class Subscriptions(Base):
    """Shows subscriptions and steers those that are ours."""

    def pause_subscription(
        self, user: Who, subscription_id: str, *, actor: str = "library", reason: str | None = None
    ) -> Subscription:
        """Stop a subscription of our own clock: cycles that begin while it is paused are left out. Safe to repeat.

        What it gave lives on. One of Stripe's is paused in Stripe.

        Raises: SubscriptionNotFound, Conflict, InvalidRequest.
        """
        return self._steer(user, subscription_id, "pause", actor, reason)

    def resume_subscription(
        self, user: Who, subscription_id: str, *, actor: str = "library", reason: str | None = None
    ) -> Subscription:
        """Let a paused subscription go on with its next cycle. Safe to repeat. Raises as `pause_subscription` does."""
        return self._steer(user, subscription_id, "resume", actor, reason)

    def cancel_subscription(
        self, user: Who, subscription_id: str, *, actor: str = "library", reason: str | None = None
    ) -> Subscription:
        """End a subscription of our own clock for good; what it gave lives on. Safe to repeat.

        Raises as `pause_subscription` does.
        """
        return self._steer(user, subscription_id, "cancel", actor, reason)

    def subscriptions(self, user: Who) -> list[Subscription]:
        """Return a user's subscriptions as they stand, oldest first; of a stranger there are none."""
        return previewing.of_user(self.context, User.of(user))

    def find_subscription(self, user: Who, subscription_id: str) -> Subscription:
        """Return one subscription as it stands. Raises: SubscriptionNotFound, InvalidRequest."""
        checked_id = checks.text(subscription_id, "subscription_id", length_max=255)
        return previewing.of_user(self.context, User.of(user), checked_id)[0]

    def preview(self, user: Who, subscription_id: str | None = None, *, cycles: int = 3) -> list[ComingCycle]:
        """Return the coming cycles of one subscription, or of all, as they will be if nothing is spent until then.

        Made by the functions that will give them. Changes nothing. Raises: SubscriptionNotFound, InvalidRequest.
        """
        who, cycles = User.of(user), checks.whole(cycles, "cycles", maximum=1000)
        if subscription_id is not None:
            subscription_id = checks.text(subscription_id, "subscription_id", length_max=255)
        return previewing.preview(self.context, who, subscription_id, cycles=cycles, at=self.clock())

    def _steer(
        self, user: Who, subscription_id: str, act: following.Act, actor: str, reason: str | None
    ) -> Subscription:
        who, checked_id = User.of(user), checks.text(subscription_id, "subscription_id", length_max=255)
        actor, reason = checks.text(actor, "actor", length_max=255), checks.text_or_none(reason, "reason")
        return following.steer(self.context, who, checked_id, act, actor=actor, reason=reason)
