"""The named normalisers of identity fields: each maps a text to the text that identifies it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, reduce
from itertools import groupby
from typing import Any, Literal, cast
from urllib.parse import SplitResult, urlsplit, urlunsplit

from scrapy.utils.misc import load_object
from w3lib.url import canonicalize_url, url_query_cleaner

Normaliser = Callable[[Any], Any]

# Parameters that name where a click came from, never what it leads to. A name that some site uses
# for content ("ref", "s", "t", "si") is not among them: two posts must never become one.
# fmt: off
TRACKING_PARAMETERS = (
    "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id", "utm_name",
    "utm_reader", "utm_brand", "utm_social", "utm_social-type", "utm_source_platform",
    "utm_creative_format", "utm_marketing_tactic", "fbclid", "gclid", "gclsrc", "dclid",
    "gbraid", "wbraid", "msclkid", "yclid", "twclid", "ttclid", "li_fat_id", "igshid", "igsh",
    "mc_cid", "mc_eid", "mkt_tok", "_hsenc", "_hsmi", "hsa_cam", "hsa_grp", "hsa_mt", "hsa_src",
    "hsa_ad", "hsa_acc", "hsa_net", "hsa_kw", "hsa_tgt", "hsa_ver", "oly_anon_id", "oly_enc_id",
    "vero_id", "vero_conv", "wickedid", "_openstat", "rb_clickid", "s_cid", "ml_subscriber",
    "ml_subscriber_hash", "_ga", "_gl",
)
# fmt: on

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ZERO_WIDTH = re.compile("[\u200b-\u200d\u2060\ufeff\u00ad]")
_NOT_DIGITS = re.compile("[^0-9]+")
_SPACE = re.compile(r"\s+")
_LONGEST_RUN = 100  # marks on one letter; Unicode's stream-safe format allows 30


def normal_form(form: Literal["NFC", "NFKC"], text: str) -> str:
    """The text in a Unicode normal form; as it is, if it has more marks in a row than language has.

    CPython sorts a run of marks in quadratic time: a hundred thousand would stop the crawl for
    seconds, and a stranger may write them.
    """
    if text.isascii() or unicodedata.is_normalized(form, text):
        return text
    if len(text) > _LONGEST_RUN and _longest_run(text) > _LONGEST_RUN:
        return text
    return unicodedata.normalize(form, text)


def _longest_run(text: str) -> int:
    runs = groupby(map(_is_mark, text))
    return max(sum(1 for _ in run) if marks else 0 for marks, run in runs)


@lru_cache(maxsize=4096)
def _is_mark(character: str) -> bool:
    """Whether it is a combining mark, or becomes one when it is normalised."""
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) != 0


def _nfkc(text: str) -> str:
    return normal_form("NFKC", text)


def _digits(text: str) -> str:
    return _NOT_DIGITS.sub("", _nfkc(text))


def _text(text: str) -> str:
    # NFKC once more at the end: case folding can leave it (e.g. U+0345).
    folded = _nfkc(_nfkc(_ZERO_WIDTH.sub("", text)).casefold())
    return _SPACE.sub(" ", folded).strip()


def _host(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    if parts.port is not None and parts.port == _DEFAULT_PORTS.get(parts.scheme):
        host = host.rpartition(":")[0]
    return user + at + host.lower()


def _url(text: str) -> str:
    """w3lib's canonical form; the path keeps its case, as ids live there.

    A semicolon in the query and a backslash in the path are written as w3lib 2.5 reads them:
    older versions read them otherwise, and an update must not forget what is stored.
    """
    parts = urlsplit(text.strip())
    if not any(parts[:4]):
        return ""  # no text, or a fragment alone: w3lib would make the "/" of a site of it
    path = parts.path.replace("\\", "/") if parts.scheme in _DEFAULT_PORTS else parts.path
    query = parts.query.replace(";", "%3B")
    plain = parts._replace(netloc=_host(parts), path=path, query=query)
    canonical = canonicalize_url(urlunsplit(plain))
    return url_query_cleaner(canonical, TRACKING_PARAMETERS, remove=True, unique=False)


NORMALISERS: dict[str, Callable[[str], str]] = {
    "strip": str.strip,
    "casefold": str.casefold,
    "nfkc": _nfkc,
    "digits": _digits,
    "text": _text,
    "url": _url,
}


def _on_text(normaliser: Callable[[str], str]) -> Normaliser:
    """Applies to texts, to integers by their decimal text, to each member of a list or a set."""

    def apply(value: Any) -> Any:
        if isinstance(value, str):
            return normaliser(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return normaliser(str(value))
        if isinstance(value, (list, tuple)):
            return [apply(member) for member in value]
        if isinstance(value, (set, frozenset)):
            return {apply(member) for member in value}
        if value is None:
            return None
        raise TypeError(f"a normaliser of text was given a {type(value).__name__}")

    return apply


def compose(names: list[str]) -> Normaliser:
    """Returns one function for several names, the first applied first.

    A name is one of :data:`NORMALISERS` or the import path of a function of one argument.

    Raises:
        ValueError: a name is neither; the message names it and what would be right.

    """

    def find(name: str) -> Normaliser:
        if name in NORMALISERS:
            return _on_text(NORMALISERS[name])
        known = ", ".join(NORMALISERS)
        if "." not in name:
            raise ValueError(
                f"no normaliser is called {name!r}; there are {known}, or an import path"
            )
        try:
            function = load_object(name)
        except Exception as error:  # an import may run any code
            raise ValueError(f"the normaliser {name!r} cannot be imported: {error}") from error
        if not callable(function):
            raise ValueError(f"the normaliser {name!r} is not a function")  # noqa: TRY004
        return cast("Normaliser", function)

    functions = [find(name) for name in names]
    if len(functions) == 1:
        return functions[0]
    return lambda value: reduce(lambda result, function: function(result), functions, value)
