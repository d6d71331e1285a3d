"""The laws of an identity: what tells a post apart, whatever class it is of, on every machine."""

from __future__ import annotations

import dataclasses
import sys
import time as clock
import unicodedata
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

import pydantic
import pytest
import scrapy
from hypothesis import given
from hypothesis import strategies as st

from scrapy_valkey_dedup.identity.encoding import digest, encode
from scrapy_valkey_dedup.identity.normalise import NORMALISERS
from scrapy_valkey_dedup.identity.placeholders import AS_WRITTEN, IN_ANY_CASE
from scrapy_valkey_dedup.model import KEY_BYTES
from tests.support.item_forms import (
    FORMS,
    POST,
    class_of,
    identifier,
    importable,
    key,
    of_one_kind,
    origin,
    post,
)

SECRET = "hunter2"


# -- the encoding ----------------------------------------------------------------------------------


def canonical(value: Any) -> Any:
    """What an identity consists of, written independently of the encoding."""
    if value is None or isinstance(value, (bool, bytes)):
        return (type(value).__name__, value)
    if isinstance(value, str):
        return ("text", unicodedata.normalize("NFC", value).strip())
    if isinstance(value, (int, float, Decimal)):
        exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        if exact == exact.to_integral_value():
            return ("text", str(int(exact)))
        return ("number", exact)
    if isinstance(value, (list, frozenset)):
        kind = tuple if isinstance(value, list) else frozenset
        return ({tuple: "list", frozenset: "set"}[kind], kind(map(canonical, value)))
    pairs = [(canonical(name), canonical(member)) for name, member in value.items()]
    return ("map", frozenset((name, member) for name, member in pairs if not is_nothing(member)))


def is_nothing(value: Any) -> bool:
    """Whether a canonical value identifies nothing."""
    if value[0] in ("list", "set"):
        return all(map(is_nothing, value[1]))
    return value[0] == "NoneType" or (value[0] in ("text", "bytes", "map") and not value[1])


def read(code: bytes, at: int = 0) -> tuple[Any, int]:
    """Reads an encoding back: the canonical value, and where the next one begins."""
    letter = chr(code[at])
    if letter == "n":
        return ("NoneType", None), at + 1
    if letter == "b":
        return ("bool", code[at + 1] == ord("1")), at + 2
    colon = code.index(b":", at)
    number, at = int(code[at + 1 : colon]), colon + 1
    if letter in "try":
        content = code[at : at + number]
        text = content.decode("utf-8", "surrogatepass") if letter != "y" else content
        kinds = {"t": ("text", text), "y": ("bytes", text)}
        return kinds.get(letter) or ("number", Decimal(text)), at + number
    members = []
    for _ in range(number * (2 if letter == "m" else 1)):
        member, at = read(code, at)
        members.append(member)
    if letter == "l":
        return ("list", tuple(members)), at
    if letter == "s":
        return ("set", frozenset(members)), at
    return ("map", frozenset(zip(members[::2], members[1::2], strict=True))), at


TEXTS = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(["1", "t1:a", "l1:", "é"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(-(2**53) + 1, 2**53 - 1)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3)
    | st.binary(max_size=6)
    | TEXTS
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "id", ""]), inner, max_size=3)
        | st.frozensets(LEAVES, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_no_two_identities_share_an_encoding(value: Any) -> None:
    """An encoding can be read back, so no other identity has it."""
    code = encode(value, 0)
    assert read(code) == (canonical(value), len(code))


class Open(pydantic.BaseModel):
    """A model that takes any field."""

    model_config = {"extra": "allow"}

    a: int


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["a", "b"], ["a", ["b"]]),
        (["a", None], ["a"]),
        (["a"], "a"),
        (["a", "b"], ["b", "a"]),
        (["a", "b"], {"a", "b"}),
        ({"a": "b"}, ["a", "b"]),
        ({"a": "b"}, {"b": "a"}),
        ("1", b"1"),
        (1, True),
        (0, False),
        ("True", True),
        ("None", None),
        (1.5, "1.5"),
        (0.1, 0.10000000000000002),
        (1, -1),
        ("dQw4w9WgXcQ", "dqw4w9wgxcq"),
        ("007", 7),
        ("a b", "a  b"),
        ("\ud800", "?"),
        (date(2026, 1, 2), datetime(2026, 1, 2)),  # noqa: DTZ001
        (datetime(2026, 1, 2), datetime(2026, 1, 2, tzinfo=timezone.utc)),  # noqa: DTZ001
        (date(2026, 1, 2), "2026-01-02"),
        (Open(a=1, b=2), Open(a=1, b=3)),
    ],
)
def test_what_differs_stays_apart(one: Any, other: Any) -> None:
    """Different values have different keys; ids keep their case."""
    assert digest("Post", one) != digest("Post", other)


