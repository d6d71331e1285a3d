"""The laws of the normalisers: what they make one, and what they must leave apart."""

from __future__ import annotations

import time
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scrapy_valkey_dedup.normalise import NORMALISERS, TRACKING_PARAMETERS, compose, normal_form
from tests.item_forms import key, post

TEXTS = st.text(max_size=30)
HOSTS = st.sampled_from(
    ["example.com", "EXAMPLE.com:8080", "bücher.example", "u:P@ex.com", "[::1]"]
)
PARTS = st.text(
    st.sampled_from("aZ09~-._!$&'()*+,;=:@%/?#[]|\\^`{}<>\" é中\0\t") | st.characters(), max_size=12
)
NAMES = st.sampled_from([*TRACKING_PARAMETERS, "utm%5Fsource", "id", "b", "a", "", "é"])
QUERIES = st.lists(st.tuples(NAMES, PARTS).map("=".join) | PARTS, max_size=4).map("&".join)
URLS = st.builds("{}://{}/{}?{}#{}".format, st.just("https"), HOSTS, PARTS, QUERIES, PARTS)


def url(text: str) -> str:
    """What the ``url`` normaliser makes of it."""
    return NORMALISERS["url"](text)


@given(TEXTS)
@example("\u1fb3\u0345 \u0130\ufb03")
@example("\u00a8\u200b\u00b4")
def test_normal_texts_stay_as_they_are(text: str) -> None:
    """Every normaliser leaves alone what it has normalised."""
    for name in set(NORMALISERS) - {"url"}:
        once = NORMALISERS[name](text)
        assert NORMALISERS[name](once) == once


@given(URLS)
@example("https://example.com/?a=1&fbclid\0")
@example("https://example.com/?utm%5Fsource=1")
def test_normal_urls_stay_as_they_are(text: str) -> None:
    """``url`` leaves alone what it has normalised."""
    try:
        once = url(text)
    except ValueError:
        return
    assert url(once) == once


@given(TEXTS | URLS | PARTS)
@example("http://[")
@example("http://h:port/")
@example("http://a..b/%zz%")
@example("//")
@example("\0")
def test_junk_harms_nobody(text: str) -> None:
    """Whatever stands in a field, the identifier returns a key or None."""
    for name in NORMALISERS:
        found = key(post("dict", it=text), fields=[f"it:{name}"])
        assert found is None or len(found) == 16


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("HTTPS://WWW.Example.COM/Watch?v=dQw4w9WgXcQ", "https://www.example.com/Watch?v=dQw4w9WgXcQ"),
        ("  https://example.com/a\n", "https://example.com/a"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("http://example.com:443/a", "http://example.com:443/a"),
        ("https://example.com:/a", "https://example.com/a"),
        ("https://example.com/a#comments", "https://example.com/a"),
        ("https://example.com/a?b=2&a=1", "https://example.com/a?a=1&b=2"),
        ("https://example.com/a?x=2&x=1", "https://example.com/a?x=1&x=2"),
        ("https://example.com/a?utm_source=x&id=7&fbclid=y&gclid=z", "https://example.com/a?id=7"),
        ("https://example.com/a?utm_source=x#b", "https://example.com/a"),
        ("https://example.com/a?q", "https://example.com/a?q="),
        ("https://example.com/%c3%A9", "https://example.com/%C3%A9"),
        ("https://example.com/é", "https://example.com/%C3%A9"),
        ("https://example.com/%7Ea", "https://example.com/~a"),
        ("https://example.com/a b?c=d e", "https://example.com/a%20b?c=d+e"),
        ("https://example.com/a;v=1?b=1;c=2", "https://example.com/a;v=1?b=1%3Bc%3D2"),
        ("https://BÜCHER.example/a", "https://xn--bcher-kva.example/a"),
        ("https://Ann:Pw@Example.com/a", "https://Ann:Pw@example.com/a"),
        ("/a?fbclid=x", "/a"),
        ("/", "/"),
        (" ", ""),
        ("#comments", ""),
    ],
)  # fmt: skip
def test_urls(text: str, becomes: str) -> None:
    """Well-known spellings of one URL become one."""
    assert url(text) == becomes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.com/p/AbC", "https://example.com/p/abc"),
        ("https://example.com/?v=AbC", "https://example.com/?v=abc"),
        ("https://example.com/a", "https://example.com/a/"),
        ("https://example.com/a", "http://example.com/a"),
        ("https://example.com/a", "https://www.example.com/a"),
        ("https://example.com/?id=1", "https://example.com/?id=2"),
        ("https://example.com/?id=1", "https://example.com/?id=1&id=1"),
        ("https://example.com/?ref=1", "https://example.com/?ref=2"),
        ("https://example.com/?t=1", "https://example.com/?t=2"),
        ("https://example.com/?UTM_SOURCE=1", "https://example.com/"),
        ("https://example.com/a%2Fb", "https://example.com/a/b"),
        ("https://example.com/a//b", "https://example.com/a/b"),
        ("https://example.com:8080/a", "https://example.com/a"),
        ("https://Ann@example.com/a", "https://ann@example.com/a"),
    ],
)
def test_urls_of_different_posts(one: str, other: str) -> None:
    """What may lead to another post stays apart: ids keep their case."""
    assert url(one) != url(other)


