"""The laws of the normalisers: what they make one, and what they must leave apart."""

from __future__ import annotations

import sys
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scrapy_valkey_dedup.identity.characters import INVISIBLE
from scrapy_valkey_dedup.identity.links import (
    HOST_PARAMETERS,
    SITE_PARAMETERS,
    TRACKING_PARAMETERS,
    parse_tracking,
)
from scrapy_valkey_dedup.identity.normalise import NORMALISERS, compose, normal_form, normalisers
from scrapy_valkey_dedup.model import UnkeyedError
from tests.support.item_forms import class_of, key, post

TEXTS = st.text(max_size=30)
HOSTS = st.sampled_from(
    [
        "example.com",
        "www.youtube.com",
        "x.com",
        "EXAMPLE.com:8080",
        "bücher.example",
        "u:P@ex.com",
        "[::1]",
    ]
)
PARTS = st.text(
    st.sampled_from("aZ09~-._!$&'()*+,;=:@%/?#[]|\\^`{}<>\" é中\0\t") | st.characters(), max_size=12
)
TRACKING = [name.replace("*", "x") for name in TRACKING_PARAMETERS]
NAMES = st.sampled_from([*TRACKING, "utm%5Fsource", "__cft__[0]", "id", "b", "a", "amp;b", "", "é"])
INVISIBLES = st.sampled_from("\u200b\u200d\ufe0f\u00ad\U000e0067\U000e007f")
EMOJI = st.sampled_from("\U0001f469\U0001f467\U0001f3f4\u2764\U0001f525\u2194\U0001f130a\u0301")
QUERIES = st.lists(st.tuples(NAMES, PARTS).map("=".join) | PARTS, max_size=4).map("&".join)
FRAGMENTS = PARTS | PARTS.map("!/{}".format) | PARTS.map("/{}".format)
URLS = st.builds("{}://{}/{}?{}#{}".format, st.just("https"), HOSTS, PARTS, QUERIES, FRAGMENTS)


def flag(region: str) -> str:
    """The flag of a part of a country: a black flag, and the region in invisible letters."""
    return "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"


def url(text: str) -> str:
    """What the ``url`` normaliser makes of it."""
    return NORMALISERS["url"](text)


@given(TEXTS | st.lists(INVISIBLES | EMOJI, max_size=8).map("".join))
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
        ("https://example.com/?pk_id=1", "https://example.com/?pk_id=2"),
        ("https://example.com/?img_index=1", "https://example.com/?img_index=2"),
        ("https://example.com/?rdt=1", "https://example.com/?rdt=2"),
        ("https://example.com/#!/post/7", "https://example.com/#!/post/8"),
        ("https://example.com/#/post/7", "https://example.com/#/post/8"),
        ("https://example.com/?p=1&#038;id=2", "https://example.com/?p=1&#038;id=3"),
        ("https://example.com/a%2Fb", "https://example.com/a/b"),
        ("https://example.com/a//b", "https://example.com/a/b"),
        ("https://example.com:8080/a", "https://example.com/a"),
        ("https://Ann@example.com/a", "https://ann@example.com/a"),
    ],
)
def test_urls_of_different_posts(one: str, other: str) -> None:
    """What may lead to another post stays apart: ids keep their case."""
    assert url(one) != url(other)


@pytest.mark.parametrize("name", [*TRACKING, "__cft__[0]", "utm_%61ny"])
def test_tracking_parameters(name: str) -> None:
    """Every tracking parameter goes, wherever it stands, however often and in whatever case."""
    for written in (name, name.upper()):
        marked = f"https://example.com/a?{written}=1&b=2&{written}&{written}=3"
        assert url(marked) == "https://example.com/a?b=2"


@pytest.mark.parametrize(("site", "names"), [*SITE_PARAMETERS.items(), *HOST_PARAMETERS.items()])
def test_parameters_of_a_site(site: str, names: tuple[str, ...]) -> None:
    """What one site writes into shared links goes there and on its subdomains, and nowhere else."""
    for name in names:
        for host in (site, f"www.{site}", site.upper(), f"{site}:443", f"{site}."):
            assert url(f"https://{host}/a?{name}=1&b=2") == url(f"https://{host}/a?b=2")
        for host in (f"not{site}", f"{site}.example"):
            assert url(f"https://{host}/a?{name}=1") != url(f"https://{host}/a")
        on_a_blog = url(f"https://blog.{site}/a?{name}=1") != url(f"https://blog.{site}/a")
        assert on_a_blog == (site in HOST_PARAMETERS)