class Colour(Enum):
    """An Enum of texts."""

    RED = "red"


class Level(IntEnum):
    """An Enum of integers."""

    HIGH = 3


class Shout(str):
    """A text whose own methods say something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "no"

    def strip(self, *_: Any) -> str:
        return "no"


class Odd(int):
    """An integer whose own methods say something else."""

    def __int__(self) -> int:
        return 7

    def __str__(self) -> str:
        return "no"

    __repr__ = __str__


class NumpyLike(float):
    """A float that is written as NumPy's are."""

    def __repr__(self) -> str:
        return "np.float64(1.5)"


EAST = timezone(timedelta(hours=5, minutes=30))
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
Pair = namedtuple("Pair", "x y")  # noqa: PYI024


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("123", 123),
        (123, 123.0),
        (123, Decimal("123.00")),
        (1200, Decimal("12E2")),
        (2**53 - 1, float(2**53 - 1)),
        ("-5", -5),
        (0, -0.0),
        (0, Decimal("-0E-9")),
        (0.1, Decimal("0.10")),
        (1e-7, Decimal("0.0000001")),
        (10**639, Decimal("1E639")),
        (" x\n", "x"),
        ("e\u0301", "\u00e9"),
        (Shout("x"), "x"),
        (Odd(3), 3),
        (NumpyLike(1.5), 1.5),
        (Colour.RED, "red"),
        (Level.HIGH, "3"),
        (UUID("12345678123456781234567812345678"), "12345678-1234-5678-1234-567812345678"),
        (bytearray(b"x"), b"x"),
        ((1, 2), [1, 2]),
        (Pair(1, 2), [1, 2]),
        ({1, 2, 3}, frozenset([3, 2, 1])),
        ({"a", " a"}, {"a"}),
        ({"a": 1, "b": 2}, OrderedDict(b=2, a=1)),
        ({"a": 1, "b": None, "c": [""]}, {"a": 1}),
        (NOON, NOON.astimezone(EAST)),
        (NOON, NOON.replace(fold=1)),
    ],
)
def test_what_is_the_same_has_one_key(one: Any, other: Any) -> None:
    """Spellings of one value have one key, subclasses with odd methods included."""
    assert digest("Post", [one]) == digest("Post", [other])


def test_kinds_differ() -> None:
    """A Post with id 1 is not an Author with id 1."""
    assert digest("Post", [1]) != digest("Author", [1])
    assert key(post("item", "Post", id=1)) != key(post("item", "Author", id=1))


class NoOffset(tzinfo):
    """A time zone that knows no offset: such a datetime counts as naive."""

    def utcoffset(self, _: datetime | None) -> None:
        return None

    tzname = dst = utcoffset


