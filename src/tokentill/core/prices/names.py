"""Names: which of the book's models somebody means.

Providers and their resellers write one model in many ways: dated (`gpt-4o-2024-08-06`), with who serves it in front
(`azure/gpt-4o`, `models/gemini-2.5-pro`, `us.anthropic.claude-sonnet-4-5-v1:0`), in any case. A wrong guess is a wrong
price: where a name might mean two things, it means nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime

from tokentill.core.usage.reading import provider_named
from tokentill.core.values import Value

# Who makes the models whose names begin so (or, for OpenAI, whatever it sells): where nobody says who served a call,
# it is priced as its maker's. Others sell the same models at other prices.
MAKERS: Mapping[str, tuple[str, ...]] = {
    "openai": ("",),
    "anthropic": ("claude",),
    "google": ("gemini", "gemma"),
    "mistral": ("mistral", "ministral", "codestral", "devstral", "magistral", "open-mi", "pixtral", "voxtral"),
    "cohere": ("command", "embed", "rerank", "c4ai"),
    "deepseek": ("deepseek",),
    "x-ai": ("grok",),
    "perplexity": ("sonar", "pplx", "r1-1776"),
    "moonshotai": ("kimi", "moonshot"),
    "minimax": ("minimax",),
    "zai": ("glm",),
    "zhipuai": ("glm",),  # The same maker's other shop, at other prices: such a name alone decides nothing.
    "meta": ("llama", "muse"),
    "voyageai": ("voyage", "rerank"),
    "elevenlabs": ("eleven", "scribe"),
}

# Who sells others' models at their makers' prices, as genai-prices has it. Tiers are the seller's own affair.
BORROWS: Mapping[str, tuple[str, ...]] = {
    "azure": ("openai", "anthropic", "deepseek", "x-ai", "moonshotai"),
    "google": ("anthropic",),
}


class BookModel(Value, frozen=True, kw_only=True):
    """A model as one provider sells it, and the names that mean it."""

    provider: str
    model: str
    aliases: tuple[str, ...] = ()
    match: Mapping[str, object] | None = None  # Names that are not listed: {"starts_with": "gpt-4o-2024-"}, …
    position: int = 0  # Names are tried in this order.
    is_active: bool = True  # False: retired. What was called all the same is priced.
    source: str = "own"  # Or "genai-prices".
    revision: int = 0
    created_at: datetime | None = None
    created_by: str = ""


Claims = Callable[[str], bool]


def claims(match: Mapping[str, object]) -> Claims:
    """Return whether a name, in small letters, is meant by a rule of genai-prices' kind. Raises: ValueError."""
    [(kind, value)] = match.items()
    if kind in ("or", "and"):
        assert isinstance(value, list), match
        below = [claims(each) for each in value]
        whether = any if kind == "or" else all
        return lambda name: whether(each(name) for each in below)
    assert isinstance(value, str), match
    if kind == "regex":
        found = re.compile(value)
        return lambda name: found.search(name) is not None
    text = value.lower()
    if kind == "starts_with":
        return lambda name: name.startswith(text)
    if kind == "ends_with":
        return lambda name: name.endswith(text)
    if kind == "contains":
        return lambda name: text in name
    if kind == "equals":
        return lambda name: name == text
    raise ValueError(f"No rule of names: {kind!r}")


class _Shelf:
    """The models of one provider, found by name: the first in the book's order that claims it."""

    __slots__ = ("_claimed", "_exact", "_rules", "has_none_own")

    def __init__(self, models: Sequence[BookModel]) -> None:
        self.has_none_own = all(model.source != "own" for model in models)
        self._exact: dict[str, tuple[int, BookModel]] = {}
        self._rules: list[tuple[int, BookModel]] = []
        self._claimed: dict[str, Claims] = {}
        for model in models:
            place = 0 if model.source == "own" else model.position  # What people named so themselves comes first.
            for name in (model.model, *model.aliases):
                known = self._exact.get(name.lower())
                if known is None or place < known[0]:
                    self._exact[name.lower()] = (place, model)
            if model.match is not None:
                self._rules.append((model.position, model))
        self._rules.sort(key=lambda rule: rule[0])

    def find(self, name: str) -> BookModel | None:
        place, exact = self._exact.get(name, (0, None))
        for position, model in self._rules:
            if exact is not None and place <= position:
                break
            # A tuned model has a price of its own: its base's rules, which may be as broad as `contains`, are not it.
            if name.startswith("ft:") and not model.model.startswith("ft:"):
                continue
            if model.model not in self._claimed:
                assert model.match is not None, model
                self._claimed[model.model] = claims(model.match)
            if self._claimed[model.model](name):
                return model
        return exact


