"""The named normalisers of identity fields: each maps a text to the text that identifies it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, reduce
from itertools import groupby
from types import MappingProxyType
from typing import Any, Literal, cast

from scrapy.utils.misc import load_object

from scrapy_valkey_dedup.identity.characters import decimal_digits, without_invisible
from scrapy_valkey_dedup.identity.links import link_normaliser
from scrapy_valkey_dedup.identity.third_party import builtin_value
from scrapy_valkey_dedup.model import UnkeyedError

Normaliser = Callable[[Any], Any]

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
    return decimal_digits(_nfkc(text))


def _text(text: str) -> str:
    # NFKC once more at the end: case folding can leave it (e.g. U+0345).
    folded = _nfkc(_nfkc(without_invisible(text)).casefold())
    return _SPACE.sub(" ", folded).strip()


NORMALISERS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "strip": str.strip,
        "casefold": str.casefold,
        "nfkc": _nfkc,
        "digits": _digits,
        "text": _text,
        "url": link_normaliser({}),
    }
)


def normalisers(
    tracking_parameters: Mapping[str, Iterable[str]],
) -> Mapping[str, Callable[[str], str]]:
    """:data:`NORMALISERS`, with the user's own tracking parameters for ``url``."""
    if not tracking_parameters:
        return NORMALISERS
    return MappingProxyType({**NORMALISERS, "url": link_normaliser(tracking_parameters)})


def _on_text(name: str, normaliser: Callable[[str], str]) -> Normaliser:
    """Applies to texts, to integers by their decimal text, to each member of a list or a set."""

    def apply(value: Any) -> Any:
        if isinstance(value, str):
            try:
                return normaliser(value)
            except ValueError:  # its message may hold the text
                raise UnkeyedError(f"the normaliser {name!r} cannot read this text") from None
        if isinstance(value, int) and not isinstance(value, bool):
            return normaliser(str(value))
        if isinstance(value, (list, tuple)):
            return [apply(member) for member in value]
        if isinstance(value, (set, frozenset)):
            return {apply(member) for member in value}
        if value is None:
            return None
        known = None if isinstance(value, bool) else builtin_value(value)
        if isinstance(known, (str, int)) and not isinstance(known, bool):
            return apply(known)  # it was another library's
        cls = type(value)
        raise UnkeyedError(
            f"the normaliser {name!r} takes texts and integers, and was given a "
            f"{cls.__module__}.{cls.__qualname__}"
        )

    return apply


def compose(
    names: list[str], known: Mapping[str, Callable[[str], str]] = NORMALISERS
) -> Normaliser:
    """Returns one function for several names, the first applied first.

    A name is one of ``known`` or the import path of a function of one argument.

    Raises:
        ValueError: a name is neither; the message names it and what would be right.

    """

    def find(name: str) -> Normaliser:
        if name in known:
            return _on_text(name, known[name])
        if "." not in name:
            listed = ", ".join(known)
            raise ValueError(
                f"no normaliser is called {name!r}; there are {listed}, or an import path"
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