def test_a_time_zone_without_offset_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own time zone is in no key."""
    keys = set()
    for zone in ("UTC", "Asia/Kolkata"):
        monkeypatch.setenv("TZ", zone)
        clock.tzset()
        keys.add(digest("Post", datetime(2026, 1, 2, tzinfo=NoOffset())))
        keys.add(digest("Post", datetime(2026, 1, 2)))  # noqa: DTZ001
    monkeypatch.undo()
    clock.tzset()
    assert len(keys) == 1


# -- fields, normalisers, paths --------------------------------------------------------------------


@pytest.mark.parametrize("fields", [["platform", "id"], ["text:text", "id"], ["author.name"], None])
def test_one_post_one_key(fields: list[str] | None) -> None:
    """A post has one key as Item, dataclass, attrs, pydantic and, if it has a kind, as a dict."""
    values = {"platform": "x", "id": 7, "text": "A  B"}
    rule = {"kind": "Post"} if fields is None else {"fields": fields, "kind": "Post"}
    items = {
        form: post(form, **values, author=post(form, "Author", name="Ann", age=None))
        for form in (*FORMS, "dict")
    }
    assert len({key(items[form], fields=fields) for form in FORMS}) == 1
    keys = {key(item, fields={"*": rule}) for item in items.values()}
    assert len(keys) == 1
    assert len(keys.pop() or b"") == KEY_BYTES


def test_all_fields_without_the_empty_ones() -> None:
    """With nothing said all fields count, but for empty ones and those that are not there."""
    full = key(post("item", id=1, text="x"))
    assert full == key(post("item", text="x", id="1", url=None, tags=[], author={"name": ""}))
    assert full != key(post("item", id=1, text="y"))
    assert full != key(post("item", id=1))
    assert key(post("item", a=0)) is not None
    assert key(post("item", a=False)) is not None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("author.id", {"author": {"id": "z"}}),
        ("author.id", {"author": post("dataclass", "Author", id="z")}),
        ("author.id", {"author": post("attrs", "Author", id="z")}),
        ("author.id", {"author": post("pydantic", "Author", id="z")}),
        ("author.id", {"author": post("item", "Author", id="z")}),
        ("media.0.url", {"media": [{"url": "z"}, {"url": "y"}]}),
        ("media.1", {"media": ("y", "z")}),
        ("author.id", {"author": [{"id": "z"}]}),
        ("author.id", {"author": ({"id": ["z"]},)}),
        ("a.b.c.d", {"a": {"b": [0, 1], "c": 2} | {"b": {"c": {"d": "z"}}}}),
    ],
)
def test_paths_reach_inside(path: str, value: dict[str, Any]) -> None:
    """A path leads into nested items, mappings and lists."""
    found = key(post("item", **value), fields=of_one_kind(path))
    assert found == key(post("item", it="z"), fields=of_one_kind("it"))


@pytest.mark.parametrize(
    "path", ["a.b", "a.2", "a.-1", "a.x.y", "it.upper", "it.0", "gone", "size"]
)
def test_paths_to_nothing_leave_it_unkeyed(path: str) -> None:
    """A path that ends nowhere, in a property or in a method means that the field is missing."""

    @dataclasses.dataclass
    class Sized:
        a: list[str]
        it: str = "text"

        @property
        def size(self) -> int:
            return 1

    assert key(Sized(["p", "q"]), fields=[path]) is None


def test_normalisers_run_before_the_encoding() -> None:
    """What a normaliser makes of a field is what counts; several are applied in their order."""
    assert key(post("item", t=" A\u200b "), fields=["t:text"]) == key(
        post("item", t="a"), fields=["t"]
    )
    assert key(post("item", t="No. 42"), fields=["t:digits"]) == key(
        post("item", t=42), fields=["t"]
    )
    assert key(post("item", t="\uff21"), fields=["t:nfkc,casefold"]) == key(
        post("item", t="a"), fields=["t"]
    )


# -- who decides -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_field_metadata(form: str) -> None:
    """Metadata names fields and normalisers, in whatever order the class declares them."""
    marks = {"zone": True, "url": "url", "text": None, "note": False}
    values = {"zone": "eu", "url": "HTTPS://Example.com/a?utm_source=x", "text": "t", "note": "n"}
    turned = dict(reversed(marks.items()))
    expected = key(post("item", zone="eu", url="https://example.com/a"), fields=["url", "zone"])
    assert key(class_of(form, "Post", marks)(**values)) == expected
    assert key(class_of(form, "Post", turned)(**values)) == expected


def by_id(item: Any, _: Any) -> Any:
    """A user's function."""
    return item.c


