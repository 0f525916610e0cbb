"""The app's own SQL, as its requirements write it, put to the demo's database.

Each file of `queries/` holds one of their code blocks, unchanged; a number puts it in order. The folder says where it
runs: `public` has the tables as they are, `unified` shows them as earlier versions of the app knew them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from uuid import UUID

from tokentill.core.users import User
from tokentill.demo.acts import Member
from tokentill.store import demo_database
from tokentill.store.db import Conn
from tokentill.store.demo_database import Answer

SEARCH_PATHS = {"public": "public", "unified": "unified, public"}

# What stands for a member's uuid, between quotes.
_PLACEHOLDER = re.compile(r"'USER_ID(?:_HERE)?'")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of one block, with its placeholder still in it."""

    source: str  # "public/ai_usage"
    number: int  # Its place among the block's statements, from 1.
    search_path: str
    text: str

    @property
    def is_about_a_member(self) -> bool:
        return _PLACEHOLDER.search(self.text) is not None

    def about(self, user_id: UUID) -> str:
        return _PLACEHOLDER.sub(f"'{user_id}'", self.text)


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement as it was put to the database, and the answer."""

    statement: Statement
    sql: str
    about: Member | None
    answer: Answer


def statements() -> list[Statement]:
    """Return every statement of every block, the present tables' first."""
    folder = resources.files("tokentill.demo").joinpath("queries")
    found = []
    for schema, search_path in SEARCH_PATHS.items():
        files = sorted((file for file in folder.joinpath(schema).iterdir()), key=lambda file: file.name)
        for file in files:
            source = f"{schema}/{file.name.removesuffix('.sql').partition('_')[2]}"
            texts = split(file.read_text("utf-8"))
            found += [Statement(source, number, search_path, text) for number, text in enumerate(texts, start=1)]
    return found


def split(block: str) -> list[str]:
    """Return a block's statements, each with the comments above it. They hold no semicolon of their own."""
    return [text for part in block.split(";") if (text := part.strip())]


def ask(conn: Conn, members: Sequence[Member]) -> Iterator[Asked]:
    """Put every statement to the database: once, or once for each member if it is about one."""
    for statement in statements():
        about = members if statement.is_about_a_member else (None,)
        for member in about:
            sql = statement.text if member is None else statement.about(User.of(member.user_id).user_id)
            yield Asked(statement, sql, member, demo_database.ask(conn, sql, search_path=statement.search_path))
