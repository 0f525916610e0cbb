"""Comparing Stripe's money with our books, both ways: each difference is a finding, with both sides.

Stripe tells payments, refunds and disputes (`Told`, from its API or an exported file); the books hold what was written
of them, and the lots that they bought (`Booked`). One payment has several names on either side (its intent, its charge,
the invoice, the checkout, a cycle of a subscription): what shares a name, directly or through others, is one payment.

A payment that nobody here knows is a finding only if it is the till's: it names a user or something of the catalog,
its buyer is a customer that the till knows, or an event about it failed. What a host sells besides is counted, not
found; so is what the inbox has ignored because the catalog does not have it.

Units: `_cents` whole minor units of `currency`; `_tokens` whole tokens.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID

from tokentill.core.ledger.reversals import MoneyBack, Policies, Target, target
from tokentill.core.money import money
from tokentill.core.stripe.comparison.sides import (
    Booked,
    BookedDispute,
    BookedLot,
    BookedPayment,
    BookedRefund,
    StuckEvent,
    Told,
    ToldDispute,
    ToldPayment,
    ToldRefund,
)

CHECKS: dict[str, str] = {
    "not_granted": "paid in Stripe, and nothing was granted for it",
    "not_paid": "granted as paid, and Stripe has no such payment that succeeded",
    "amount": "Stripe and the books disagree about what was paid",
    "currency": "Stripe and the books disagree about the currency of a payment",
    "refund_unknown": "a refund in Stripe that the books do not have",
    "refund_missing": "a refund in the books that Stripe does not have",
    "refund_differs": "a refund whose amount, currency or status differs",
    "refunded": "Stripe and the books disagree about how much was refunded in all",
    "dispute_unknown": "a dispute in Stripe that the books do not have",
    "dispute_missing": "a dispute in the books that Stripe does not have",
    "dispute_differs": "a dispute whose amount, currency, status or moved money differs",
    "tokens": "the tokens taken back are not what the payment's refunds and disputes ask for",
    "event_failed": "an event about the payment is stored, but could not be acted on",
}


# --- Findings ---


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeFinding:
    """One difference between Stripe and the books."""

    check: str
    subject: str  # The payment, refund, dispute or event, by its id.
    user_id: UUID | None
    stripe: str
    books: str

    @property
    def meaning(self) -> str:
        return CHECKS[self.check]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was compared, and what differs."""

    counts: Mapping[str, int]
    findings: tuple[StripeFinding, ...]
    not_compared: tuple[str, ...] = ()  # What Stripe's side does not tell of at all: a file may be missing.

    @property
    def agrees(self) -> bool:
        return not self.findings


Aim = Callable[[int, int, int, MoneyBack, Policies], Target]


def compare(
    told: Told, booked: Booked, *, policies: Policies, is_complete: bool = True, aim: Aim = target
) -> Comparison:
    """Compare Stripe's side with the books, payment by payment.

    `is_complete`: whatever the books know was looked for in Stripe, so what is not told is not there. Otherwise only
    what falls into the compared time is expected.
    """
    counts = {"payments": 0, "refunds": 0, "disputes": 0, "not_ours": 0}
    findings: list[StripeFinding] = []
    not_compared = _untold(told)
    for one in _group(told, booked):
        if not one.is_ours(booked.customers):
            counts["not_ours"] += 1
            continue
        counts["payments"] += bool(one.told_payments or one.booked_payments or one.lots)
        refunds = {r.refund_id for r in one.told_refunds} | {r.refund_id for r in one.booked_refunds}
        disputes = {d.dispute_id for d in one.told_disputes} | {d.dispute_id for d in one.booked_disputes}
        counts["refunds"] += 0 if "refunds" in not_compared else len(refunds)
        counts["disputes"] += 0 if "disputes" in not_compared else len(disputes)
        if told.payments is not None:
            findings += one.compare_payment(is_complete=is_complete, customers=booked.customers)
        if told.refunds is not None:
            findings += one.compare_refunds(is_complete=is_complete)
        elif told.payments is not None:
            findings += one.compare_refunded()
        if told.disputes is not None:
            findings += one.compare_disputes(is_complete=is_complete)
        findings += one.compare_tokens(policies, aim)
        findings += one.failed_events()
    return Comparison(
        counts=counts,
        findings=tuple(sorted(findings, key=lambda found: (found.subject, found.check))),
        not_compared=not_compared,
    )


