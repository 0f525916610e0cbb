"""Till: the object that users of the library hold.

    till = Till.connect()
    till.grant_tokens("alice", 10_000, reason="welcome")
    till.spend("alice", 250, "chat_conversation")
    till.balance("alice").available

Every method blocks until its answer is committed, and may be called from any thread. Writes take an
`idempotency_key`: repeated with the same key and the same request, they happen once and answer the same. From async
code, build a command and await it:

    receipt = await till.submit(till.asking.spend("alice", 250, "chat_conversation"))

A user is named by a UUID or by any text of up to 255 characters. Tokens are whole numbers; times are aware.
"""

from tokentill.till.actions import Actions
from tokentill.till.inbox import Inbox
from tokentill.till.money import Money
from tokentill.till.pricing import Pricing
from tokentill.till.reports import Reports
from tokentill.till.subscriptions import Subscriptions
from tokentill.till.tokens import Tokens


class Till(Tokens, Subscriptions, Money, Actions, Pricing, Inbox, Reports):
    """Sells, grants and drips tokens, spends them, and explains every one. Use `Till.connect()`."""
