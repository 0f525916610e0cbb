"""Money as people read and write it, and as Stripe and the till count it: whole minor units of a currency."""

import re
from decimal import Decimal

from tokentill.core.checks import ungrouped

# Stripe counts these in whole units: https://docs.stripe.com/currencies#zero-decimal
ZERO_DECIMAL = re.compile("bif|clp|djf|gnf|jpy|kmf|krw|mga|pyg|rwf|ugx|vnd|vuv|xaf|xof|xpf")
THREE_DECIMAL = re.compile("bhd|jod|kwd|omr|tnd")


def digits_of(currency: str) -> int:
    """Return how many digits of an amount in this currency (lower case) come after its point."""
    return 0 if ZERO_DECIMAL.fullmatch(currency) else 3 if THREE_DECIMAL.fullmatch(currency) else 2


def money(cents: int, currency: str) -> str:
    """Return an amount as one reads it: "$99.00", "9,900 JPY", "99.00 EUR"."""
    digits = digits_of(currency)
    if digits == 0:
        return f"{cents:,} {currency.upper()}"
    sign, whole = "-" if cents < 0 else "", abs(cents)
    amount = f"{whole // 10**digits:,}.{whole % 10**digits:0{digits}}"
    return f"{sign}${amount}" if currency == "usd" else f"{sign}{amount} {currency.upper()}".rstrip()


def minor_units(text: str, currency: str) -> int | None:
    """Return a decimal amount ("1,234.50") in minor units; None: it is no amount, or finer than the currency.

    "1,50" is none: its comma separates no thousands.
    """
    number = ungrouped(text.strip())
    if number is None:
        return None
    amount = Decimal(number) * 10 ** digits_of(currency)
    return int(amount) if amount == amount.to_integral_value() else None