def _untold(told: Told) -> tuple[str, ...]:
    """What was not exported. A payment may say how much of it was refunded: that is compared as well."""
    has_refunds = told.refunds is not None or any(one.refunded_cents is not None for one in told.payments or ())
    is_told = {"payments": told.payments is not None, "refunds": has_refunds, "disputes": told.disputes is not None}
    return tuple(what for what, is_there in is_told.items() if not is_there)


@dataclass(slots=True)
class _Payment:
    """All that both sides know of one payment."""

    told_payments: list[ToldPayment] = field(default_factory=list)
    told_refunds: list[ToldRefund] = field(default_factory=list)
    told_disputes: list[ToldDispute] = field(default_factory=list)
    booked_payments: list[BookedPayment] = field(default_factory=list)
    booked_refunds: list[BookedRefund] = field(default_factory=list)
    booked_disputes: list[BookedDispute] = field(default_factory=list)
    lots: list[BookedLot] = field(default_factory=list)
    events: list[StuckEvent] = field(default_factory=list)

    # --- Whose it is ---

    @property
    def subject(self) -> str:
        ids = [one.payment_id for one in self.told_payments] + [one.payment_id for one in self.booked_payments]
        for names in (one.names for part in (self.lots, self.told_refunds, self.told_disputes) for one in part):
            ids += names
        return min(ids, key=lambda name: (not name.startswith("pi_"), name))

    @property
    def user_id(self) -> UUID | None:
        known = [lot.user_id for lot in self.lots] + [one.user_id for one in self.booked_payments]
        return next((user_id for user_id in known if user_id is not None), None)

    def is_ours(self, customers: Mapping[str, UUID]) -> bool:
        """Whether the till should know this payment."""
        if self.lots or self.booked_payments or self.booked_refunds or self.booked_disputes:
            return True
        if any(event.state == "failed" for event in self.events):
            return True
        if any(event.is_not_ours for event in self.events):
            return False
        return any(one.user_id or one.product or one.customer_id in customers for one in self.told_payments)

    def _found(self, check: str, subject: str, stripe: str, books: str) -> StripeFinding:
        return StripeFinding(check=check, subject=subject, user_id=self.user_id, stripe=stripe, books=books)

    # --- The payment itself ---

    def compare_payment(self, *, is_complete: bool, customers: Mapping[str, UUID]) -> Iterable[StripeFinding]:
        paid = [one for one in self.told_payments if one.is_paid and one.amount_cents > 0]
        granted = _granted(self.lots)
        if not self.lots:
            for one in paid:
                who = one.user_id or customers.get(one.customer_id or "") or one.customer_id or "an unknown user"
                what = f"{money(one.amount_cents, one.currency)} on {one.created_at:%Y-%m-%d} by {who}"
                yield self._found("not_granted", one.payment_id, what, "nothing granted")
            return
        if not paid:
            in_window = any(one.is_in_window for one in self.booked_payments) or not self.booked_payments
            if self._booked_cents() and (is_complete or in_window or self.told_payments):
                told = ", ".join(sorted(f"{one.payment_id} {one.status}" for one in self.told_payments))
                yield self._found("not_paid", self.subject, told or "no such payment", granted)
            return
        currencies = {one.currency for one in paid}
        booked_currencies = {one.currency for one in self.booked_payments} | {lot.currency for lot in self.lots}
        booked_currencies -= {None}
        if booked_currencies - currencies:
            yield self._found(
                "currency", self.subject, _words(currencies), _words(one for one in booked_currencies if one)
            )
            return
        total, currency = sum(one.amount_cents for one in paid), paid[0].currency
        of_lots = [] if self._buys_cycles() else [lot.paid_cents for lot in self.lots if lot.paid_cents is not None]
        amounts = [sum(of_lots)] if of_lots else []
        if len(paid) == 1:
            # A row for each name that an event knew it by; all tell the same payment.
            amounts += [one.amount_cents for one in self.booked_payments if one.amount_cents is not None]
        if wrong := sorted({cents for cents in amounts if cents != total}):
            books = " and ".join(money(cents, currency) for cents in wrong)
            yield self._found("amount", self.subject, money(total, currency), books)

    def _buys_cycles(self) -> bool:
        """Whether it bought cycles of a plan: of these some may come later, so lots do not tell what it was in all."""
        return any("#" in name for lot in self.lots for name in lot.names)

    def _booked_cents(self) -> int:
        of_lots = sum(lot.paid_cents or 0 for lot in self.lots)
        in_all = max((one.amount_cents or 0 for one in self.booked_payments), default=0)
        return in_all or of_lots if self._buys_cycles() else of_lots or in_all

    # --- Refunds ---

    def compare_refunds(self, *, is_complete: bool) -> Iterable[StripeFinding]:
        told = {one.refund_id: one for one in self.told_refunds}
        booked = {one.refund_id: one for one in self.booked_refunds}
        said = self._says_refunded()
        if not booked and said and said == _refunded(told.values()):
            return  # Old events tell the sum on the charge, and no refund of its own.
        for refund_id in sorted(told.keys() | booked.keys()):
            there, here = told.get(refund_id), booked.get(refund_id)
            if here is None:
                assert there is not None
                yield self._found("refund_unknown", refund_id, _refund_words(there), "not in the books")
            elif there is None:
                if is_complete or here.is_in_window:
                    yield self._found("refund_missing", refund_id, "no such refund", _refund_words(here))
            elif _refund_words(there) != _refund_words(here):
                yield self._found("refund_differs", refund_id, _refund_words(there), _refund_words(here))

    def compare_refunded(self) -> Iterable[StripeFinding]:
        """Where Stripe tells no refunds, but how much of each payment was refunded (what is on its way included)."""
        sums = [one.refunded_cents for one in self.told_payments if one.is_paid and one.refunded_cents is not None]
        if not sums:
            return
        booked = _refunded(self.booked_refunds) if self.booked_refunds else self._says_refunded()
        if sum(sums) != booked:
            currency = self.told_payments[0].currency
            yield self._found("refunded", self.subject, money(sum(sums), currency), money(booked, currency))

    def _says_refunded(self) -> int:
        return max((one.refunded_cents or 0 for one in self.booked_payments), default=0)

    # --- Disputes ---

    def compare_disputes(self, *, is_complete: bool) -> Iterable[StripeFinding]:
        told = {one.dispute_id: one for one in self.told_disputes}
        booked = {one.dispute_id: one for one in self.booked_disputes}
        for dispute_id in sorted(told.keys() | booked.keys()):
            there, here = told.get(dispute_id), booked.get(dispute_id)
            if here is None:
                assert there is not None
                words = _dispute_words(there, there.moved_cents)
                yield self._found("dispute_unknown", dispute_id, words, "not in the books")
                continue
            moved = here.withdrawn_cents - here.reinstated_cents
            if there is None:
                if is_complete or here.is_in_window:
                    words = _dispute_words(here, moved)
                    yield self._found("dispute_missing", dispute_id, "no such dispute", words)
                continue
            compared = None if there.moved_cents is None else moved
            sides = _dispute_words(there, there.moved_cents), _dispute_words(here, compared)
            if sides[0] != sides[1]:
                yield self._found("dispute_differs", dispute_id, *sides)

    # --- Tokens ---

    def compare_tokens(self, policies: Policies, aim: Aim) -> Iterable[StripeFinding]:
        """Whether the tokens followed what the books know of the money."""
        back = MoneyBack.of(
            [(one.amount_cents, one.status) for one in self.booked_refunds],
            [(one.status, one.withdrawn_cents, one.reinstated_cents) for one in self.booked_disputes],
            charge_refunded_cents=sum(one.refunded_cents or 0 for one in self.booked_payments),
        )
        for user_id in sorted({lot.user_id for lot in self.lots}):
            lots = [lot for lot in self.lots if lot.user_id == user_id]
            paid = sum(lot.paid_cents or 0 for lot in lots)
            in_all = max((one.amount_cents or 0 for one in self.booked_payments), default=0)
            paid = in_all or paid if self._buys_cycles() else max(paid, in_all)  # As a reversal has it.
            for lot in sorted(lots, key=lambda one: one.lot):
                unspent = min(max(lot.unspent_tokens, 0), lot.granted)
                wanted = aim(lot.granted, unspent, paid, back, policies)
                # What expired counts as gone: whether it was taken before or died by itself.
                at_least = max(wanted.from_lot_tokens - lot.expired_tokens, 0) + wanted.owed_tokens
                at_most = wanted.from_lot_tokens + wanted.owed_tokens
                if not at_least <= lot.posted_tokens <= at_most:
                    cents = back.refunded_cents + back.lost_cents + back.disputed_cents
                    asks = f"{at_most:,} tokens for {money(cents, lot.currency or '')} of its money"
                    yield StripeFinding(
                        check="tokens", subject=f"{self.subject} lot {lot.lot}", user_id=user_id, stripe=asks,
                        books=f"{lot.posted_tokens:,} tokens taken back",
                    )  # fmt: skip

    # --- Events ---

    def failed_events(self) -> Iterable[StripeFinding]:
        for event in self.events:
            if event.state == "failed":
                yield self._found("event_failed", event.event_id, event.type, event.detail)