# Links as the sites themselves make them when a post is shared.
SAME = {
    "YouTube": [
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=42s",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ&feature=youtu.be",
        "https://www.youtube.com/watch?feature=shared&v=dQw4w9WgXcQ",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ&pp=ygUJcmljayByb2xs",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ&amp;si=Ab3xYz",
    ],
    "youtu.be": [
        "https://youtu.be/dQw4w9WgXcQ",
        "https://youtu.be/dQw4w9WgXcQ?si=Ab3xYz-12345",
        "https://youtu.be/dQw4w9WgXcQ?t=42&si=Ab3xYz",
    ],
    "X": [
        "https://x.com/nasa/status/1823034723867713700",
        "https://x.com/nasa/status/1823034723867713700?s=20",
        "https://x.com/nasa/status/1823034723867713700?s=46&t=Xk3_aB9",
        "https://x.com/nasa/status/1823034723867713700?ref_src=twsrc%5Etfw%7Ctwcamp%5Etweetembed&ref_url=https%3A%2F%2Fnews.example%2F1",
    ],
    "Instagram": [
        "https://www.instagram.com/p/CxYzAbC/",
        "https://www.instagram.com/p/CxYzAbC/?img_index=3",
        "https://www.instagram.com/p/CxYzAbC/?igsh=MzRlODBiNWFlZA==&img_index=1",
        "https://www.instagram.com/p/CxYzAbC/?utm_source=ig_web_copy_link&igshid=NTc4",
    ],
    "Facebook": [
        "https://www.facebook.com/permalink.php?story_fbid=pfbid02abc&id=100044",
        "https://www.facebook.com/permalink.php?story_fbid=pfbid02abc&id=100044&mibextid=Nif5oz",
        "https://www.facebook.com/permalink.php?id=100044&story_fbid=pfbid02abc&__cft__[0]=AZX&__tn__=%2CO%2CP-R",
        "https://www.facebook.com/permalink.php?story_fbid=pfbid02abc&amp;id=100044&amp;rdid=Jk3",
    ],
    "TikTok": [
        "https://www.tiktok.com/@cook/video/7234567890123456789",
        "https://www.tiktok.com/@cook/video/7234567890123456789?is_from_webapp=1&sender_device=pc&web_id=73",
        "https://www.tiktok.com/@cook/video/7234567890123456789?_r=1&_t=8gX",
    ],
    "Threads": [
        "https://www.threads.net/@zuck/post/CuXFPIeLLod",
        "https://www.threads.net/@zuck/post/CuXFPIeLLod?xmt=AQGz9&slof=1",
    ],
    "LinkedIn": [
        "https://www.linkedin.com/posts/ann_topic-activity-7123456789-aBcD",
        "https://www.linkedin.com/posts/ann_topic-activity-7123456789-aBcD?utm_source=share&utm_medium=member_desktop&rcm=ACoAA",
    ],
    "Reddit": [
        "https://www.reddit.com/r/scrapy/comments/1abcde/a_title/",
        "https://www.reddit.com/r/scrapy/comments/1abcde/a_title/?rdt=45678",
        "https://www.reddit.com/r/scrapy/comments/1abcde/a_title/?share_id=xY3&utm_name=ios",
    ],
    "news": [
        "https://news.example/2026/11/a-title?id=7",
        "https://news.example/2026/11/a-title?id=7&UTM_Source=feed&utm_any_thing=1",
        "https://news.example/2026/11/a-title?mtm_campaign=a&pk_kwd=b&id=7&srsltid=AfmB",
        "https://news.example/2026/11/a-title?id=7#comments",
        "https://news.example:443/2026/11/a-title?id=7&amp;utm_source=rss&#038;utm_medium=x",
    ],
}  # fmt: skip
DIFFERENT = [
    "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "https://www.youtube.com/watch?v=dQw4w9WgXcq",
    "https://www.youtube.com/watch?v=dQw4w9WgXcQ&lc=Ugx1",
    "https://www.youtube.com/watch?v=dQw4w9WgXcQ&list=PL1",
    "https://www.youtube.com/playlist?list=PL1",
    "https://www.youtube.com/playlist?list=PL2",
    "https://x.com/nasa/status/1823034723867713700",
    "https://x.com/nasa/status/1823034723867713701",
    "https://x.com/search?q=mars&f=live",
    "https://x.com/search?q=mars&f=top",
    "https://www.instagram.com/p/CxYzAbC/",
    "https://www.instagram.com/p/cXyZaBc/",
    "https://www.instagram.com/reel/CxYzAbC/",
    "https://www.facebook.com/permalink.php?story_fbid=1&id=2",
    "https://www.facebook.com/permalink.php?story_fbid=2&id=2",
    "https://www.facebook.com/permalink.php?story_fbid=1&id=3",
    "https://www.facebook.com/permalink.php?story_fbid=1&id=2&comment_id=9",
    "https://www.facebook.com/photo/?fbid=1&set=a.2",
    "https://www.tiktok.com/@cook/video/7234567890123456789",
    "https://www.tiktok.com/@cook/video/7234567890123456780",
    "https://www.reddit.com/r/scrapy/comments/1abcde/a_title/",
    "https://www.reddit.com/r/scrapy/comments/1abcde/a_title/k1/",
    "https://www.reddit.com/search?q=a&t=week",
    "https://www.reddit.com/search?q=a&t=year",
    "https://forum.example/viewtopic.php?t=5",
    "https://forum.example/viewtopic.php?t=6",
    "https://forum.example/?p=1&s=abc",
    "https://forum.example/?p=1&s=abd",
    "https://forum.example/?p=1&t=1",
    "https://forum.example/?p=1&si=1",
    "https://forum.example/?p=1&feature=1",
    "https://forum.example/?p=1&ref=1",
    "https://gallery.example/?img_index=1",
    "https://gallery.example/?img_index=2",
    "https://gallery.example/?utm=1",
    "https://gallery.example/?pk=1",
    "https://gallery.example/#!/album/1",
    "https://gallery.example/#!/album/2",
]


