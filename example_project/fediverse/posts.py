"""The posts of a small fediverse: who writes them, and how each instance shows them."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from random import Random
from typing import Any

PHRASES: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("phrases.json").read_text(encoding="utf-8")
)
TAGS = ("balcony", "cats", "fotografie", "jardin", "libros", "NowPlaying", "scrapy", "猫")
NAMES = ("ada", "bruno", "chiara", "dmytro", "emi", "fatima", "goran", "hana", "ines", "jun")
# Servers that are not among the instances shown, with the form that their software gives a uri.
ELSEWHERE = {
    "dune.example": "https://dune.example/notes/{number:x}",
    "elm.example": "https://elm.example/users/{name}/statuses/01J{number:023X}",
    "fern.example": "https://fern.example/objects/{uuid}",
}
BEGIN = datetime(2026, 11, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Post:
    """A post as its own server knows it."""

    uri: str
    url: str | None
    name: str
    domain: str
    created: int  # milliseconds since 1970
    language: str | None
    content: str
    tags: tuple[str, ...]

    @property
    def created_at(self) -> str:
        """Return the time of writing as Mastodon's API gives it."""
        moment = datetime.fromtimestamp(self.created / 1000, timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_posts(random: Random, domains: tuple[str, ...]) -> Iterator[Post]:
    """Write posts for ever, in the order of time, by users of ``domains`` and of other servers."""
    created = int(BEGIN.timestamp() * 1000)
    homes = (*domains, *ELSEWHERE)
    while True:
        created += random.randrange(1, 4000)
        name, domain = random.choice(NAMES), random.choice(homes)
        number = created << 16 | random.getrandbits(16)
        uri, url = _addresses(random, name, domain, number)
        language = random.choice(list(PHRASES))
        tags = tuple(random.sample(TAGS, random.choice((0, 0, 1, 2))))
        content = _content(random, domain, language, tags)
        # One author in twenty sets no language.
        shown = language if random.random() < 0.95 else None  # noqa: PLR2004
        yield Post(uri, url, name, domain, created, shown, content, tags)


def _addresses(random: Random, name: str, domain: str, number: int) -> tuple[str, str | None]:
    if domain not in ELSEWHERE:
        page = f"https://{domain}/@{name}/{number}"
        return f"https://{domain}/users/{name}/statuses/{number}", page
    identifier = uuid.UUID(int=random.getrandbits(128), version=4)
    uri = ELSEWHERE[domain].format(name=name, number=number, uuid=identifier)
    # Some software names no page for people.
    return uri, random.choice((uri, uri, None))


def _content(random: Random, domain: str, language: str, tags: tuple[str, ...]) -> str:
    """Write HTML as Mastodon does, https://docs.joinmastodon.org/api/guidelines/#formatting."""
    lines = [escape(text) for text in random.sample(PHRASES[language], random.choice((1, 2, 3)))]
    if random.random() < 0.2:  # noqa: PLR2004 (one post in five greets somebody)
        name = random.choice(NAMES)
        lines[0] = (
            f'<span class="h-card" translate="no"><a href="https://{domain}/@{name}" '
            f'class="u-url mention">@<span>{name}</span></a></span> {lines[0]}'
        )
    paragraphs = ["<br />".join(lines)]
    if random.random() < 0.2:  # noqa: PLR2004 (one in five links to something)
        path = f"article/{random.getrandbits(48):012x}"
        paragraphs.append(
            f'<a href="https://www.paper.example/{path}?a=1&amp;b=2" target="_blank" '
            'rel="nofollow noopener" translate="no"><span class="invisible">https://www.</span>'
            f'<span class="ellipsis">paper.example/{path}</span>'
            '<span class="invisible">?a=1&amp;b=2</span></a>'
        )
    if tags:
        paragraphs.append(
            " ".join(
                f'<a href="https://{domain}/tags/{tag}" class="mention hashtag" rel="tag">'
                f"#<span>{tag}</span></a>"
                for tag in tags
            )
        )
    return "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)


def status(post: Post, number: int, domain: str) -> dict[str, Any]:
    """Return what the instance ``domain``, which gave it this number, shows of a post.

    The fields are those of https://docs.joinmastodon.org/entities/Status/ without a token.
    """
    return {
        "id": str(number),
        "created_at": post.created_at,
        "in_reply_to_id": None,
        "in_reply_to_account_id": None,
        "sensitive": False,
        "spoiler_text": "",
        "visibility": "public",
        "language": post.language,
        "uri": post.uri,
        "url": post.url,
        # Each instance counts what it has heard of.
        "replies_count": number % 3,
        "reblogs_count": number % 5,
        "favourites_count": number % 7,
        "edited_at": None,
        "content": post.content,
        "reblog": None,
        "account": _account(post, domain),
        "media_attachments": [],
        "mentions": [],
        # Mastodon gives the names of tags in lower case.
        "tags": [
            {"name": tag.lower(), "url": f"https://{domain}/tags/{tag.lower()}"}
            for tag in post.tags
        ],
        "emojis": [],
        "quote": None,
        "card": None,
        "poll": None,
    }


def _account(post: Post, domain: str) -> dict[str, Any]:
    """Return the author, https://docs.joinmastodon.org/entities/Account/."""
    missing = f"https://{domain}/headers/original/missing.png"
    return {
        "id": str(Random(f"{domain} {post.name} {post.domain}").getrandbits(56)),
        "username": post.name,
        "acct": post.name if post.domain == domain else f"{post.name}@{post.domain}",
        "display_name": post.name.title(),
        "locked": False,
        "bot": False,
        "discoverable": True,
        "group": False,
        "created_at": "2022-11-05T00:00:00.000Z",
        "note": f"<p>{post.name.title()}, of {post.domain}</p>",
        "url": f"https://{post.domain}/@{post.name}",
        "avatar": missing,
        "avatar_static": missing,
        "header": missing,
        "header_static": missing,
        "followers_count": 47,
        "following_count": 11,
        "statuses_count": 1312,
        "last_status_at": "2026-11-22",
        "emojis": [],
        "fields": [],
    }