# --- Grouping ---


def _group(told: Told, booked: Booked) -> list[_Payment]:
    """Put together what shares a name, directly or through others."""
    roots: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := roots.setdefault(name, name)) != name:
            roots[name] = roots[above]
            name = above
        return name

    def join(names: Iterable[str]) -> None:
        for first, second in pairwise(sorted(names)):
            roots[root(second)] = root(first)

    for one in (told.payments, told.refunds, told.disputes, booked.lots):
        for named in one or ():
            join(named.names)
    for names in (*told.links, *booked.links):
        join(names)

    found: dict[str, _Payment] = defaultdict(_Payment)
    for payment in told.payments or ():
        found[root(payment.payment_id)].told_payments.append(payment)
    for refund in told.refunds or ():
        found[root(min(refund.names))].told_refunds.append(refund)
    for dispute in told.disputes or ():
        found[root(min(dispute.names))].told_disputes.append(dispute)
    for booked_payment in booked.payments:
        found[root(booked_payment.payment_id)].booked_payments.append(booked_payment)
    for booked_refund in booked.refunds:
        found[root(booked_refund.payment_id)].booked_refunds.append(booked_refund)
    for booked_dispute in booked.disputes:
        found[root(booked_dispute.payment_id)].booked_disputes.append(booked_dispute)
    for lot in booked.lots:
        found[root(min(lot.names))].lots.append(lot)
    for event in booked.events:
        # An event may be about a payment that neither side tells of: then it is not about what is compared.
        for place in {root(name) for name in event.names} & found.keys():
            found[place].events.append(event)
    return list(found.values())


# --- Words ---


def _granted(lots: Sequence[BookedLot]) -> str:
    tokens = sum(lot.granted for lot in lots)
    cents = sum(lot.paid_cents or 0 for lot in lots)
    currency = next((lot.currency for lot in lots if lot.currency), None)
    return f"{tokens:,} tokens granted" + (f" for {money(cents, currency)}" if currency else "")


def _refunded(refunds: Iterable[ToldRefund | BookedRefund]) -> int:
    return sum(one.amount_cents for one in refunds if one.status in ("succeeded", "pending", "requires_action"))


def _refund_words(refund: ToldRefund | BookedRefund) -> str:
    return f"{money(refund.amount_cents, refund.currency)} {refund.status}"


def _dispute_words(dispute: ToldDispute | BookedDispute, moved_cents: int | None) -> str:
    moved = "" if moved_cents is None else f", {money(moved_cents, dispute.currency)} gone"
    return f"{money(dispute.amount_cents, dispute.currency)} {dispute.status}{moved}"


def _words(texts: Iterable[str]) -> str:
    return ", ".join(sorted(texts))
