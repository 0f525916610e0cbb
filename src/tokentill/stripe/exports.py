"""Exports: Stripe's side of a comparison, read from the CSV files that its dashboard and its reports give.

The id in a row shows what it is: a payment (`ch_…`, `py_…`, `pi_…`), a refund (`re_…`, `pyr_…`), a dispute (`du_…`,
`dp_…`) or a balance transaction (`txn_…`) with the source that it is about. Columns may come in any order and under the
names that Stripe has given them over the years; amounts are decimals of whole units ("99.00", and "500" for yen).

Units: amounts become whole minor units. Times: as UTC, which is what the columns say.
"""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tokentill.core.ledger.reversals import DisputeStatus, RefundStatus
from tokentill.core.money import minor_units
from tokentill.core.stripe.comparison.reading import DISPUTE_STATUSES, PRODUCT_FIELDS, REFUND_STATUSES
from tokentill.core.stripe.comparison.sides import Told, ToldDispute, ToldPayment, ToldRefund
from tokentill.core.stripe.payloads import first_text
from tokentill.core.stripe.sales import USER_FIELDS
from tokentill.errors import MalformedBody

# How the columns that we read are called, after `_plain`.
_ID = ("id", "balance_transaction_id", "dispute_id", "refund_id", "charge_id", "source_id")
_CREATED = ("created_date", "created", "dispute_created", "disputed_on", "effective_at", "available_on")
_AMOUNT = ("amount", "disputed_amount", "dispute_amount", "customer_facing_amount", "gross")
_CURRENCY = ("currency", "dispute_currency", "customer_facing_currency")
_REFUNDED = ("amount_refunded",)
_STATUS = ("status", "dispute_status")
_NAMES = ("payment_intent_id", "paymentintent_id", "payment_intent", "charge_id", "charge", "charge_created_id",
          "payment_id", "invoice_id", "invoice", "checkout_session_id", "checkout_session")  # fmt: skip
_CUSTOMER = ("customer_id", "customer")

_PAYMENTS, _REFUNDS, _DISPUTES = ("ch", "py", "pi"), ("re", "pyr"), ("du", "dp")
_PAID = re.compile(r"paid|succeeded|(partially |partial )?refund|disput|charge ?back", re.IGNORECASE)

Row = Mapping[str, str]
One = TypeVar("One")


class Exports:
    """Stripe's side by exported files. Not complete: what is not in the files cannot be asked for."""

    is_complete = False

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        customer_id: str | None = None,
        on_progress: Callable[[str, int], None] = lambda what, count: None,
    ) -> None:
        self._found = _Found(customer_id)
        for path in paths:
            on_progress(path.name, 0)
            for count, (place, row) in enumerate(_rows(path), start=1):
                self._found.add(row, place)
                on_progress(path.name, count)
        if not self._found.kinds:
            named = ", ".join(map(str, paths))
            raise MalformedBody(f"{named}: there is no payment, refund or dispute in it to compare.")
        times = self._found.times
        # What the files tell of: the books are asked about that time, not about all that was ever paid.
        self.since = since or min(times, default=None)
        self.until = until or (_after(max(times)) if times else None)

    def listed(self) -> Told:
        """Return what the files tell, of the time asked for."""
        return self._found.told(self.since, self.until)

    def look_up(self, ids: Sequence[str]) -> Told:
        return Told()


