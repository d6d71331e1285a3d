"""What must hold after a fault: what crawls say of their outages, and what they may store twice."""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from valkey.exceptions import ValkeyError

from bench.servers import ValkeyServer
from tests.support.crawls.items import Crawl, stored
from tests.support.crawls.world import World
from tests.support.patience import PATIENCE, wait_until
from tests.support.servers.site import Site

logger = logging.getLogger(__name__)


SLOW = {"delay": 0.01, "CONCURRENT_ITEMS": 10, "CONCURRENT_REQUESTS": 2}
"""Of a crawl that takes a while to its end: its storage, and what is on its way."""
BEGIN = {
    "pass": ", posts are stored unchecked.",
    "pause": ", posts and requests wait.",
    "close": "The spider is closed (VALKEY_DEDUP_ON_OUTAGE = 'close').",
}
BACK, GONE = "Valkey answers again, after", "Valkey has not answered any more, for"
NEVER = "Valkey was never reached ("


def start_half(world: World, site: Site, stored: int = 100, **changes: Any) -> Crawl:
    """Starts a crawl, and returns when it has stored so many more posts: it is in the middle.

    However slow the machine is, it cannot have come to its end by then: half of the site is not
    served before ``site.free = inf``.
    """
    site.free = len(site.pages) / 2
    crawl = world.start(site, **changes)
    known = sum(world.stored.values())
    wait_until(lambda: sum(world.stored.values()) > known + stored)
    return crawl


