"""Three spiders read three local instances at once, twice, and store each post once.

Starts the instances, runs ``scrapy crawl mastodon`` for each, lets new posts appear, runs all
three again, and compares the stored rows with what the instances show. The second run reads each
timeline back to where the first one began. Everything is new and temporary: database, feeds and the
plugin's memory.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from crawl import Crawl, crawl_all
from fediverse.federation import DOMAINS, Fediverse
from fediverse.instances import Instance
from fediverse.server import serving
from verdict import judge, rows_by_crawl, stored_in_database, stored_in_feeds

LINE = "{:>3}  {:<14} {:>6} {:>7} {:>7} {:>10} {:>7}"


def show(crawls: list[Crawl]) -> None:
    """Print what each crawl of a run did."""
    rows = rows_by_crawl(crawls[0].directory / "posts.sqlite")
    for crawl in crawls:
        stats = crawl.stats
        address = crawl.instance.url.removeprefix("http://")
        numbers = [
            crawl.pages,
            _total(stats, "mastodon/posts"),
            _total(stats, "dedup/items/new"),
            _total(stats, "dedup/items/duplicate", "dedup/items/in_flight"),
            rows[address, stats.get("start_time", "")],
        ]
        print(LINE.format(crawl.run, crawl.instance.domain, *numbers), flush=True)


def _total(stats: dict[str, Any], *names: str) -> int:
    return sum(stats.get(name, 0) for name in names)


def show_saving(crawls: list[Crawl]) -> None:
    """Print how many pages a run fetched, and how many more its timelines have."""
    fetched = sum(crawl.pages for crawl in crawls)
    saved = sum(crawl.instance.pages_in_full() for crawl in crawls) - fetched
    print(f"second run: {fetched} pages fetched, {saved} saved", flush=True)


def show_closing_lines(crawls: list[Crawl]) -> None:
    """Print what the plugin says at the end of each crawl, without time and level."""
    for crawl in filter(lambda crawl: crawl.good, crawls):
        lines = re.findall(r"\[scrapy_valkey_dedup\S*\] [A-Z]+: (.*)", crawl.log_text)
        for line in lines[-1:]:
            print(f"{crawl.instance.domain}: {line}")


def report_failures(crawls: list[Crawl]) -> bool:
    """Print the end of the log of each crawl that failed; return whether there was one."""
    failed = [crawl for crawl in crawls if not crawl.good]
    for crawl in failed:
        reason = crawl.stats.get("finish_reason", "none")
        code = crawl.process.returncode
        print(f"\nrun {crawl.run}, {crawl.instance.domain}: exit status {code}, reason {reason}")
        print(*crawl.log_text.splitlines()[-25:], sep="\n")
    return bool(failed)


def demonstrate(directory: Path, options: argparse.Namespace) -> int:
    """Run everything in a directory; return the exit status."""
    instances = [Instance(domain) for domain in DOMAINS]
    fediverse = Fediverse(instances)
    settings = {"ADDONS": "{}"} if options.no_dedup else {}
    everything: list[Crawl] = []
    print(LINE.format("run", "instance", "pages", "seen", "new", "duplicate", "stored"), flush=True)
    with serving(instances):
        for run, count in enumerate((options.posts, options.more), start=1):
            fediverse.publish(count)
            crawls = [Crawl(run, instance, directory, settings) for instance in instances]
            crawl_all(crawls)
            everything += crawls
            show(crawls)
            if report_failures(crawls):
                break
            if run > 1:
                show_saving(crawls)
    show_closing_lines(crawls)
    shown = set().union(*(instance.uris for instance in instances))
    sightings = sum(instance.sightings for instance in instances)
    database = judge(shown, stored_in_database(directory / "posts.sqlite"))
    feeds = judge(shown, stored_in_feeds(directory / "feeds"))
    print(f"feeds: {feeds}")
    print(f"demo: {run} runs, {len(instances)} spiders, {sightings} posts seen, {database}")
    good = database.good and feeds.good and all(crawl.good for crawl in everything)
    return 0 if good else 1


def main() -> int:
    """Read the command line and demonstrate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=3300, help="posts before run 1 (3300)")
    parser.add_argument("--more", type=int, default=700, help="new posts before run 2 (700)")
    parser.add_argument(
        "--no-dedup", action="store_true", help="run without the plugin, to compare"
    )
    parser.add_argument("--directory", type=Path, help="keep everything in this new directory")
    options = parser.parse_args()
    if options.directory:
        options.directory.mkdir(parents=True)
        return demonstrate(options.directory.resolve(), options)
    with tempfile.TemporaryDirectory(prefix="posts-demo-") as directory:
        return demonstrate(Path(directory), options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("demo: interrupted")