class _Found:
    def __init__(self, customer_id: str | None) -> None:
        self._customer = customer_id
        self._payments: dict[str, ToldPayment] = {}
        self._refunds: dict[str, tuple[datetime, ToldRefund]] = {}
        self._disputes: dict[str, tuple[datetime, ToldDispute]] = {}
        self._moved: dict[str, int] = {}
        self.kinds: set[str] = set()
        self.times: list[datetime] = []

    def add(self, row: Row, place: str) -> None:
        """Read one row. Raises: MalformedBody, naming the place."""
        row_id = _required(row, _ID, place)
        kind = row_id.split("_", maxsplit=1)[0]
        if kind == "txn":
            self._add_transaction(row, place)
            return
        created = _moment(_required(row, _CREATED, place), place)
        names = _names(row)
        self.times.append(created)
        currency = _required(row, _CURRENCY, place).lower()
        cents = _cents(_required(row, _AMOUNT, place), currency, place)
        if kind in _PAYMENTS:
            self._add_payment(row, row_id, names, created, cents, currency, place)
        elif kind in _REFUNDS:
            status = REFUND_STATUSES.get((_value(row, _STATUS) or "succeeded").lower().replace(" ", "_"))
            self._add_refund(row_id, names, created, abs(cents), currency, status, place)
        elif kind in _DISPUTES:
            said = (_value(row, _STATUS) or "").lower().replace(" ", "_")
            self._add_dispute(row_id, names, created, abs(cents), currency, DISPUTE_STATUSES.get(said), place)
        else:
            raise MalformedBody(f"{place}: {row_id[:60]!r} is the id of no payment, refund, dispute or transaction.")

    def _add_payment(
        self, row: Row, row_id: str, names: frozenset[str], created: datetime, cents: int, currency: str, place: str
    ) -> None:
        self.kinds.add("payments")
        customer = _value(row, _CUSTOMER)
        if self._customer is not None and customer != self._customer:
            return
        status = _value(row, _STATUS) or ("paid" if (_value(row, ("captured",)) or "").lower() == "true" else "unknown")
        refunded = _value(row, _REFUNDED)
        metadata = _metadata(row)
        self._payments[row_id] = ToldPayment(
            payment_id=row_id,
            names=names | {row_id},
            amount_cents=cents,
            currency=currency,
            is_paid=bool(_PAID.match(status)) and (_value(row, ("captured",)) or "true").lower() != "false",
            status=status.lower(),
            created_at=created,
            refunded_cents=None if refunded is None else _cents(refunded, currency, place),
            customer_id=customer,
            user_id=first_text((metadata,), USER_FIELDS),
            product=first_text((metadata,), PRODUCT_FIELDS),
        )

    def _add_refund(
        self, row_id: str, names: frozenset[str], created: datetime, cents: int, currency: str,
        status: RefundStatus | None, place: str,
    ) -> None:  # fmt: skip
        self.kinds.add("refunds")
        if status is None:
            raise MalformedBody(f"{place}: the refund's status is none that Stripe has.")
        if not names:
            raise MalformedBody(f"{place}: the refund names neither its charge nor its payment intent.")
        refund = ToldRefund(refund_id=row_id, names=names, amount_cents=cents, currency=currency, status=status)
        self._refunds[row_id] = (created, refund)

    def _add_dispute(
        self, row_id: str, names: frozenset[str], created: datetime, cents: int, currency: str,
        status: DisputeStatus | None, place: str,
    ) -> None:  # fmt: skip
        self.kinds.add("disputes")
        if status is None:
            raise MalformedBody(f"{place}: the dispute's status is none that Stripe has.")
        if not names:
            raise MalformedBody(f"{place}: the dispute names neither its charge nor its payment intent.")
        dispute = ToldDispute(
            dispute_id=row_id, names=names, amount_cents=cents, currency=currency, status=status, moved_cents=None
        )
        self._disputes[row_id] = (created, dispute)

    def _add_transaction(self, row: Row, place: str) -> None:
        """A row of a balance report: it is about a charge or a refund; of a dispute it tells the money alone."""
        source = _value(row, ("source_id", "source"))
        category = (_value(row, ("reporting_category", "type")) or "").lower()
        if source is None or source.split("_", maxsplit=1)[0] not in (*_PAYMENTS, *_REFUNDS):
            return  # Payouts, fees and what disputes moved: their own export tells disputes.
        # In the currency that the buyer paid in, where the report says both.
        facing = _value(row, ("customer_facing_amount",)), _value(row, ("customer_facing_currency",))
        amount, currency = facing if all(facing) else (_value(row, _AMOUNT), _value(row, _CURRENCY))
        if amount is None or currency is None:
            raise MalformedBody(f"{place}: the transaction has no amount or no currency.")
        created, currency = _moment(_required(row, _CREATED, place), place), currency.lower()
        self.times.append(created)
        cents, names = _cents(amount, currency, place), _names(row)
        if source.startswith(("re_", "pyr_")):
            status: RefundStatus = "failed" if "failure" in category or cents > 0 else "succeeded"
            if names:
                self._add_refund(source, names, created, abs(cents), currency, status, place)
        elif cents > 0:
            paid = {**row, "id": source, "amount": amount, "currency": currency, "status": "paid"}
            self._add_payment(paid, source, names, created, cents, currency, place)

    def told(self, since: datetime | None, until: datetime | None) -> Told:
        def is_in(created: datetime) -> bool:
            return (since is None or created >= since) and (until is None or created < until)

        payments = tuple(one for one in self._payments.values() if is_in(one.created_at))
        return Told(
            payments=payments if "payments" in self.kinds else None,
            refunds=_within(self._refunds.values(), is_in) if "refunds" in self.kinds else None,
            disputes=_within(self._disputes.values(), is_in) if "disputes" in self.kinds else None,
        )