def start_fleet(
    world: World, site: Site, policies: Sequence[str], *, of_each: int | None = None, **changes: Any
) -> list[Crawl]:
    """Starts a crawl with each policy, each in another order.

    Each page is read by all, or by ``of_each`` of them. Returns when they have stored the first
    hundred posts: they are in the middle. However late the test comes on, they are still: the rest
    of the site is not served before ``world.serve_all()``, which comes after the fault.
    """
    shares: list[list[int]] = [[] for _ in policies]
    for page in site.pages:
        for offset in range(of_each or len(policies)):
            shares[(page + offset) % len(policies)].append(page)
    # No crawl comes to its end with this, even if all of it is served to the same one.
    site.free = min(len(site.pages) // 2, *(len(share) - 1 for share in shares))
    crawls = [
        world.start(
            site,
            seed=seed,
            pages=shares[seed],
            **{
                "VALKEY_DEDUP_ON_OUTAGE": policy,
                "VALKEY_DEDUP_DATA_DIR": str(world.directory / "data"),
                **changes,
            },
        )
        for seed, policy in enumerate(policies)
    ]
    wait_until(lambda: all(site_is_read(crawl) for crawl in crawls))
    wait_until(lambda: sum(world.stored.values()) > 100)
    return crawls


def site_is_read(crawl: Crawl) -> bool:
    """Whether the crawl has begun; fails if it has ended."""
    assert crawl.process.is_alive(), crawl.log[-3000:]
    return "Spider opened" in crawl.log


def account_of(crawl: Crawl, policy: str, seconds: float = PATIENCE) -> dict[str, Any]:
    """Waits for the end of a crawl; returns its stats, and sees that its log says the same.

    Each outage has a line when it begins and one when it ends, which counts what was unchecked.
    """
    stats = crawl.wait(seconds)
    outages = stats.get("dedup/valkey/outages", 0)
    assert crawl.log.count(BEGIN[policy]) == outages
    assert sum(map(crawl.log.count, (BACK, GONE, NEVER))) == outages
    unchecked = stats.get("dedup/items/unchecked", 0)
    if outages == 1:
        noun = "post" if unchecked == 1 else "posts"
        assert f"; {unchecked} {noun} passed unchecked in that time" in crawl.log
    if not outages:
        assert "dedup/valkey/outage_seconds" not in stats
        assert unchecked == 0
    assert "Traceback" not in crawl.log
    assert unchecked == 0 or f"{unchecked} unchecked because" in crawl.log.splitlines()[-1]
    return stats


def total(stats: Sequence[dict[str, Any]], name: str) -> int:
    """The sum of a stat of several crawls."""
    return sum(found.get(f"dedup/items/{name}", 0) for found in stats)


def second_copies(stored: Counter[str]) -> int:
    """How many copies are too many."""
    return sum(stored.values()) - len(stored)


def assert_unnoticed(world: World, crawls: Sequence[Crawl], policies: Sequence[str]) -> None:
    """No outage under any policy; each post of the site is stored once, confirmed, and settled.

    What is left of the site is served from now on.
    """
    world.serve_all()
    posts = {post["post_id"] for page in world.sites[0].pages.values() for post in page}
    stats = [account_of(*both) for both in zip(crawls, policies, strict=True)]
    assert [found.get("dedup/valkey/outages", 0) for found in stats] == [0] * len(crawls)
    assert {found["finish_reason"] for found in stats} == {"finished"}
    assert world.stored == {str(post): 1 for post in posts}
    assert total(stats, "confirmed") == len(posts)
    assert total(stats, "unconfirmed") == 0
    assert world.remembered(posts) == world.stored.keys()


def assert_mended(world: World) -> None:
    """A run with a healthy server stores what is missing, once, and nothing that was stored.

    What the runs before it could not confirm, they have left for it in the spool.
    """
    before = world.stored
    posts = {str(post["post_id"]) for page in world.sites[0].pages.values() for post in page}
    stats = world.crawl(world.sites[0], VALKEY_DEDUP_DATA_DIR=str(world.directory / "data"))
    assert "dedup/valkey/outages" not in stats
    assert world.stored - before == Counter(posts - before.keys()), f"{stats}\n{world.log}"
    assert stats.get("dedup/items/recovered", 0) > 0
    assert not list((world.directory / "data" / "spool").glob("*.keys"))
    assert world.remembered(posts) == posts


@contextmanager
def again_and_again(deed: Callable[[], object], pause: Callable[[], float]) -> Iterator[list[Any]]:
    """Does something in a thread, with pauses (seconds); gives a list of what came of it."""
    done: list[Any] = []
    enough = threading.Event()

    def work() -> None:
        while not enough.wait(pause()):
            with suppress(ValkeyError, OSError):
                done.append(deed())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        enough.set()
        thread.join()


def bring_up_to_date(primary: ValkeyServer, replicas: Sequence[ValkeyServer]) -> None:
    """Has the primary take no write any more, until it is killed, and its replicas all it took."""
    primary.ask("CLIENT", "PAUSE", 1000 * PATIENCE, "WRITE")
    for replica in replicas:
        wait_until(lambda replica=replica: offset(replica) == offset(primary))


def offset(server: ValkeyServer) -> int:
    """How far it is in the stream of writes."""
    return int(server.info()["master_repl_offset"])


def lose_writes(
    world: World,
    crawls: Sequence[Crawl],
    primary: ValkeyServer,
    replica: ValkeyServer,
    wait_failover: Callable[[], object],
) -> tuple[set[str], set[str]]:
    """A failover at its worst, for crawls with ``NotingStore``: the replica lacks the last writes.

    Cut off from its primary it misses what is written until another 100 posts are stored; then the
    primary is killed. The crawls are frozen until the replica has taken over, so that what was
    lost can be counted. Returns the posts that were begun to be stored by then, and those of them
    that the ledger does not remember: lost, or on their way.
    """
    known = sum(world.stored.values())
    replica.freeze()
    primary.ask("CLIENT", "KILL", "TYPE", "slave")
    world.serve_all()
    wait_until(lambda: sum(world.stored.values()) > known + 100)
    primary.kill()
    for crawl in crawls:
        crawl.signal(signal.SIGSTOP)
    replica.thaw()
    wait_failover()
    begun = set(stored(crawls[0].job, "begun"))
    unremembered = begun - world.remembered(begun)
    assert all(crawl.process.is_alive() for crawl in crawls)
    for crawl in crawls:
        crawl.signal(signal.SIGCONT)
    return begun, unremembered


def assert_bounded(
    world: World, policies: Sequence[str], begun: set[str], unremembered: set[str], on_way: int
) -> None:
    """What ``lose_writes`` may cost: a second copy of what was lost, and of what was on its way.

    Nothing else: the crawls have no outage, and every post of the site is stored and confirmed.

    A post that the new primary remembers is never stored again, nor is any post stored thrice. Of
    posts that no run had begun to store, those may be stored twice whose claim was lost when they
    had been claimed and not begun: ``on_way`` at most.
    """
    assert 0 < len(unremembered) < len(begun)
    stats = [account_of(*both) for both in zip(world.crawls, policies, strict=True)]
    assert {found["finish_reason"] for found in stats} == {"finished"}
    assert not any("dedup/valkey/outages" in found for found in stats)
    posts = {str(post["post_id"]) for page in world.sites[0].pages.values() for post in page}
    assert world.stored.keys() == posts
    assert sum(world.stored.values()) == total(stats, "confirmed")
    twice = {post for post, copies in world.stored.items() if copies > 1}
    found = len(unremembered), len(begun), len(twice)
    logger.info("%d unremembered of %d begun; %d stored twice", *found)
    assert twice.isdisjoint(begun - unremembered)
    assert len(twice - unremembered) <= on_way
    assert max(world.stored.values()) <= 2
