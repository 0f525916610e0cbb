"""Reading a call: what was said of it, checked, with a provider's response in the pools that it tells of.

The first step of a spend and of a capture. The order of checks is fixed: how much, what for (`services.calls.calling`
looks the action up), the rest.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from tokentill.core import calls, checks
from tokentill.core.calls import Call
from tokentill.core.usage.pools import POOLS, Pools
from tokentill.errors import InvalidRequest, InvalidTime
from tokentill.services.calls.costing import read_response

AHEAD_MAX = timedelta(minutes=5)  # Clocks differ by so much.
_POOL_NAMES = frozenset(POOLS)


def read_counts(call: Call, *, is_captured: bool) -> tuple[Call, dict[str, Any]]:
    """Return a call with its response read, and the changes that its counts make to it. Raises: InvalidRequest."""
    if call.response is not None:
        call = _with_response(call)
    changes: dict[str, Any] = {}
    tokens, given, made = call.tokens, call.input_tokens, call.output_tokens
    if call.pools is not None:
        changes["pools"] = counted = _counted(call.pools)
        if given is None and made is None and (is_captured or tokens is None):
            # Seconds, characters and images are no tokens: a call measured in those has no counts, rather than 0.
            used = Pools(**counted)
            changes["input_tokens"] = used.input_tokens or None
            changes["output_tokens"] = used.output_tokens or None
    if tokens is not None:
        checks.whole(tokens, "tokens", minimum=0)
    if given is not None:
        checks.whole(given, "input_tokens", minimum=0)
    if made is not None:
        checks.whole(made, "output_tokens", minimum=0)
    return call, changes


def read_rest(call: Call, changes: dict[str, Any], clock: Callable[[], datetime]) -> Call:
    """Return the call with these changes, the rest of it checked. Raises: InvalidRequest."""
    calls.check(call, changes)
    read = replace(call, **changes) if changes else call
    if read.occurred_at is not None and read.occurred_at > clock() + AHEAD_MAX:
        raise InvalidTime("occurred_at lies in the future.", field="occurred_at")
    return read


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


def _with_response(call: Call) -> Call:
    """Return a call with what its response tells. What the caller says beside it counts more; counts are not both's."""
    provider = checks.text_or_none(call.provider, "provider", length_max=calls.PROVIDER_LENGTH_MAX)
    if any(count is not None for count in (call.pools, call.input_tokens, call.output_tokens)):
        raise InvalidRequest("response stands instead of pools, input_tokens and output_tokens.", field="response")
    assert call.response is not None
    told = read_response(call.response, provider=provider)
    return replace(
        call, response=None, pools=told.pools, model_used=call.model_used or told.model,
        service_tier=call.service_tier or told.service_tier,
        provider_request_id=call.provider_request_id or told.request_id, usage_note=call.usage_note or told.note,
        raw_usage=call.raw_usage or told.raw,
    )  # fmt: skip


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
