"""Faults that are planted in a copy of the source, line by line: the seams between these tests and the code's insides.

Nothing else in these tests knows how the engine works. When a line below changes, `planted` says which one, and its
fault must be put into the new line: a fault that cannot be planted proves nothing.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.engine.processes import REPOSITORY

PACKAGE = REPOSITORY / "src" / "tokentill"


@dataclass(frozen=True)
class Line:
    """In `file`, `is_now` becomes `becomes`; it must be there exactly once."""

    file: str
    is_now: str
    becomes: str


@dataclass(frozen=True)
class Fault:
    """What is wrong, the test that must fail (`file::test`), and what it must say: any other failure is an accident."""

    name: str
    caught_by: str
    says: str
    lines: tuple[Line, ...]


ACCOUNTS, KEYS, LANE = "store/accounts.py", "store/keys.py", "engine/lane.py"

EXACTLY_ONCE = "tests/engine/test_exactly_once.py"
CUTS = "tests/engine/test_cuts.py"
HOLDS = "tests/engine/test_holds.py"
CUT = f"{CUTS}::test_1000_writes_whose_connections_are_cut_are_1000_effects"
REPEAT = f"{EXACTLY_ONCE}::test_a_repeat_at_another_till_is_no_second_spend_though_there_is_enough_left"
STALE = f"{EXACTLY_ONCE}::test_an_account_that_was_read_before_another_till_emptied_it_is_empty"
VERSION_CHECK = " AND a.version = n.expected"

NO_VERSION_CHECK = Fault(
    "the version check is dropped",
    f"{EXACTLY_ONCE}::test_two_tills_that_take_turns_each_see_what_the_other_did",
    "Finding(",
    (Line(ACCOUNTS, VERSION_CHECK, ""),),
)

FAULTS = [
    NO_VERSION_CHECK,
    Fault(
        "the version check is dropped, seen by holds",
        f"{HOLDS}::test_two_tills_that_take_turns_set_the_same_tokens_aside_once",
        " == 20\n",
        (Line(ACCOUNTS, VERSION_CHECK, ""),),
    ),
    Fault(
        "the version is not moved on by a write",
        STALE,
        "DID NOT RAISE InsufficientTokens",
        (Line(ACCOUNTS, "version = n.version,", "version = n.expected,"),),
    ),
    Fault(
        "the version is not moved on by a hold",
        f"{HOLDS}::test_two_tills_that_take_turns_set_the_same_tokens_aside_once",
        " == 20\n",
        (
            Line(
                "core/ledger/hold_rules.py",
                "    return Decided(account.with_hold(hold, at), hold=hold, is_hold_changed=True)",
                "    return Decided(replace(account.with_hold(hold, at), version=account.version), hold=hold,"
                " is_hold_changed=True)",
            ),
            # What would notice at once, in the process itself: here the database's answers have to show it.
            Line(ACCOUNTS, "assert all(write.after.version > write.before.version", "assert all(True"),
            Line("core/ledger/decide.py", "assert after.version > before.version or", "assert True or"),
        ),
    ),
    Fault(
        "the tokens of holds are not counted in what is held",
        f"{HOLDS}::test_of_200_parallel_holds_on_a_balance_for_20_exactly_20_are_placed",
        " == 20\n",
        (Line("core/ledger/account.py", "sum(hold.tokens for hold in self.holds if hold.is_open(at))", "0"),),
    ),
    Fault(
        "the accounts are not forgotten after a conflict",
        STALE,
        "The accounts are contended",
        (Line("engine/memory.py", "self._accounts.pop(user_id.int, None)", "pass"),),
    ),
    Fault(
        "callers are answered before COMMIT",
        f"{EXACTLY_ONCE}::test_what_a_caller_hears_of_is_there_for_everybody",
        "] == []",
        (
            Line(
                LANE,
                "self._write(conn, draft, now)",
                "self._answer(draft, replays, now); self._write(conn, draft, now)",
            ),
        ),
    ),
    Fault(
        "callers are answered when all is written and nothing is committed",
        f"{EXACTLY_ONCE}::test_what_a_caller_hears_of_is_there_for_everybody",
        "] == []",
        (
            # Where one statement is the COMMIT as well, there is no between.
            Line(LANE, "if draft.is_plain and", "if False and"),
            Line(
                LANE,
                "holds.write(conn, placed, changed, now=now)",
                "holds.write(conn, placed, changed, now=now); self._answer(draft, {}, now)",
            ),
        ),
    ),
    Fault(
        "the keys are not looked up after a lost connection",
        f"{CUTS}::test_a_write_that_was_committed_unheard_answers_what_was_committed",
        "The accounts are contended",
        (Line(LANE, "is_suspicious = True", "is_suspicious = False"),),
    ),
    Fault(
        "the keys are not written, so that a retry is a new request",
        f"{CUT}[after COMMIT]",
        "assert (Counter(), C",
        (Line(LANE, "draft.used_keys(now)", "[]"),),
    ),
    Fault(
        "a key that was used before is no violation",
        f"{REPEAT}[1]",
        "balance_before=990",
        (Line(KEYS, "%s::timestamptz[]) AS n\n", "%s::timestamptz[]) AS n ON CONFLICT DO NOTHING\n"),),
    ),
    Fault(
        "a key that was used before is no violation in a large batch",
        f"{REPEAT}[100]",
        "balance_before=99000",
        (Line(KEYS, "%s::timestamptz[]) AS n\n", "%s::timestamptz[]) AS n ON CONFLICT DO NOTHING\n"),),
    ),
    Fault(
        "a refusal from memory is not doubted",
        f"{EXACTLY_ONCE}::test_tokens_granted_elsewhere_are_spendable_here_at_once",
        "10 are available, 90 too few",
        (Line(LANE, "fresh := self._doubts(conn, draft, known)", "fresh := {}"),),
    ),
    Fault(
        "a refusal is doubted by the account's version, and not by the keys",
        f"{EXACTLY_ONCE}::test_spending_everything_and_repeating_after_a_restart_answers_the_first_success",
        "0 are available, 1,000 too few",
        (
            Line(
                LANE,
                "return keys.find(conn, {ref for request in doubtful for ref in request.key_refs})",
                "return {}",
            ),
        ),
    ),
    Fault(
        "a lost connection is told to the callers as a failure for good",
        f"{CUT}[during the answer]",
        "server closed the connection",
        (Line(LANE, "except LOST as error:\n", "except LOST as error:\n                raise\n"),),
    ),
    Fault(
        "who stands beside poison shares its fate",
        f"{EXACTLY_ONCE}::test_a_row_that_postgres_cannot_hold_fails_alone_among_1000_good_ones",
        " == 1\n",
        (
            Line(
                LANE,
                "if len(requests) == 1:\n",
                "settle([(each, None, _unwritable(error)) for each in requests[1:]])\n        if requests:\n",
            ),
        ),
    ),
]


def planted(fault: Fault, folder: Path) -> Path:
    """Copy the source into `folder` with the fault in it; return what to put on PYTHONPATH.

    Raises: AssertionError when one of its lines is not what it was.
    """
    source = folder / "src"
    shutil.copytree(PACKAGE, source / "tokentill", ignore=shutil.ignore_patterns("__pycache__"))
    for line in fault.lines:
        path = source / "tokentill" / line.file
        text = path.read_text("utf-8")
        assert text.count(line.is_now) == 1, (
            f"{fault.name}: {line.file} has changed, and this is not in it: {line.is_now}"
        )
        path.write_text(text.replace(line.is_now, line.becomes), "utf-8")
    return source
