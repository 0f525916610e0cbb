"""Drafts: what a batch would do, before anything of it is written."""

from tests.core import make
from tokentill import Till
from tokentill.core.ledger.decisions import Decided
from tokentill.core.values import replace
from tokentill.engine.draft import Changed, Draft, Idle, Request
from tokentill.store import accounts

ALICE = make.ALICE.user_id


def test_what_changes_only_a_limit_is_written(till: Till) -> None:
    """Whether there is something to write is told by the account's version, whichever of its fields has changed."""
    till.grant_tokens("alice", 100)
    with till.context.connection() as conn:
        account = accounts.load(conn, [ALICE])[ALICE]
        limited = replace(account, overdraft_limit=50, version=account.version + 1)
        draft = Draft({ALICE.int: account}, {}, {}, make.NOW)

        draft._accept(Request(make.sweep(), None, ()), account, None, Decided(limited))

        assert [type(fate) for fate in draft.fates] == [Changed]
        assert not draft.is_empty and not draft.is_plain
        assert accounts.write(conn, list(draft.touched.values()), now=make.NOW)
        assert accounts.load(conn, [ALICE])[ALICE] == limited


def test_what_changes_nothing_is_not_written() -> None:
    account = make.Book.of(make.grant(100)).account
    assert account is not None
    draft = Draft({ALICE.int: account}, {}, {}, make.NOW)

    draft.decide([Request(make.sweep(), None, ())])

    assert [type(fate) for fate in draft.fates] == [Idle] and draft.is_empty
