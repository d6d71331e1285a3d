"""What ElastiCache Serverless for Valkey allows, and how it says no.

The list of commands is AWS's own: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/SupportedCommands.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any

MOST_ARGUMENTS = 3_999
MOST_BYTES = 4 << 20

_BITMAPS = "bitcount bitfield bitfield_ro bitop bitpos getbit setbit"
_KEYS = (
    "copy del dump exists expire expireat expiretime persist pexpire pexpireat pexpiretime pttl "
    "rename renamenx restore sort sort_ro touch ttl type unlink"
)
_GEO = (
    "geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro "
    "geosearch geosearchstore"
)
_HASHES = (
    "hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset "
    "hsetnx hstrlen hvals"
)
_LISTS = (
    "lindex linsert llen lmove lpop lpos lpush lpushx lrange lrem lset ltrim rpop rpoplpush rpush "
    "rpushx"
)
_SETS = (
    "sadd scard sdiff sdiffstore sinter sinterstore sismember smembers smismember smove spop "
    "srandmember srem sscan sunion sunionstore pfadd pfcount pfmerge"
)
_SORTED_SETS = (
    "zadd zcard zcount zincrby zlexcount zmscore zpopmax zpopmin zrandmember zrange zrangebylex "
    "zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore "
    "zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore"
)
_STRINGS = (
    "append decr decrby get getdel getex getrange getset incr incrby incrbyfloat lcs mget mset "
    "msetnx psetex set setex setnx setrange strlen substr"
)
DATA = frozenset(
    f"{_BITMAPS} {_KEYS} {_GEO} {_HASHES} {_LISTS} {_SETS} {_SORTED_SETS} {_STRINGS}".split()
)
"""Commands on keys: those that AWS lists and that this stand-in passes on. AWS does not say which
commands a script may call; nothing else is allowed there."""
SCRIPTS = frozenset({"eval", "evalsha", "eval_ro", "evalsha_ro"})
KEYLESS = frozenset(
    [
        "ping",
        "echo",
        "time",
        "info",
        "dbsize",
        "scan",
        "flushall",
        "flushdb",
        "randomkey",
        "lolwut",
        "role",
        "readonly",
        "readwrite",
        "command|count",
        "command|docs",
        "command|getkeys",
        "command|info",
        "command|list",
        "command",
        "client|setname",
        "client|getname",
        "acl|whoami",
        "cluster|slots",
        "cluster|shards",
        "cluster|nodes",
        "cluster|info",
        "cluster|myid",
        "cluster|keyslot",
    ]
)
"""What else AWS lists and this stand-in answers; not from within a script."""
_CONTAINERS = frozenset({"acl", "client", "cluster", "command", "config", "script", "memory"})

INTERNAL = "ERR internal error"  # reported: github.com/Effect-TS/effect-smol/issues/2328
NO_KEYS = "ERR Lua scripts without any input keys are not supported."  # AWS's page on Lua scripts
NOT_FROM_SCRIPT = "ERR This Redis command is not allowed from script"
"""Reported: github.com/cristipufu/aspnetcore-redis-rate-limiting/issues/154."""
NO_SCRIPT = "NOSCRIPT No matching script."  # as reported beside INTERNAL
NO_DATABASES = "ERR SELECT is not allowed in cluster mode"
# No report quotes these texts; we made them up.
TOO_MANY = f"ERR too many arguments: a request may have {MOST_ARGUMENTS}"
TOO_LARGE = "ERR request is larger than 4 MiB"
THROTTLED = "ERR Request throttled: the ECPU limit of the cache is exceeded"

_ACL = re.compile(rb"-\S+ .*?no permissions to run the '([a-z_|-]+)' command( script: .*)?\r\n")


@dataclass(frozen=True)
class Rules:
    """The switches; may be set while it runs, and hold for what comes from then on."""

    error_chance: float = 0.0
    """The probability, for each command of ``errors_hit``, that it is answered ``error_text``."""
    error_text: str = INTERNAL
    errors_hit: tuple[str, ...] = ("evalsha",)
    """Names of commands, lower case; empty: all."""
    errors_after: bool = False
    """They come afterwards (scripts, commands on keys): the work is done, its reply is lost."""
    noscript_chance: float = 0.0
    """The probability that EVALSHA finds no script though it was loaded: another backend took it,
    or the service has thrown it away."""
    load_reaches: str = "one"
    """What SCRIPT LOAD reaches: "one" backend, any; always the "first"; "all"."""
    refused: tuple[str, ...] = ()
    """Commands that are unknown, too, or refused from a script: lower case."""
    allowed_in_scripts: tuple[str, ...] = ()
    """Commands that scripts may call beside those on keys; to show what a rule is good for."""
    ecpu_limit: float = 0.0
    """ECPU a second; 0: none."""
    throttle: str = "error"
    """What happens beyond it: "error", or "delay"."""
    throttle_text: str = THROTTLED
    life: float = 0.0
    """Seconds after which a connection is closed; 0: never."""

    def changed(self, changes: dict[str, Any]) -> Rules:
        """With changes as JSON has them."""
        lists = {field.name for field in fields(self) if "tuple" in str(field.type)}
        return replace(
            self, **{name: tuple(v) if name in lists else v for name, v in changes.items()}
        )


def name_of(words: list[bytes]) -> str:
    """The name of a command, with its subcommand behind a bar if it is a container."""
    name = words[0].decode("latin-1").lower()
    if name in _CONTAINERS and len(words) > 1:
        return f"{name}|{words[1].decode('latin-1').lower()}"
    return name


def unknown(words: list[bytes]) -> str:
    """How a command is refused that is not on the list."""
    name = words[0].decode("latin-1")
    if name.lower() in _CONTAINERS - {"config", "memory"} and len(words) > 1:
        part = words[1].decode("latin-1")
        return f"ERR unknown subcommand '{part:.64}'. Try {name.upper()} HELP."
    rest = " ".join(f"'{word.decode('latin-1'):.32}'" for word in words[1:4])
    return f"ERR unknown command '{name:.64}', with args beginning with: {rest}"


def as_the_service_says(reply: bytes, refused: tuple[str, ...]) -> bytes:
    """A backend's reply. What scripts may not call its ACL refuses: the service has other words."""
    if not reply.startswith(b"-"):
        return reply
    found = _ACL.match(reply)
    if found is None or found[2] is None:
        return reply
    name = found[1].decode()
    if name in DATA and name not in refused:
        return reply  # the user's own permissions
    return f"-{NOT_FROM_SCRIPT}".encode() + found[2] + b"\r\n"
