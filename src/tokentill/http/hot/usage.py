"""`POST /v1/usage`: AI operations, paid in tokens."""

from functools import partial

from starlette.concurrency import run_in_threadpool

from tokentill.http.hot.answered import UsageView, encode
from tokentill.http.hot.asked import Answered, Asked
from tokentill.http.hot.sent import USAGE, read_request
from tokentill.till import Till


async def spend(till: Till, asked: Asked, body: bytes) -> Answered:
    """Refused with 402 when the account cannot cover it. Raises: what is wrong with it."""
    usage = read_request(asked, body, USAGE, key="needed")
    ask = partial(
        till.asking.spend_of, usage.user_id, usage, on_insufficient=usage.on_insufficient, idempotency_key=asked.key
    )
    # What is known is still known a moment later, but perhaps no longer fresh: then this one does not look.
    command = await run_in_threadpool(ask) if till.asking.must_read(usage) else ask(may_ask=False)
    receipt = await till.submit(command)
    assert receipt is not None, command
    return Answered(201, encode(UsageView.of(receipt, command.user.name)), receipt.is_replay)