def test_order_of_decision() -> None:
    """IDENTITY, FIELDS for the class, metadata, FIELDS for all, all fields: in this order."""
    item = class_of("dataclass", "Post", {"a": True, "b": None, "c": None})(a="1", b="2", c="3")
    plain = class_of("dataclass", "Post", dict.fromkeys("abc"))(a="1", b="2", c="3")
    rule = {"posts.items.Post": ["b"]}
    with importable("posts.items", Post=type(item)):
        assert key(item, identity=by_id, fields=rule) == digest(origin(POST), ["3"])
        assert key(item, fields=rule) == digest(origin(POST, ["b"]), ["2"])
    assert key(item, fields=["b"]) == digest(origin(POST, ["a"]), ["1"])
    assert key(item) == digest(origin(POST, ["a"]), ["1"])
    assert key(plain, fields=["b"]) == digest(origin(POST, ["b"]), ["2"])
    assert key(plain) == digest(origin(POST), {"a": "1", "b": "2", "c": "3"})


class Base(scrapy.Item):
    """An item with two fields."""

    a = scrapy.Field()
    b = scrapy.Field()


class Child(Base):
    """A rule of its own."""


class GrandChild(Child):
    """No rule of its own."""


def test_rules_of_classes() -> None:
    """The rule of the nearest ancestor counts, else that of all others; kinds are not inherited."""
    rules = {Base: ["a"], Child: ["b"], "*": ["a", "b"]}
    values = {"a": "1", "b": "2"}
    assert key(Base(values), fields=rules) == digest(origin(f"{__name__}:Base", ["a"]), ["1"])
    assert key(Child(values), fields=rules) == digest(origin(f"{__name__}:Child", ["b"]), ["2"])
    assert key(GrandChild(values), fields=rules) == digest(
        origin(f"{__name__}:GrandChild", ["b"]), ["2"]
    )
    assert key(values, fields=rules) == digest(origin("dict", ["a", "b"]), ["1", "2"])


def test_kind_alone() -> None:
    """A rule that names only a kind leaves the fields to the rule of all others."""
    rules = {"*": {"fields": ["a"], "kind": "thing"}, "dict": {"kind": "Base"}}
    assert key({"a": "1"}, fields=rules) == digest("Base", ["1"])
    assert key(Base(a="1"), fields=rules) == digest("thing", ["1"])
    assert key({"a": "1"}, fields={"dict": {"kind": "Base"}}) == digest("Base", {"a": "1"})


@pytest.mark.parametrize("found", ["x", b"x", 7, ["x", 7], ("x", 7), UUID(int=1), {"a": 1}])
def test_identity_function(found: Any) -> None:
    """What the user's function returns is the identity, one value or several."""
    values = list(found) if isinstance(found, (list, tuple)) else [found]
    assert key(post("item", id=1), identity=lambda *_: found) == digest(origin(POST), values)
    rules = {"*": {"kind": "Post"}}
    assert key({"id": 1}, identity=lambda *_: found, fields=rules) == digest("Post", values)


def test_identity_function_sees_item_and_spider() -> None:
    """The function is given the item and the spider."""
    seen: list[Any] = []
    item, spider = post("item", id=1), object()
    identifier(identity=lambda *given: seen.extend(given) or "x").key(item, spider)
    assert seen == [item, spider]


# -- what has no identity --------------------------------------------------------------------------


class Unknown:
    """A type of no encoding, whose repr must stay out of the log."""

    def __repr__(self) -> str:
        return SECRET


class Raising(Mapping[str, Any]):
    """A mapping that fails when it is read."""

    def __getitem__(self, name: str) -> Any:
        raise LookupError(SECRET)

    def __iter__(self) -> Iterator[str]:
        raise LookupError(SECRET)

    def __len__(self) -> int:
        raise LookupError(SECRET)


class NoZone(tzinfo):
    """A time zone that fails."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        raise ValueError(SECRET)


class Tagged(str):
    """A text that is another one if its tag is."""

    __slots__ = ("tag",)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tagged) and self.tag == other.tag

    __hash__ = str.__hash__


class TaggedDict(dict[str, Any]):
    """A dict that no other equals."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]


def cycle() -> list[Any]:
    """A list that contains itself, twice."""
    endless: list[Any] = []
    endless += [endless, endless]
    return endless


def bomb() -> list[Any]:
    """Forty lists, each of which holds the one before twice: 2 ** 40 members."""
    inner: list[Any] = ["x" * 4096]
    for _ in range(40):
        inner = [inner, inner]
    return inner


def deep() -> list[Any]:
    """A list that is nested deeper than Python can go."""
    inner: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 2):
        inner = [inner]
    return inner


