"""Action edits: what people say of an AI action (JSON, options), checked, and what it would change.

An edit names what it changes; what it leaves out stays, and None empties a field. Nothing that was charged changes by
it, and no tokens are granted or taken.

    {"model": "gpt-5", "temperature": 0.7, "charge": "cost_plus", "markup": "1.5", "cents_per_million_tokens": 5000}
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from tokentill.core import checks
from tokentill.core.edits import Change
from tokentill.core.prices.actions import AiAction
from tokentill.errors import InvalidAmount, InvalidRequest, InvalidText

MODEL_LENGTH_MAX, PROVIDER_LENGTH_MAX = 255, 63
SYSTEM_PROMPT_BYTES_MAX = 100_000
TEMPERATURE_MAX = 2
FACTOR_MAX = Decimal(1_000_000)  # Of multipliers and markups.
CENTS_MAX = Decimal(10**12)
DECIMALS_MAX = 12
MODELS_MAX = 1_000

CHARGES = ("metered", "fixed", "cost_plus")
# In the order in which they are shown.
FIELDS = (
    "model", "provider", "temperature", "max_tokens", "system_prompt", "charge", "fixed_tokens", "multiplier",
    "model_multipliers", "markup", "cents_per_million_tokens", "is_active",
)  # fmt: skip
_ONLY_OF = {"fixed_tokens": "fixed", "markup": "cost_plus", "cents_per_million_tokens": "cost_plus"}

_KEY = re.compile(r"[a-z][a-z0-9_]{0,62}")
# What grants and deductions are called in the view that shows them beside usage: no call may be mistaken for one.
_TAKEN = frozenset(("admin_grant", "admin_deduct", "subscription_grant", "trial_grant", "token_pack_purchase"))


def read(key: str, raw: Mapping[str, object], before: AiAction | None) -> AiAction:
    """Return the action that an edit makes of the one before (None: of nothing; it is charged `metered` then).

    A charge of another kind drops the numbers of the old one. Raises: InvalidRequest, naming the field.
    """
    if before is None:
        _require_key(key)
    if unknown := sorted(map(str, raw.keys() - set(FIELDS))):
        raise InvalidRequest(
            f"An action has {', '.join(FIELDS)}; {unknown[0][:60]!r} is not known.", field=unknown[0][:60]
        )
    said: dict[str, Any] = {name: getattr(before, name) for name in FIELDS} if before else {}
    said |= {name: _READERS[name](raw[name]) for name in FIELDS if name in raw}
    charge = said.get("charge", "metered")
    for name, only_of in _ONLY_OF.items():
        if charge != only_of:
            if raw.get(name) is not None:
                raise InvalidRequest(f"{name} is for actions that are charged {only_of}, not {charge}.", field=name)
            said[name] = None
        elif said.get(name) is None:
            raise InvalidAmount(f"An action that is charged {only_of} needs {name}{_EXAMPLES[name]}.", field=name)
    return AiAction(key=key, **said)


def as_json(action: AiAction) -> dict[str, Any]:
    """Return the action's fields as JSON has them, exact numbers as texts. Read again, they change nothing."""
    found = {name: getattr(action, name) for name in FIELDS}
    for name in ("multiplier", "markup", "cents_per_million_tokens"):
        found[name] = None if found[name] is None else plain(found[name])
    return found | {"model_multipliers": {model: plain(each) for model, each in action.model_multipliers.items()}}


def changes(before: AiAction | None, after: AiAction) -> list[Change]:
    """Return what differs, field by field. A new action's fields were None; those that stay so are not among them."""
    old, what = as_json(before) if before else dict.fromkeys(FIELDS), f"action {after.key}"
    return [Change(what, name, old[name], value) for name, value in as_json(after).items() if old[name] != value]


