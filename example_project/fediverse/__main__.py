"""Serves three local instances until Ctrl-C."""

import argparse
import contextlib
import threading

from fediverse.federation import DOMAINS, Fediverse
from fediverse.instances import Instance, RateLimit
from fediverse.server import serving


def main() -> None:
    """Start the instances and say how to read them."""
    parser = argparse.ArgumentParser(prog="python -m fediverse", description=__doc__)
    parser.add_argument("--posts", type=int, default=3300, help="how many there are (3300)")
    parser.add_argument("--limit", type=int, default=300, help="requests in five minutes (300)")
    options = parser.parse_args()
    instances = [Instance(domain, RateLimit(options.limit)) for domain in DOMAINS]
    Fediverse(instances).publish(options.posts)
    with contextlib.suppress(KeyboardInterrupt), serving(instances):
        for instance in instances:
            print(f"{instance.domain}: scrapy crawl mastodon -a instance={instance.url}")
        threading.Event().wait()


if __name__ == "__main__":
    main()