UNKEYED = {
    "unknown type": (Unknown(), "test_identity.Unknown"),
    "unknown type inside": ({"a": [1, {SECRET: Unknown()}]}, "test_identity.Unknown"),
    "name of unknown type": ({Unknown(): 1}, "test_identity.Unknown"),
    "complex": (1j, "builtins.complex"),
    "generator": ((x for x in "ab"), "builtins.generator"),
    "function": (len, "builtins.builtin_function_or_method"),
    "class": (Base, "ItemMeta"),
    "memoryview": (memoryview(b"abcd")[::2], "builtins.memoryview"),
    "nan": (float("nan"), "float"),
    "inf": (float("-inf"), "float"),
    "decimal nan": (Decimal("NaN123"), "Decimal"),
    "decimal snan": (Decimal("sNaN"), "Decimal"),
    "huge int": (10**5000, "integer"),
    "negative huge int": (-(10**640), "integer"),
    "cycle": (cycle(), "contains itself"),
    "deep": (deep(), "nested"),
    "bomb": (bomb(), "32 MB"),
    "huge text": (["x" * 2**25, "x"], "32 MB"),
    "raising mapping": (Raising(), "LookupError"),
    "raising inside": ([Raising()], "LookupError"),
    "early": (datetime.min.replace(tzinfo=EAST), "years"),
    "late": (datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), "years"),
    "no zone": (datetime(2026, 1, 1, tzinfo=NoZone()), "ValueError"),
    "large float": (2.0**53, "2**53"),
    "large float inside": ([{"id": -1.823034723867714e18}], "2**53"),
    "finer than a float": (Fraction(1, 3), "fractions.Fraction"),
    "more than a text": (Tagged("x"), "test_identity.Tagged holds more than a str"),
    "more than a dict": (TaggedDict(a=1), "test_identity.TaggedDict holds more than a dict"),
}


@pytest.mark.parametrize("rule", [["id"], ["id", "platform"], None], ids=str)
@pytest.mark.parametrize("name", UNKEYED)
def test_values_without_encoding(name: str, rule: Any, warnings: Callable[[], list[str]]) -> None:
    """No value makes it raise; one warning names class, field and type, and not the value."""
    value, words = UNKEYED[name]
    settings = {} if rule is None else {"fields": rule}
    it = identifier(**settings)
    for form in ("item", "dataclass"):
        assert it.key(post(form, platform="x", id=value), None) is None
    found = [warning for warning in warnings() if "identified by all" not in warning]
    assert len(found) == 1
    assert "'id'" in found[0]
    assert "class Post" in found[0]
    assert words in found[0]
    assert SECRET not in found[0]
    assert len(found[0]) < 500


@pytest.mark.parametrize(
    "empty",
    [None, "", " \n\u3000", b"", bytearray(), [], (), set(), {}, [""], [None, [" "]], {"a": None},
     Enum("E", [("NO", "")]).NO, post("item"), post("dataclass", a=None)],
    ids=repr,
)  # fmt: skip
def test_empty_fields(empty: Any, warnings: Callable[[], list[str]]) -> None:
    """A missing or empty field of the identity leaves the post unkeyed, whatever the others are."""
    it = identifier(fields=["platform", "id"])
    assert it.key(post("item", platform="x", id=empty), None) is None
    assert it.key(post("dict", platform="x"), None) is None
    assert it.key(post("dict", platform="x", id=empty), None) is None
    of_post, of_dict, of_empty = warnings()
    assert "its field 'id' is missing or empty" in of_post
    assert "it has no field 'id'; its only field is 'platform'. " in of_dict
    assert "its field 'id' is missing or empty. " in of_empty
    assert key(post("item", a=empty, b=empty)) is None
    assert key(post("item", id="x"), identity=lambda *_: empty) is None
    assert key(post("item", id="x"), identity=lambda *_: ["x", empty]) is None


BLANKS = [
    *AS_WRITTEN,
    *IN_ANY_CASE,
    *map(str.upper, IN_ANY_CASE),
    "None",
    "[object Object]",
    " null ",
]


