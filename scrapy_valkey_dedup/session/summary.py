"""The line at the end of a run: how many posts and pages came, and what became of them."""

from __future__ import annotations

from scrapy_valkey_dedup.stats import ITEMS, REQUESTS, StatNames, Stats, quantity


def summary(stats: Stats) -> str:
    """What came adds up, in brackets; then follows what Valkey was told. Zeros are left out."""
    posts = _listed(_numbers(stats, ITEMS, _POSTS_SEEN), "post", "seen")
    posts += _added(_numbers(stats, ITEMS, _POSTS_SETTLED))
    posts += _unconfirmed(stats, ITEMS, _POSTS_UNCONFIRMED)
    # Most crawls fetch others, too: start pages, for one, are not deduplicated.
    pages = _numbers(stats, REQUESTS, _PAGES_SEEN)
    settled = _numbers(stats, REQUESTS, _PAGES_SETTLED)
    if not any((pages, settled, stats.number(REQUESTS.unconfirmed))):
        return posts
    unconfirmed = _unconfirmed(stats, REQUESTS, _PAGES_UNCONFIRMED)
    return f"{posts}; {_listed(pages, 'page', 'under deduplication')}{_added(settled)}{unconfirmed}"


def _numbers(stats: Stats, names: StatNames, words: dict[str, str]) -> list[tuple[int, str]]:
    counted = [(stats.number(getattr(names, stat)), said) for stat, said in words.items()]
    return [(number, said) for number, said in counted if number]


def _listed(numbers: list[tuple[int, str]], noun: str, verb: str) -> str:
    """All of them, and in brackets what they consist of."""
    parts = ", ".join(_told(number, said) for number, said in numbers)
    total = quantity(sum(number for number, _ in numbers), noun)
    return f"{total} {verb} ({parts})" if parts else f"{total} {verb}"


def _added(numbers: list[tuple[int, str]]) -> str:
    return "".join(f", {_told(number, said)}" for number, said in numbers)


def _told(number: int, said: str) -> str:
    if said == "duplicate":
        return quantity(number, said)
    return f"{number} {said.replace('THEM', 'it' if number == 1 else 'them')}"


def _unconfirmed(stats: Stats, names: StatNames, words: tuple[str, str]) -> str:
    """What Valkey could not be told: noted on disk for the next run, or lost with this one."""
    noted = stats.number(names.spooled)
    lost = stats.number(names.unconfirmed) - noted
    told = zip((noted, lost), words, strict=True)
    return _added([(number, said) for number, said in told if number > 0])


_POSTS_SEEN = {
    "new": "new",
    "duplicate": "duplicate",
    "in_flight": "being stored by another run",
    "unkeyed": "without an identity",
    "unchecked": "unchecked because Valkey could not be asked",
}
_POSTS_SETTLED = {
    "confirmed": "stored and remembered",
    "released": "not stored, so not remembered",
    "not_remembered": "not remembered, as nothing behind the deduplication stores THEM",
    "recovered": "of earlier runs remembered",
}
_POSTS_UNCONFIRMED = (
    "stored and noted on disk for the next run to remember",
    "stored but not remembered (a later run may store a second copy)",
)
_PAGES_SEEN = {
    "new": "new",
    "duplicate": "known and not fetched",
    "unchecked": "unchecked because Valkey could not be asked",
    "not_new": "left out because nothing was new",
    "after_empty": "left out after empty pages",
}
_PAGES_SETTLED = {
    "taken_over": "taken over from dead runs",
    "confirmed": "done and remembered",
    "released": "not done, so not remembered",
    "recovered": "of earlier runs remembered",
}
_PAGES_UNCONFIRMED = (
    "done and noted on disk for the next run to remember",
    "done but not remembered (a later run may fetch THEM again)",
)
