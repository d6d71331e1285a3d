"""What the spiders yield."""

from dataclasses import dataclass


@dataclass
class Post:
    """A public post of the fediverse, as one instance showed it.

    Every instance that shows a post gives it an id of its own; ``uri`` is the same everywhere.
    """

    uri: str
    url: str | None  # the page to read it on, where its server has one
    account: str  # user@domain
    created_at: str  # ISO 8601, UTC
    text: str
    language: str | None  # ISO 639, where the author set one
    tags: list[str]
    instance: str  # host, and port if any, of the instance that showed it