@pytest.mark.parametrize("blank", sorted(BLANKS))
def test_texts_that_stand_for_nothing(blank: str, warnings: Callable[[], list[str]]) -> None:
    """A text that programs write for a missing value identifies no post, whatever is made of it."""
    for value in (blank, [blank], [blank, "None", None, ""], (blank,), {blank}):
        for normaliser in ("", ":casefold", ":url", f":{__name__}.prefixed"):
            assert key({"id": value}, fields=[f"id{normaliser}"]) is None
        assert key({"id": 1}, identity=lambda *_, value=value: ["x", value]) is None
    assert key({"id": "7"}, fields=[f"id:{__name__}.nothing"]) is None
    assert key({"id": {"host": blank, "at": None}}, fields=["id"]) is None
    assert all("stand" in line and "for nothing" in line for line in warnings())
    for value in ([blank, 7], [blank, "x"], {"host": blank, "at": 7}):
        assert key({"id": value}, fields=["id"]) is not None
    # Where all fields count, a post whose text is "None" is not one without a text.
    assert key({"id": 1, "text": blank}) not in (None, key({"id": 1}), key({"id": 1, "text": "x"}))


def prefixed(value: Any) -> Any:
    """A user's normaliser."""
    return f"id of {value}"


def nothing(_: Any) -> str:
    """A user's normaliser that has turned a missing value into a text."""
    return str(None)


@pytest.mark.parametrize(
    "name", ["Nan", "Nat", "NA", "na", "nonesuch", "Nullable", "unknown", "0", "-", "7e10", "1.5"]
)
def test_names_that_look_like_nothing(name: str) -> None:
    """What may well be somebody's name, or an id, identifies a post."""
    assert key({"id": name}, fields=["id"]) is not None


@pytest.mark.parametrize(
    "text",
    [
        "1.823034723867714e+18",
        "1.82303E+18",
        "1.8230347238677138E18",
        "1e+18",
        "1823034723867713800.0",
    ],
)
def test_texts_of_large_floats(text: str, warnings: Callable[[], list[str]]) -> None:
    """An id that was once a float has lost digits: as a text, too, it identifies no post."""
    assert key({"id": text}, fields=["id"]) is None
    assert key({"id": [text]}, fields=["id"]) is None
    assert key({}, identity=lambda *_: text) is None
    assert "lost digits" in warnings()[0]
    assert text not in warnings()[0]


@pytest.mark.parametrize("value", ["p1", 7, b"x", {"a": 1}, NOON, True], ids=repr)
def test_a_list_of_one(value: Any) -> None:
    """A list of one member, as item loaders make of every field, counts as that member."""
    for fields in (["id"], None):
        assert key({"id": [value]}, fields=fields) == key({"id": value}, fields=fields)
        assert key({"id": (value,)}, fields=fields) == key({"id": value}, fields=fields)
        assert key({"id": [value, value]}, fields=fields) != key({"id": value}, fields=fields)
    assert key({}, identity=lambda *_: [[value]]) == key({}, identity=lambda *_: value)
    assert key({"id": ["P1 "]}, fields=["id:casefold"]) == key({"id": "p1"}, fields=["id"])


@pytest.mark.parametrize("name", NORMALISERS)
def test_normalisers_make_nothing_of_nothing(name: str) -> None:
    """An empty field stays empty under every normaliser, alone and in a list."""
    for empty in (None, "", " \u3000", [], ["", None]):
        assert key(post("item", it=empty), fields=[f"it:{name}"]) is None


@pytest.mark.parametrize("zero", [0, 0.0, False, "0", b"\0", [0], {"a": 0}], ids=repr)
def test_zero_is_a_value(zero: Any) -> None:
    """Zero and False identify a post."""
    assert key(post("item", id=zero), fields=["id"]) is not None


def test_texts_that_are_odd_or_huge() -> None:
    """A lone surrogate, a NUL, ten megabytes and a million marks have keys, and soon."""
    texts = ["\ud800", "\udc00", "a\0b", "a", "x" * 10_000_000, "\u0301\u0316" * 500_000]
    began = clock.process_time()
    keys = {key(post("item", id=text), fields=["id"]) for text in texts}
    assert None not in keys
    assert len(keys) == len(texts)
    assert clock.process_time() - began < 5