def _within(found: Iterable[tuple[datetime, One]], is_in: Callable[[datetime], bool]) -> tuple[One, ...]:
    return tuple(one for created, one in found if is_in(created))


# --- Reading CSV ---


def _rows(path: Path) -> Iterable[tuple[str, Row]]:
    """Yield the rows of a file by their column's plain names. Raises: MalformedBody."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            sample = lines.read(4096)
            lines.seek(0)
            first = sample.splitlines()[0] if sample.strip() else ""
            delimiter = max((",", ";", "\t"), key=first.count)
            reader = csv.reader(lines, delimiter=delimiter)
            columns = [_plain(column) for column in next(reader, [])]
            if not {"id", *_ID} & set(columns):
                raise MalformedBody(f"{path}: the first line names no column that Stripe's exports have.")
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield f"{path}:{reader.line_num}", dict(zip(columns, (cell.strip() for cell in row), strict=False))
    except UnicodeDecodeError:
        raise MalformedBody(f"{path}: this is not UTF-8.") from None
    except csv.Error as error:
        raise MalformedBody(f"{path}: this is no CSV: {error}.") from None
    except OSError as error:
        raise MalformedBody(f"{path}: {error.strerror or error}.") from None


def _plain(column: str) -> str:
    """A column's name as we know it: "Created date (UTC)" is "created_date", metadata keeps its key."""
    name = column.strip()
    if found := re.fullmatch(r"(.+?) \(metadata\)|(?:payment_)?metadata\[(.+)\]", name):
        return f"metadata:{found.group(1) or found.group(2)}"
    words = re.findall(r"[a-z0-9]+", name.lower().replace("(utc)", "").removesuffix("_utc"))
    return "_".join(words)


def _metadata(row: Row) -> dict[str, object]:
    return {
        name.removeprefix("metadata:"): value for name, value in row.items() if name.startswith("metadata:") and value
    }


def _names(row: Row) -> frozenset[str]:
    prefixes = ("pi_", "ch_", "py_", "in_", "cs_")
    return frozenset(row[name] for name in _NAMES if row.get(name, "").startswith(prefixes))


def _value(row: Row, names: Sequence[str]) -> str | None:
    return next((row[name] for name in names if row.get(name)), None)


def _required(row: Row, names: Sequence[str], place: str) -> str:
    value = _value(row, names)
    if value is None:
        raise MalformedBody(f"{place}: none of the columns {', '.join(names[:3])} … has a value.")
    return value


def _cents(text: str, currency: str, place: str) -> int:
    cents = minor_units(text, currency)
    if cents is None:
        raise MalformedBody(f"{place}: {text[:40]!r} is no amount in {currency[:10]}.")
    return cents


def _moment(text: str, place: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise MalformedBody(f"{place}: {text[:40]!r} is no time like 2026-01-31 18:00.") from None
    return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _after(moment: datetime) -> datetime:
    """The end of a half-open time that holds this moment: exports leave out its fraction, some its seconds."""
    return moment.replace(second=59, microsecond=999_999)
