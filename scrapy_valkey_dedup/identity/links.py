"""The normaliser ``url``: one text for all spellings of a link, however it was shared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from w3lib.url import canonicalize_url

from scrapy_valkey_dedup.parsing import decoded, text

# Parameters that name where a click came from, never what it leads to, in any case; "*" stands for
# any ending. A name that some site uses for content ("ref", "s", "pk_id") is not among them: two
# posts must never become one.
# fmt: off
TRACKING_PARAMETERS = (
    "utm_*", "mtm_*", "matomo_*", "piwik_*", "pk_campaign", "pk_cpn", "pk_kwd", "pk_keyword",
    "pk_source", "pk_medium", "pk_content", "pk_cid", "pk_group", "pk_placement", "fbclid", "gclid",
    "gclsrc", "dclid", "gbraid", "wbraid", "gad_source", "gad_campaignid", "srsltid", "msclkid",
    "yclid", "twclid", "ttclid", "rdt_cid", "epik", "li_fat_id", "igshid", "igsh", "mibextid",
    "__cft__", "__tn__", "__xts__", "xmt", "ref_src", "is_from_webapp", "mc_cid", "mc_eid",
    "mkt_tok", "_hsenc", "_hsmi", "hsa_cam", "hsa_grp", "hsa_mt", "hsa_src", "hsa_ad", "hsa_acc",
    "hsa_net", "hsa_kw", "hsa_tgt", "hsa_ver", "oly_anon_id", "oly_enc_id", "vero_id", "vero_conv",
    "wickedid", "_openstat", "rb_clickid", "s_cid", "ml_subscriber", "ml_subscriber_hash", "_ga",
    "_gl", "at_medium", "at_campaign",
)
_META = ("rdid", "share_url", "hc_ref", "hc_location", "fref", "refid", "_rdr", "paipv", "eav",
         "comment_tracking", "notif_id", "notif_t", "ref_notif_type")
_TIKTOK = ("sender_device", "sender_web_id", "web_id", "_r", "_t", "is_copy_url", "share_app_id",
           "share_link_id", "share_iid", "tt_from", "u_code", "refer", "checksum", "preview_pb")
_X = ("s", "t", "ref_url", "cxt")
_YOUTUBE = ("si", "t", "start", "feature", "pp", "ab_channel")
SITE_PARAMETERS = {
    "instagram.com": ("img_index",),
    "facebook.com": _META, "fb.com": _META,
    "tiktok.com": _TIKTOK,
    "threads.net": ("slof",), "threads.com": ("slof",),
    "linkedin.com": ("rcm", "trk", "trackingid", "lipi", "refid"),
    "reddit.com": ("rdt", "share_id", "ref_source"),
    "nytimes.com": ("smid", "smtyp", "unlocked_article_code"),
    "theguardian.com": ("cmp",),
}
"""What a site and its subdomains write into links to one post: who shared it, or a place in it."""

HOST_PARAMETERS = {
    "youtube.com": _YOUTUBE, "music.youtube.com": _YOUTUBE, "youtu.be": _YOUTUBE,
    "youtube-nocookie.com": _YOUTUBE,
    "x.com": _X, "twitter.com": _X,
}
"""The same, but so short that a subdomain may mean something else: a blog searches with "s"."""
# fmt: on

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONG = 2000  # characters
_SAME_SITE = re.compile(r"^(?:www|m|mobile)\.")
_AMPERSANDS = re.compile("&(?:(?:amp|#0*38|#x0*26);)+", re.IGNORECASE)
_ROUTE = re.compile(r"!?/.*[^/].*|!.*[^/!].*", re.DOTALL)
"""A fragment by which a site that is one page finds its content."""


class Tracking:
    """Which parameters of a link do not count; ``own``: the user's, by host ("*": any)."""

    def __init__(self, own: Mapping[str, Iterable[str]]) -> None:
        self._everywhere = _names([*TRACKING_PARAMETERS, *own.get("*", ())])
        sites = {*SITE_PARAMETERS, *own} - {"*"}
        self._by_site = {
            site: _names([*SITE_PARAMETERS.get(site, ()), *own.get(site, ())]) for site in sites
        }
        self._by_host = {host: _names(names) for host, names in HOST_PARAMETERS.items()}
        self._counts = lru_cache(maxsize=10_000)(self._counts_on)

    def drop(self, query: str, host: str) -> str:
        """The query without them."""
        # What is longer than any name is not cached: links come from strangers.
        counts = self._counts if len(query) + len(host) <= _LONG else self._counts_on
        parts = query.split("&")
        return "&".join(part for part in parts if counts(part.partition("=")[0], host))

    def _counts_on(self, name: str, host: str) -> bool:
        """Whether a parameter, as the query writes its name, may distinguish posts of the host."""
        written = unquote(name).partition("[")[0]  # "__cft__[0]"
        if self._everywhere.fullmatch(written):
            return False
        short = self._by_host.get(_SAME_SITE.sub("", host, count=1))
        if short is not None and short.fullmatch(written):
            return False
        labels = host.split(".")
        sites = (".".join(labels[at:]) for at in range(len(labels)))
        return not any(
            self._by_site[site].fullmatch(written) for site in sites if site in self._by_site
        )