@pytest.mark.parametrize("site", SAME)
def test_links_that_were_shared(site: str) -> None:
    """However a post was shared, its link is one."""
    assert len({url(link) for link in SAME[site]}) == 1


def test_links_of_different_posts() -> None:
    """No two links to different posts, comments, lists or searches of real sites become one."""
    links = [*DIFFERENT, *(links[0] for links in SAME.values())]
    assert len({url(link) for link in links}) == len(set(links))


def test_parameters_of_the_users_own() -> None:
    """The user's own parameters go: everywhere, by their beginning, or on one site alone."""

    def own(value: Any, link: str) -> str:
        return normalisers(parse_tracking(value))["url"](link)

    assert own(["ref", "c_*"], "https://a.example/?id=1&REF=2&c_x=3&refs=4") == (
        "https://a.example/?id=1&refs=4"
    )
    assert own("ref, from", "https://a.example/?id=1&from=2&ref=1") == "https://a.example/?id=1"
    by_site = {"*": ["ref"], "News.example": ["s"], "x.com": ["q"]}
    assert own(by_site, "https://m.news.example/?id=1&s=2&ref=3") == "https://m.news.example/?id=1"
    assert own(by_site, "https://a.example/?s=2&ref=3") == "https://a.example/?s=2"
    assert own(by_site, "https://x.com/a?q=1&s=2&t=3") == "https://x.com/a"
    assert own(None, "https://a.example/?ref=1&utm_id=2") == "https://a.example/?ref=1"
    found = {
        key({"url": f"https://a.example/?ref={n}"}, fields=["url:url"], tracking_parameters="ref")
        for n in range(3)
    }
    assert found == {key({"url": "https://a.example/"}, fields=["url"])}
    marked = class_of("dataclass", "Post", {"url": "url"})
    found = {
        key(marked(f"https://a.example/?ref={n}"), tracking_parameters=["ref"]) for n in range(3)
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (7, "write a list of names"),
        ([7], "write a text"),
        (["a=1"], "'a=1' is not the name of a parameter"),
        (["*"], "'\\*' is not the name of a parameter"),
        ({"https://a.example/": ["a"]}, "is not a host: write one such as"),
        ('["a"', "not valid JSON"),
    ],
)
def test_wrong_parameters(value: Any, words: str) -> None:
    """What names no parameter is refused, with what would be right; ``*`` alone would name all."""
    with pytest.raises(ValueError, match=words):
        parse_tracking(value)


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
        ("digits", "#7-\u06f1\u06f0\u06f1", "7101"),
        ("digits", "\u0967\u0968\u0969 and \U0001e957 and \U0001d7d8", "12370"),
        ("text", "  Hello,\u00a0\n WORLD ", "hello, world"),
        ("text", "he\u00adl\u200blo\ufeff", "hello"),
        ("text", "ﬁ", "fi"),
        ("text", "a\u180e\u2066b\u2069\u200f\ufe0f\U000e0020\u3164c", "abc"),
        ("text", "\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u062e"),
        ("text", "\u2764\ufe0f", "\u2764"),
    ],
)
def test_texts(name: str, text: str, becomes: str) -> None:
    """Well-known spellings of one text become one."""
    assert NORMALISERS[name](text) == becomes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\U0001f469\u200d\U0001f467", "\U0001f469\U0001f467"),  # a family, a woman and a girl
        ("\U0001f43b\u200d\u2744\ufe0f", "\U0001f43b\u2744\ufe0f"),  # a polar bear, a bear in snow
        ("\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f3f3\ufe0f\U0001f308"),  # one flag, a flag
        ("\U0001f642\u200d\u2194\ufe0f", "\U0001f642\u2194\ufe0f"),  # a shaken head
        (flag("gbeng"), flag("gbsct")),  # England, Scotland
    ],
)
def test_texts_of_different_posts(one: str, other: str) -> None:
    """An invisible character that makes another emoji stays: two posts must never become one."""
    assert NORMALISERS["text"](f"{one} 1:0") != NORMALISERS["text"](f"{other} 1:0")