@pytest.mark.parametrize("name", TRACKING_PARAMETERS)
def test_tracking_parameters(name: str) -> None:
    """Every tracking parameter goes, wherever it stands and however often."""
    marked = f"https://example.com/a?{name}=1&b=2&{name}&{name}=3"
    assert url(marked) == "https://example.com/a?b=2"


@pytest.mark.parametrize(
    ("name", "text", "becomes"),
    [
        ("strip", "\u3000 a b \n", "a b"),
        ("casefold", "Straße", "strasse"),
        ("casefold", " A ", " a "),
        ("nfkc", "ﬁ\uff21①", "fiA1"),
        ("digits", "No. 1 234,56", "123456"),
        ("digits", "\uff11²", "12"),
        ("digits", "none", ""),
        ("text", "  Hello,\u00a0\n WORLD ", "hello, world"),
        ("text", "he\u00adl\u200blo\ufeff", "hello"),
        ("text", "ﬁ", "fi"),
    ],
)
def test_texts(name: str, text: str, becomes: str) -> None:
    """Well-known spellings of one text become one."""
    assert NORMALISERS[name](text) == becomes


@given(st.text(st.characters() | st.sampled_from("\u0301\u0316\u0345\u0f73")))
def test_normal_form_is_unicodes(text: str) -> None:
    """Texts of any language get Unicode's normal form."""
    for form in ("NFC", "NFKC"):
        assert normal_form(form, text) == unicodedata.normalize(form, text)


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0f73", "\uff9e\u0316", "\u0344\u0316"])
def test_a_million_marks_take_no_time(marks: str) -> None:
    """A run of marks that no language has is left as it is: to sort it would take minutes."""
    text = "a" + marks * 200_000
    began = time.monotonic()
    assert normal_form("NFKC", text) == text
    assert normal_form("NFC", text) == text
    NORMALISERS["text"](text)
    assert time.monotonic() - began < 5


# -- composition -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        (" A ", "a"),
        (7, "7"),
        ([" A", ["B "], 7], ["a", ["b"], "7"]),
        ((" A", "B"), ["a", "b"]),
        ({" A", "a"}, {"a"}),
        (None, None),
        (["A", None], ["a", None]),
    ],
)
def test_texts_integers_and_collections(value: Any, becomes: Any) -> None:
    """A normaliser of text takes texts and integers, alone or in lists and sets."""
    assert compose(["text"])(value) == becomes


@pytest.mark.parametrize("value", [1.5, b"a", True, {"a": "b"}, object()])
def test_other_types_are_refused(value: Any) -> None:
    """A normaliser of text does not guess what text another type might mean."""
    with pytest.raises(TypeError, match=f"was given a {type(value).__name__}"):
        compose(["text"])(value)


def test_the_first_name_is_applied_first() -> None:
    """Several normalisers are applied in the order of their names."""
    assert compose(["digits", "tests.test_normalise.doubled"])("a1") == "11"
    assert compose(["tests.test_normalise.doubled", "digits"])("a1") == "11"
    assert compose(["tests.test_normalise.doubled", "tests.test_normalise.first"])("ab") == "a"
    assert compose(["tests.test_normalise.first", "tests.test_normalise.doubled"])("ab") == "aa"


def doubled(value: str) -> str:
    """A user's normaliser."""
    return value * 2


def first(value: str) -> str:
    """Another one."""
    return value[0]


def test_import_paths() -> None:
    """A function of the user's is given the value as it is."""
    assert compose(["builtins.repr"])(None) == "None"
    assert compose(["builtins.len"])([1, 2]) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("uri", "there are strip, casefold, nfkc, digits, text, url, or an import path"),
        ("", "no normaliser is called ''"),
        ("no.such.module", "cannot be imported: No module named 'no'"),
        ("math.no_such_name", "cannot be imported"),
        ("math.pi", "'math.pi' is not a function"),
        ("tests.in_reactor.no_such", "cannot be imported"),
    ],
)
def test_wrong_names(name: str, words: str) -> None:
    """A wrong name is refused with the name and what would be right."""
    with pytest.raises(ValueError, match="normaliser") as caught:
        compose(["strip", name])
    assert words in str(caught.value)


def test_modules_that_fail_are_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that fails in any way while it is imported is a wrong name like others."""
    (tmp_path / "failing_module.py").write_text("raise KeyError('x')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"'failing_module\.f' cannot be imported"):
        compose(["failing_module.f"])