@pytest.mark.parametrize("value", ["1E+999999999", "1E-999999999", "-1.5E-6000", "9" * 100_000])
def test_numbers_that_are_huge(value: str) -> None:
    """A Decimal of any exponent has a key, and soon."""
    began = clock.process_time()
    assert digest("Post", Decimal(value))
    assert clock.process_time() - began < 1


def failing(*_: Any) -> Any:
    """A user's function that fails with a value in its message."""
    raise KeyError(SECRET)


def test_failing_functions(warnings: Callable[[], list[str]]) -> None:
    """A failing function is named with error, file and line, not with the error's message."""
    item = post("item", id="x")
    assert key(item, identity=failing) is None
    assert key(item, identity=lambda *_: Unknown()) is None
    assert key(item, identity=lambda *_: None) is None
    assert key(item, identity=lambda *_: []) is None
    assert key(item, fields=[f"id:{__name__}.failing"]) is None
    assert key(post("item", id=1.5), fields=["id:url"]) is None
    assert key(post("item", id=f"http://[{SECRET}"), fields=["id:url"]) is None
    found = warnings()
    assert len(found) == 7
    assert "its field 'id': the normaliser 'url' cannot read this text" in found[6]
    assert "function in VALKEY_DEDUP_IDENTITY failed: KeyError was raised in" in found[0]
    assert __file__ in found[0]
    assert "test_identity.Unknown has no encoding" in found[1]
    assert "VALKEY_DEDUP_IDENTITY returned nothing" in found[2]
    assert "VALKEY_DEDUP_IDENTITY returned nothing" in found[3]
    assert "its field 'id': KeyError was raised in" in found[4]
    assert (
        "its field 'id': the normaliser 'url' takes texts and integers, and was given a "
        "builtins.float" in found[5]
    )
    assert not any(SECRET in warning for warning in found)


def test_items_that_fail(warnings: Callable[[], list[str]]) -> None:
    """Items whose attributes raise, and what is no item at all, leave the crawl alone."""

    @dataclasses.dataclass
    class Post:
        id: str

        def __getattribute__(self, name: str) -> Any:
            if name == "id":
                raise LookupError(SECRET)
            return super().__getattribute__(name)

    assert key(Post("x"), fields=["id"]) is None
    assert key(Post("x")) is None
    assert key(object()) is None
    assert key(None) is None
    assert key("text", fields=["id"]) is None
    found = [warning for warning in warnings() if "identified by all" not in warning]
    assert len(found) == 5
    assert not any(SECRET in warning for warning in warnings())


def test_wrong_metadata(warnings: Callable[[], list[str]]) -> None:
    """An unknown normaliser in the metadata of a field is named, with those that there are."""
    assert key(class_of("item", "Post", {"id": "uri"})(id="x")) is None
    (warning,) = warnings()
    assert "its field 'id' is declared with dedup='uri'" in warning
    assert "there are strip, casefold" in warning


def test_warnings_are_bounded(warnings: Callable[[], list[str]]) -> None:
    """One warning for each class and reason, and never more than a hundred."""
    it = identifier()
    for _ in range(50):
        it.key(post("dict"), None)
    assert len(warnings()) == 2  # that all fields count, and that none has a value
    for number in range(1000):
        it.key({f"field{number}": Unknown()}, None)
    assert len(warnings()) == 100
    assert it.key({"a": 1}, None) is not None


@pytest.mark.parametrize("author", [None, "a text", 7, {}])
def test_a_path_that_leads_nowhere_is_an_empty_field(
    author: Any, warnings: Callable[[], list[str]]
) -> None:
    """A field inside of what is no item is missing, and is told as such."""
    assert key({"author": author}, fields=["author.id"]) is None
    assert "its field 'author.id' is missing or empty" in warnings()[-1]


def test_a_dict_that_cannot_be_looked_at(warnings: Callable[[], list[str]]) -> None:
    """To word the warning must not raise what the user's own dict raises: the post is stored."""

    class Lazy(dict[str, Any]):
        def __contains__(self, name: object) -> bool:
            raise LookupError(name)

    assert identifier(fields=["platform", "id"]).key(Lazy(id=1), None) is None
    assert "its field 'platform' is missing or empty" in warnings()[0]