class Found(Value, frozen=True):
    """The model that a name means. `is_borrowed`: it is of another provider's list, without that one's tiers."""

    provider: str  # Who sells it: of the list it was found in.
    model: BookModel
    is_borrowed: bool = False


_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_PUBLISHED = re.compile(r"(?:^|/)publishers/[^/]+/models/(.+)$")
_BEDROCK = re.compile(
    r"(?:[a-z]{2,7}(?:-gov)?\.)?"
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|luma|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen"
    r"|stability|twelvelabs|writer|zai)\.[a-z]"
)


def _with_dashes(name: str) -> str:
    """`gpt-4o-20240806`, as LiteLLM and OpenRouter write it, is `gpt-4o-2024-08-06`."""

    def dashed(found: re.Match[str]) -> str:
        try:
            return f"-{date(int(found[1]), int(found[2]), int(found[3])).isoformat()}"
        except ValueError:
            return found[0]

    return _COMPACT_DATE.sub(dashed, name)


class Names:
    """What the names of a book's models mean. Never changes."""

    __slots__ = ("_makers", "_shelves")

    def __init__(self, models: Iterable[BookModel]) -> None:
        shelves: dict[str, list[BookModel]] = {}
        for model in models:
            shelves.setdefault(model.provider, []).append(model)
        self._shelves = {provider: _Shelf(each) for provider, each in shelves.items()}
        # Whom a name may mean where nobody says who served it; all others are never asked, which takes milliseconds.
        self._makers = [name for name in shelves if name in MAKERS or any(row.source == "own" for row in shelves[name])]

    def find(self, provider: str | None, model: str) -> Found | None:
        """Return the model that a name means where `provider` served it."""
        name = model.strip().lower()
        seller = None if provider is None else self.seller(provider)
        if seller is not None and (found := self.sold_by(seller, name)):
            return found
        for said, rest in self._said(name):
            # Makers' clients are pointed at others by a prefix. With a reseller it only tells who made the model,
            # and the maker's price is not the reseller's.
            is_followed = seller in (None, "litellm", said) or seller in MAKERS
            if is_followed and rest and (found := self.sold_by(said, rest)):
                return found
        return self._made(name) if seller in (None, "litellm") else None

    def seller(self, provider: str) -> str:
        """Return a provider by the book's name; as it was given, where the book has none."""
        plain = provider.strip().lower()
        return plain if plain in self._shelves else provider_named(plain) or plain

    def sold_by(self, seller: str, name: str) -> Found | None:
        """Return what a name in small letters means with that provider and nobody else, whatever the name tells."""
        for place in (seller, *BORROWS.get(seller, ())):
            shelf = self._shelves.get(place)
            found = shelf and (shelf.find(name) or shelf.find(_with_dashes(name)))
            if found:
                return Found(seller, found, place != seller)
        return None

    def _said(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield the provider that a name itself tells, and what is left of the name."""
        if published := _PUBLISHED.search(name):
            yield "google", published[1]
        elif name.startswith("models/"):
            yield "google", name.removeprefix("models/")
        prefix, slash, rest = name.partition("/")
        if slash and prefix and (said := self.seller(prefix)) in self._shelves:
            yield said, rest
        last = name.rpartition("/")[2]  # Of an ARN, of `bedrock/…`.
        if _BEDROCK.match(last):
            yield "aws", last

    def _made(self, name: str) -> Found | None:
        """Return the model as its maker sells it; None where two claim it. A model of one's own comes first."""
        own, made = [], []
        for provider in self._makers:
            shelf, begins = self._shelves[provider], MAKERS.get(provider)
            if begins is not None and shelf.has_none_own and not name.removeprefix("ft:").startswith(begins):
                continue
            model = shelf.find(name) or (shelf.find(_with_dashes(name)) if begins else None)
            if model is None:
                continue
            if model.source == "own":
                own.append(Found(provider, model))
            if begins is not None and name.removeprefix("ft:").startswith(begins):
                made.append(Found(provider, model))
        candidates = own or made
        return candidates[0] if len(candidates) == 1 else None