def test_every_decimal_digit_counts() -> None:
    """Every decimal digit that this Python knows counts as its value."""
    digits = [chr(point) for point in range(sys.maxunicode) if chr(point).isdecimal()]
    assert len(digits) > 600
    for digit in digits:
        assert NORMALISERS["digits"](f"a{digit}b") == str(unicodedata.decimal(digit))


def test_every_invisible_character_goes() -> None:
    """Unicode's invisible characters go, those that turn the direction among them; letters stay."""
    points = [point for first, last in INVISIBLE for point in range(first, last + 1)]
    assert NORMALISERS["text"]("a" + "".join(map(chr, points)) + "b") == "ab"
    invisible = set(map(chr, points))
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for character in map(chr, range(sys.maxunicode)):
        if unicodedata.bidirectional(character) in turning:
            assert character in invisible
        if unicodedata.category(character)[0] in "LNPS" and "FILLER" not in unicodedata.name(
            character, ""
        ):
            assert character not in invisible


@given(st.text(st.characters() | st.sampled_from("\u0301\u0316\u0345\u0f73")))
def test_normal_form_is_unicodes(text: str) -> None:
    """Texts of any language get Unicode's normal form."""
    for form in ("NFC", "NFKC"):
        assert normal_form(form, text) == unicodedata.normalize(form, text)


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0f73", "\uff9e\u0316", "\u0344\u0316"])
def test_a_million_marks_take_no_time(marks: str) -> None:
    """A run of marks that no language has is left as it is: to sort it would take minutes."""
    text = "a" + marks * 200_000
    began = time.process_time()
    assert normal_form("NFKC", text) == text
    assert normal_form("NFC", text) == text
    NORMALISERS["text"](text)
    assert time.process_time() - began < 5


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
    with pytest.raises(UnkeyedError, match=f"'text' .* given a builtins.{type(value).__name__}"):
        compose(["text"])(value)


def test_the_first_name_is_applied_first() -> None:
    """Several normalisers are applied in the order of their names."""
    assert compose(["digits", "tests.identity.test_normalise.doubled"])("a1") == "11"
    assert compose(["tests.identity.test_normalise.doubled", "digits"])("a1") == "11"
    assert (
        compose(["tests.identity.test_normalise.doubled", "tests.identity.test_normalise.first"])(
            "ab"
        )
        == "a"
    )
    assert (
        compose(["tests.identity.test_normalise.first", "tests.identity.test_normalise.doubled"])(
            "ab"
        )
        == "aa"
    )


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