def plain(number: Decimal) -> str:
    """Return a number as one writes it: 1000 and not 1E+3, 1.5 and not 1.50."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def factor(value: object, name: str, *, is_positive: bool = False, maximum: Decimal = FACTOR_MAX) -> Decimal:
    """Return an exact number: of an int, a text, a Decimal, or the float that is written so. Raises: InvalidAmount."""
    said = f"{name} must be a number {'above' if is_positive else 'from'} 0"
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise InvalidAmount(f"{said}, not {str(value)[:60]!r}.", field=name)
    text = str(value)
    try:
        number = checks.decimal_of(text) if len(text) <= 60 else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not 0 <= number <= maximum or (is_positive and number == 0):
        raise InvalidAmount(f"{said} to {maximum:,}, not {text[:60]!r}.", field=name)
    if number == 0:
        return Decimal(0)
    # Through its text, since arithmetic would round to the digits of a host's context.
    exact = Decimal(plain(number)) if number.adjusted() >= -DECIMALS_MAX else number
    if int(exact.as_tuple().exponent) < -DECIMALS_MAX:
        raise InvalidAmount(f"{name} has more than {DECIMALS_MAX} decimals: {text[:60]!r}.", field=name)
    return exact


def _require_key(key: object) -> None:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InvalidText("An action's key is of a-z, 0-9 and _, from a letter on, at most 63 characters.", field="key")
    if key in _TAKEN:
        raise InvalidText(f"{key!r} is what the journal calls tokens that were given or taken.", field="key")


def _text(value: object, name: str, length_max: int) -> str | None:
    return None if value is None else checks.text(value, name, length_max=length_max)


def _temperature(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= TEMPERATURE_MAX:
        raise InvalidAmount(
            f"temperature must be a number from 0 to {TEMPERATURE_MAX}, not {str(value)[:60]!r}.", field="temperature"
        )
    return float(value)


def _system_prompt(value: object) -> str | None:
    text = checks.text_or_none(value, "system_prompt", length_max=SYSTEM_PROMPT_BYTES_MAX)
    if text is not None and (size := len(text.encode())) > SYSTEM_PROMPT_BYTES_MAX:
        raise InvalidText(
            f"system_prompt has {size:,} bytes; at most {SYSTEM_PROMPT_BYTES_MAX:,} are kept.", field="system_prompt"
        )
    return text or None


def _charge(value: object) -> Literal["metered", "fixed", "cost_plus"]:
    if value not in CHARGES:
        raise InvalidRequest(f"charge is {', '.join(CHARGES[:-1])} or {CHARGES[-1]}.", field="charge")
    return value  # type: ignore[return-value]  # one of them


def _model_multipliers(value: object) -> dict[str, Decimal]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > MODELS_MAX:
        raise InvalidRequest(
            f"model_multipliers must be an object of at most {MODELS_MAX:,} models and their multipliers.",
            field="model_multipliers",
        )
    return {
        checks.text(model, "a model of model_multipliers", length_max=MODEL_LENGTH_MAX): factor(
            each, f"model_multipliers.{str(model)[:60]}"
        )
        for model, each in value.items()
    }


def _is_active(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest("is_active must be true or false.", field="is_active")
    return value


def _factor_or_none(value: object, name: str, maximum: Decimal = FACTOR_MAX) -> Decimal | None:
    return None if value is None else factor(value, name, is_positive=True, maximum=maximum)


_READERS = {
    "model": lambda value: _text(value, "model", MODEL_LENGTH_MAX),
    "provider": lambda value: _text(value, "provider", PROVIDER_LENGTH_MAX),
    "temperature": _temperature,
    "max_tokens": lambda value: checks.whole_or_none(value, "max_tokens", minimum=1),
    "system_prompt": _system_prompt,
    "charge": _charge,
    "fixed_tokens": lambda value: checks.whole_or_none(value, "fixed_tokens", minimum=1),
    "multiplier": lambda value: Decimal(1) if value is None else factor(value, "multiplier"),
    "model_multipliers": _model_multipliers,
    "markup": lambda value: _factor_or_none(value, "markup"),
    "cents_per_million_tokens": lambda value: _factor_or_none(value, "cents_per_million_tokens", CENTS_MAX),
    "is_active": _is_active,
}
_EXAMPLES = {
    "fixed_tokens": ", as many tokens as each call takes",
    "markup": ": 1.5 charges one and a half times what a call costs",
    "cents_per_million_tokens": ": 5000, say, where users pay $50 for a million tokens",
}
