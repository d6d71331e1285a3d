"""A site whose pages are HTML: ``python -m bench.suite.html_site PORT PAGES POSTS --lists N ...``.

Its lists are those of ``bench.crawls.site``, its posts the same, dressed as a web page dresses
them.
"""

from __future__ import annotations

import argparse
import asyncio
from html import escape

from bench.crawls.site import Site, linked_site, posts_of, serve

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Page {number}</title></head>
<body><nav><ul><li><a href="/">Home</a></li><li><a href="/about">About</a></li></ul></nav>
<main>{posts}</main><footer><p>The end of page {number}</p></footer></body></html>
"""
_POST = """<article class="post card" id="post-{post_id}"><header><h2>A post of {author}</h2>
<span class="platform">{platform}</span>
<a class="author" href="/users/{author}">{author}</a></header>
<div class="body"><p>{text}</p><p><em>12</em> answers</p></div></article>
"""


def page(number: int, posts: int) -> bytes:
    """The response of a page."""
    parts = [
        _POST.format(**{name: escape(str(value)) for name, value in post.items()})
        for post in posts_of(number, posts)
    ]
    body = _PAGE.format(number=number, posts="".join(parts)).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main() -> None:
    """Serves it until it is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("port", "pages", "posts"):
        parser.add_argument(name, type=int)
    for name in ("--lists", "--listed"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args()
    site = linked_site(given.pages, 1, 0, given.lists, given.listed)
    site |= {f"/{number}": page(number, given.posts) for number in range(given.pages)}
    asyncio.run(serve(Site(site, 0), given.port))


if __name__ == "__main__":
    main()
