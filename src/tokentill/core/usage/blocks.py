"""Reading counts out of what a provider sent: the words that all readers of `core.usage.reading` share.

A reader takes a response body and returns Pools, or raises `Unreadable` with the reason. Nobody above
`core.usage.reading` sees that exception.
"""

import math
from collections.abc import Mapping

from tokentill.core.usage.pools import COUNT_MAX

Block = Mapping[str, object]

NOTHING: Block = {}


class Unreadable(Exception):
    """Carries a reason up to `core.usage.reading`; nobody else sees it."""


def usage_block(response: Block) -> Block:
    """Return the response's `usage`."""
    usage = response.get("usage")
    if type(usage) is dict or isinstance(usage, Mapping):
        return usage
    raise Unreadable("the response has no usage" if usage is None else "usage is not an object")


def details(block: Block, *keys: str) -> Block:
    """Return the first of these sub-blocks that is there, or an empty one."""
    for key in keys:
        found = block.get(key)
        if type(found) is dict or isinstance(found, Mapping):
            return found
        if found is not None:
            raise Unreadable(f"{key} is not an object")
    return NOTHING


def blocks(block: Block, key: str) -> list[Block]:
    """Return the objects of a list, which may be absent."""
    found = block.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Unreadable(f"{key} is not a list of objects")
    for entry in found:
        if type(entry) is not dict and not isinstance(entry, Mapping):
            raise Unreadable(f"{key} is not a list of objects")
    return found


def required(block: Block, key: str) -> int:
    if block.get(key) is None:
        raise Unreadable(f"{key} is missing")
    return count(block, key)


def count(block: Block, key: str) -> int:
    """Return a count; one that is absent or null is 0."""
    value = block.get(key)
    if type(value) is int and 0 <= value <= COUNT_MAX:
        return value
    if value is None:
        return 0
    # By type and not by isinstance: `true` is no count, though Python's bool is an int.
    if type(value) is not int:
        raise Unreadable(f"{key} is not a whole number")
    raise Unreadable(f"{key} is out of range")


def either(block: Block, *keys: str) -> int:
    """Return a count that goes by several names. Those that are there must agree."""
    said = {key: count(block, key) for key in keys if block.get(key) is not None}
    if len(set(said.values())) > 1:
        raise Unreadable(f"{' and '.join(said)} disagree")
    return next(iter(said.values()), 0)


def rounded_up(block: Block, key: str) -> int:
    """Return a length that may come with a fraction, as whole units. A second begun counts."""
    value = block.get(key)
    if value is None:
        raise Unreadable(f"{key} is missing")
    if type(value) is float and math.isfinite(value):
        value = math.ceil(value)
    if type(value) is not int:
        raise Unreadable(f"{key} is not a number")
    if not 0 <= value <= COUNT_MAX:
        raise Unreadable(f"{key} is out of range")
    return value


def rest(name: str, whole: int, *parts: int) -> int:
    """Return what the parts leave of the whole."""
    for part in parts:
        whole -= part
    if whole < 0:
        raise Unreadable(f"the parts of {name} exceed it")
    return whole
