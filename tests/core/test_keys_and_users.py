"""Keys and users: which texts are the same request, and whose account a text names."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentill.core.keys import KEY_LENGTH_MAX, Key, canonical
from tokentill.core.users import USER_ID_LENGTH_MAX, User, hashed_user_id
from tokentill.errors import InvalidText, InvalidUserId

UUID7 = "01941f29-7c00-7aaa-8bbb-123456789abc"
UUID4 = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
REQUEST = {"tokens": 5, "user_id": "alice"}

# -- keys --------------------------------------------------------------------------------------------------------------


def test_the_same_key_for_the_same_request_is_the_same() -> None:
    assert Key.of_caller("order-1", REQUEST) == Key.of_caller("order-1", dict(reversed(REQUEST.items())))


def test_the_same_key_for_another_request_differs_in_its_hash_alone() -> None:
    first, other = Key.of_caller("order-1", REQUEST), Key.of_caller("order-1", {**REQUEST, "tokens": 6})

    assert first.value == other.value
    assert first.request_hash != other.request_hash


def test_another_key_is_another_request() -> None:
    assert Key.of_caller("order-1", REQUEST).value != Key.of_caller("order-2", REQUEST).value


def test_a_callers_uuid7_is_taken_as_it_is_in_either_case() -> None:
    assert Key.of_caller(UUID7, REQUEST).value == UUID(UUID7).bytes
    assert Key.of_caller(UUID7.upper(), REQUEST).value == UUID(UUID7).bytes


@pytest.mark.parametrize(
    "text",
    [
        UUID4,  # Of another version: not ordered by time, and a fact's key could be guessed.
        UUID7.replace("-", ""),
        "{" + UUID7[:-2] + "}",
        UUID7[:-1] + "g",
        UUID7[:8] + UUID7[9:] + "-",
    ],
)
def test_any_other_text_is_hashed(text: str) -> None:
    value = Key.of_caller(text, REQUEST).value

    assert str(UUID(bytes=value)) != text.lower()
    assert value == Key.of_caller(text, REQUEST).value


@given(st.text(min_size=1, max_size=KEY_LENGTH_MAX))
def test_a_callers_key_never_meets_one_made_of_a_fact(text: str) -> None:
    assert Key.of_caller(text, {}).value != Key.of_fact(text).value


def test_a_caller_cannot_write_a_facts_key_by_its_namespace() -> None:
    assert Key.of_caller("fact\x1fpack\x1fcs_1", {}).value != Key.of_fact("pack", "cs_1").value


def test_two_messages_about_one_fact_are_one_request() -> None:
    assert Key.of_fact("pack", "cs_1") == Key.of_fact("pack", "cs_1")
    assert Key.of_fact("pack", "cs_1") != Key.of_fact("packcs_1")


def test_a_fresh_key_is_its_own_request() -> None:
    assert Key.fresh(UUID(UUID7)) == Key(UUID(UUID7).bytes, UUID(UUID7).bytes)


@pytest.mark.parametrize("text", ["k", "k" * KEY_LENGTH_MAX, "ключ 🗝", "a\x00b", "\ud800"])
def test_a_key_may_be_any_text_of_up_to_255_characters(text: str) -> None:
    assert Key.of_caller(text, REQUEST) == Key.of_caller(text, REQUEST)


@pytest.mark.parametrize("text", ["", "k" * (KEY_LENGTH_MAX + 1), 7, None])
def test_an_empty_or_endless_key_or_none_at_all_is_refused(text: object) -> None:
    with pytest.raises(InvalidText):
        Key.of_caller(text, REQUEST)  # type: ignore[arg-type]


def test_a_request_may_hold_times_ids_and_decimals() -> None:
    request = {"at": datetime(2026, 1, 5, tzinfo=UTC), "id": UUID(UUID7), "cost": Decimal("1.50"), "tokens": None}

    assert canonical(request) == (f'{{"at":"2026-01-05 00:00:00+00:00","cost":"1.50","id":"{UUID7}","tokens":null}}')


def test_what_has_no_one_text_cannot_be_part_of_a_request() -> None:
    with pytest.raises(InvalidText, match="A set cannot be part of a request"):
        canonical({"tags": {1, 2}})


# -- users -------------------------------------------------------------------------------------------------------------


def test_a_uuid_names_itself_however_it_is_written() -> None:
    assert User.of(UUID(UUID4)) == User.of(UUID4) == User.of(UUID4.upper()) == User(UUID(UUID4))


def test_a_user_names_itself() -> None:
    alice = User.of("alice")

    assert User.of(alice) == alice


def test_any_other_text_is_kept_and_hashed() -> None:
    user = User.of("auth0|42")

    assert user == User(hashed_user_id("auth0|42"), "auth0|42")
    assert user.user_id.version == 8


def test_the_hash_of_a_text_never_changes() -> None:
    """Accounts are found by it: another value would be another account."""
    assert str(hashed_user_id("alice")) == "2bd806c9-7f0e-80af-9a1f-c3328fa763a9"


@pytest.mark.parametrize("text", ["{" + UUID4 + "}", UUID4.replace("-", ""), "urn:uuid:" + UUID4, " " + UUID4])
def test_only_the_usual_way_to_write_a_uuid_is_one(text: str) -> None:
    assert User.of(text).external_id == text


def test_users_are_known_by_the_name_their_caller_gave() -> None:
    assert User.of("alice").name == "alice"
    assert User.of(UUID4).name == UUID4


def test_upper_and_lower_case_are_two_users() -> None:
    assert User.of("Alice").user_id != User.of("alice").user_id


@pytest.mark.parametrize(
    "who",
    ["", "u" * (USER_ID_LENGTH_MAX + 1), "a\x00b", "\ud800", chr(0xDFFF), 42, None, b"alice"],
)
def test_what_no_table_can_hold_names_nobody(who: object) -> None:
    with pytest.raises(InvalidUserId):
        User.of(who)  # type: ignore[arg-type]


@pytest.mark.parametrize("who", ["u", "u" * USER_ID_LENGTH_MAX, "ユーザー", "🙂"])
def test_any_text_of_1_to_255_characters_names_a_user(who: str) -> None:
    assert User.of(who).name == who