def _names(names: Iterable[str]) -> re.Pattern[str]:
    written = (re.escape(name).replace(r"\*", ".*") for name in names)
    return re.compile("|".join(written), re.IGNORECASE | re.DOTALL)


def parse_tracking(value: Any) -> Mapping[str, tuple[str, ...]]:
    """Parses the setting: names of parameters, or a dict of them by host ("*": any host).

    Raises:
        ValueError: says what to write.

    """
    value = decoded(value)
    if value is None or value == "":
        value = {}
    if not isinstance(value, Mapping):
        value = {"*": value}
    return MappingProxyType({_site(host): _listed(names) for host, names in value.items()})


def _site(host: Any) -> str:
    written = text(host).lower()
    if "/" in written or ":" in written:
        raise ValueError(f'{host!r:.60} is not a host: write one such as "news.example", or "*"')
    return written.removeprefix("*.")


def _listed(names: Any) -> tuple[str, ...]:
    if isinstance(names, str):
        names = names.split(",")
    if not isinstance(names, (list, tuple, set, frozenset)):
        raise ValueError('write a list of names such as ["ref", "campaign_*"]')  # noqa: TRY004
    found = tuple(text(name) for name in names)
    if wrong := [name for name in found if not name.rstrip("*") or set(name) & set("?&=")]:
        raise ValueError(f'{wrong[0]!r:.60} is not the name of a parameter, such as "ref"')
    return found


def _host(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    if parts.port is not None and parts.port == _DEFAULT_PORTS.get(parts.scheme):
        host = host.rpartition(":")[0]
    return user + at + host.lower()


def _normal(dropped: Tracking, link: str) -> str:
    """w3lib's canonical form; the path keeps its case, as ids live there.

    A semicolon in the query and a backslash in the path are written as w3lib 2.5 reads them:
    older versions read them otherwise, and an update must not forget what is stored.
    """
    parts = urlsplit(_AMPERSANDS.sub("&", link.strip()))
    if not any(parts[:4]):
        return ""  # no text, or a fragment alone: w3lib would make the "/" of a site of it
    path = parts.path.replace("\\", "/") if parts.scheme in _DEFAULT_PORTS else parts.path
    query = parts.query.replace(";", "%3B")
    plain = parts._replace(netloc=_host(parts), path=path, query=query)
    body, _, fragment = canonicalize_url(urlunsplit(plain), keep_fragments=True).partition("#")
    page, mark, query = body.partition("?")
    if mark:
        kept = dropped.drop(query, (parts.hostname or "").rstrip("."))
        body = f"{page}?{kept}" if kept else page
    return f"{body}#{fragment}" if _ROUTE.fullmatch(fragment) else body


def link_normaliser(own: Mapping[str, Iterable[str]]) -> Callable[[str], str]:
    """The normaliser, which also removes the user's own tracking parameters.

    It raises a ``ValueError`` for a text that is no URL.
    """
    return partial(_normal, Tracking(own))
