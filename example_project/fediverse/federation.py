"""How posts spread over the instances."""

import itertools
from collections.abc import Iterable, Iterator
from random import Random

from fediverse.instances import Instance
from fediverse.posts import Post, write_posts

DOMAINS = ("alder.example", "birch.example", "cedar.example")
REACH = 0.92
LATE = 0.02


class Fediverse:
    """Instances on which posts appear, the same ones for the same seed.

    A post appears on its author's instance, and on each of the others with a likelihood of 0.92;
    there one in fifty comes late, with the next posts.
    """

    def __init__(self, instances: Iterable[Instance], seed: int = 1) -> None:
        self.instances = tuple(instances)
        self._random = Random(seed)
        domains = tuple(instance.domain for instance in self.instances)
        self._written = write_posts(Random(seed), domains)
        self._late: dict[Instance, list[Post]] = {instance: [] for instance in self.instances}

    def publish(self, count: int) -> None:
        """Let ``count`` new posts appear, and those that were late."""
        arriving = {instance: self._late[instance] for instance in self.instances}
        self._late = {instance: [] for instance in self.instances}
        for post in itertools.islice(self._written, count):
            for instance, late in self._reach(post):
                (self._late if late else arriving)[instance].append(post)
        for instance, posts in arriving.items():
            instance.publish([(self._number(post, instance), post) for post in posts])

    def _reach(self, post: Post) -> Iterator[tuple[Instance, bool]]:
        """Yield the instances that show a post, and whether it comes late there."""
        for instance in self.instances:
            if post.domain == instance.domain:
                yield instance, False
            elif self._random.random() < REACH:
                yield instance, self._random.random() < LATE

    def _number(self, post: Post, instance: Instance) -> int:
        """Return the number that an instance gives a post, as lib/mastodon/snowflake.rb does.

        48 bits of milliseconds and 16 bits of chance. Of a post that came from elsewhere, only the
        second is taken over, so instances show the same posts in slightly different orders.
        """
        if post.domain == instance.domain:
            return int(post.uri.rpartition("/")[2])
        milliseconds = post.created // 1000 * 1000 + self._random.randrange(1000)
        return milliseconds << 16 | self._random.getrandbits(16)
