"""Reading a call: what was said of it, checked, with a provider's response in the pools that it tells of.

The first step of a spend and of a capture. The order of checks is fixed: how much, what for (`services.calls.calling`
looks the action up), the rest.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from tokentill.core import calls, checks
from tokentill.core.calls import Call
from tokentill.core.usage.pools import POOLS, Pools
from tokentill.core.values import replace
from tokentill.errors import InvalidRequest, InvalidTime
from tokentill.services.calls.costing import read_response

AHEAD_MAX = timedelta(minutes=5)  # Clocks differ by so much.
_POOL_NAMES = frozenset(POOLS)


def read_counts(call: Call, *, is_captured: bool) -> dict[str, Any]:
    """Return what is said of a call, its counts checked. Raises: InvalidRequest."""
    said = call.said()
    if "response" in said:
        _read_response(said)
    if "pools" in said:
        said["pools"] = _counted(said["pools"])
        has_counts = "input_tokens" in said or "output_tokens" in said
        if not has_counts and (is_captured or "tokens" not in said):
            # Seconds, characters and images are no tokens: a call measured in those has no counts, rather than 0.
            used = Pools(**said["pools"])
            if used.input_tokens:
                said["input_tokens"] = used.input_tokens
            if used.output_tokens:
                said["output_tokens"] = used.output_tokens
    for name in calls.COUNTS:
        if name in said:
            checks.whole(said[name], name, minimum=0)
    return said


def read_rest(said: dict[str, Any], clock: Callable[[], datetime]) -> Call:
    """Return the call, the rest of it checked. Raises: InvalidRequest."""
    calls.check(said)
    if "occurred_at" in said and said["occurred_at"] > clock() + AHEAD_MAX:
        raise InvalidTime("occurred_at lies in the future.", field="occurred_at")
    return Call(**said)


def noted(call: Call) -> Call:
    """Return a call whose usage is a guess as it is recorded: marked, with the reason and the provider's own block.

    Raises: InvalidText when that block is too large.
    """
    kept = {**(call.metadata or {}), "usage_note": call.usage_note}
    if call.raw_usage is not None:
        kept["raw_usage"] = checks.metadata(call.raw_usage)
    return replace(call, estimated=True, metadata=kept)


def pools_of(call: Call) -> Pools:
    """Return what a call is priced by: its pools, else its counts. Raises: InvalidRequest."""
    return Pools(**call.pools) if call.pools else Pools.of_counts(call.input_tokens, call.output_tokens)


def _read_response(said: dict[str, Any]) -> None:
    """Put what a response tells in its place. What the caller says beside it counts more, and counts are not both's."""
    response = said.pop("response")
    provider = checks.text_or_none(said.get("provider"), "provider", length_max=calls.PROVIDER_LENGTH_MAX)
    if not said.keys().isdisjoint(("pools", "input_tokens", "output_tokens")):
        raise InvalidRequest("response stands instead of pools, input_tokens and output_tokens.", field="response")
    told = read_response(response, provider=provider)
    for name, value in (
        ("pools", told.pools), ("model_used", told.model), ("service_tier", told.service_tier),
        ("provider_request_id", told.request_id), ("usage_note", told.note), ("raw_usage", told.raw),
    ):  # fmt: skip
        if value is not None and not said.get(name):
            said[name] = value


def _counted(pools: Mapping[str, int]) -> dict[str, int]:
    """Return the pools that were used. Raises: InvalidRequest."""
    if type(pools) is dict and pools.keys() <= _POOL_NAMES:
        for count in pools.values():
            if type(count) is not int or not 0 < count <= checks.TOKENS_MAX:
                break
        else:
            return pools.copy()
    if not isinstance(pools, Mapping) or (unknown := sorted(map(str, set(pools) - _POOL_NAMES))):
        said = f"no pool {unknown[0][:60]!r}" if isinstance(pools, Mapping) else "pools must be an object"
        raise InvalidRequest(f"{said}; a call's usage is counted in {', '.join(POOLS)}.", field="pools")
    return Pools(**pools).as_json()
