"""Redirects of every kind, also such as lead nowhere."""

from __future__ import annotations

from typing import ClassVar

from tests.support.servers.web import (
    posts,
    redirect,
    refresh,
)
from tests.support.spiders.requests import Reader


class Redirects(Reader):
    """Redirects of every kind, also such as lead nowhere.

    Whichever page is answered first, the target of /301 is fetched for it: only that page itself
    links to it.
    """

    name = "redirects"
    custom_settings: ClassVar = {"REDIRECT_MAX_TIMES": 3}
    allowed_domains = ("127.0.0.1",)
    pages: ClassVar = {
        "/301": redirect("/a", 301),
        "/a": posts("a", links=["/a"]),
        "/302": redirect("/b", 302),
        "/b": posts("b"),
        "/307": redirect("/c", 307),
        "/c": posts("c"),
        "/refresh": refresh("/d"),
        "/d": posts("d"),
        "/many/1": redirect("/hub"),
        "/many/2": redirect("/hub"),
        "/many/3": redirect("/hub"),
        "/hub": posts("hub", links=["/behind", "/301"]),
        "/behind": posts("behind"),
        "/unfiltered": redirect("/hub"),
        "/self": redirect("/self"),
        "/loop": redirect("/loop/1"),
        "/loop/1": redirect("/loop"),
        "/gate": [redirect("/gate"), posts("gate")],
        "/chain": redirect("/chain/1", 301),
        "/chain/1": redirect("/chain/2"),
        "/chain/2": refresh("/chain/3"),
        "/chain/3": posts("chain"),
        "/far": redirect("/far/1"),
        "/far/1": redirect("/far/2"),
        "/far/2": redirect("/far/3"),
        "/far/3": redirect("/far/4"),
        "/far/4": posts("never"),
        "/away": redirect("{other}/elsewhere"),
        "/elsewhere": posts("never"),
        "/lost": redirect("/missing"),
        "/mail": redirect("mailto:somebody@example.com"),
        "/handled": redirect("/never"),
        "/unfollowed": redirect("/never"),
    }
    starts = (
        "/301", "/302", "/307", "/refresh", "/many/1", "/many/2", "/many/3", "/self", "/loop",
        "/chain", "/away",
    )  # fmt: skip
    again = frozenset({
        "/far", "/far/1", "/far/2", "/far/3", "/lost", "/missing", "/mail", "/unfollowed",
        "/unfiltered", "/hub", "/gate",
    })  # fmt: skip
    either = frozenset({"/self", "/many/1", "/many/2", "/many/3", "/loop", "/loop/1", "/away"})
    unstored = frozenset({"/handled"})

    async def start(self):
        async for request in super().start():
            yield request
        for path in ("/far", "/lost", "/mail"):
            yield self.get(path, errback=self.failed)
        for path in ("/unfiltered", "/gate"):
            yield self.get(path, dont_filter=True)
        yield self.get("/handled", self.seen, meta={"handle_httpstatus_list": [302]})
        yield self.get("/unfollowed", errback=self.failed, meta={"dont_redirect": True})

    def seen(self, response):
        self.note("seen", response)


class AwayAllowed(Reader):
    """A redirect to another host, where the spider may go anywhere."""

    name = "away"
    starts = ("/away",)
    pages: ClassVar = {"/away": redirect("{other}/elsewhere"), "/elsewhere": posts("elsewhere")}
