"""What the words of an error reply mean, where valkey-py has no class for it."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple


class Reaction(Enum):
    """What to do about an error."""

    RETRY = "ask again in a moment"
    SLOW_DOWN = "ask again, but less often: the server throttles"
    UNKNOWN = "unknown: ask again as long as there is time"
    OUTAGE = "asking again at once does not help, but time may"
    REFUSE = "time does not help"


class Fault(NamedTuple):
    """What to do about an error, and what the user can do."""

    cure: Reaction
    hint: str = ""


CREDENTIALS = (
    "Check user, password and permissions in VALKEY_DEDUP_URL, VALKEY_DEDUP_CLIENT_OPTIONS or "
    "VALKEY_DEDUP_CREDENTIALS; docs/security.md has the permissions that are needed"
)

BY_PREFIX: tuple[tuple[tuple[str, ...], Fault], ...] = (
    (
        ("MOVED ", "ASK "),
        Fault(
            Reaction.REFUSE,
            "It is a node of a cluster: write valkey+cluster:// (with TLS valkeys+cluster://) in "
            "VALKEY_DEDUP_URL",
        ),
    ),
    (
        # Valkey 7.2 to 9, and Redis 7.0, for a command or a key that only the script touches.
        ("ACL failure in script", "The user executing the script can't"),
        Fault(Reaction.REFUSE, CREDENTIALS),
    ),
    (
        ("This instance has cluster support disabled", "unknown command 'CLUSTER'"),
        Fault(
            Reaction.REFUSE,
            "It is not a cluster: write valkey:// or valkeys:// in VALKEY_DEDUP_URL",
        ),
    ),
    (
        ("unknown command 'SENTINEL'",),
        Fault(
            Reaction.REFUSE,
            "It is not a Sentinel: let VALKEY_DEDUP_URL name the Sentinels, or write valkey:// or "
            "valkeys://",
        ),
    ),
    (
        ("DB index is out of range", "invalid DB index", "SELECT is not allowed in cluster mode"),
        Fault(Reaction.REFUSE, "It has no such database: leave its number out of VALKEY_DEDUP_URL"),
    ),
    (
        ("DENIED ",),
        Fault(
            Reaction.REFUSE,
            "It accepts connections only from its own machine (protected-mode): give it a user and "
            "a password, see docs/security.md",
        ),
    ),
    (
        # A slot is being migrated, key by key, and the script needs a key that has moved already.
        (
            "Attempted to access a non local key",  # Valkey
            "Script attempted to access a non local key",  # Redis 7.0
        ),
        Fault(Reaction.RETRY, "the slot is being migrated"),
    ),
    (
        ("CLUSTERDOWN",),
        Fault(Reaction.RETRY, "the cluster does not serve all slots: look at its nodes"),
    ),
    (("MASTERDOWN",), Fault(Reaction.RETRY, "it is a replica that has lost its primary")),
    (("TRYAGAIN",), Fault(Reaction.RETRY, "the slot is being migrated")),
    (
        ("NOREPLICAS",),
        Fault(
            Reaction.RETRY,
            "it accepts no writes while it has too few replicas (min-replicas-to-write)",
        ),
    ),
    (
        # A connection that was reset a moment ago is written to: CPython's writelines, from 3.12
        # on, looks at the transport's socket and not whether it has been lost.
        ("'NoneType' object has no attribute '_add_writer'",),
        Fault(Reaction.RETRY, "the connection was reset"),
    ),
    (
        ("BUSY",),
        Fault(Reaction.RETRY, "a script of another client has been running for too long"),
    ),
    (
        ("MISCONF",),
        Fault(
            Reaction.OUTAGE, "it accepts no writes because it cannot save its data: look at its log"
        ),
    ),
    (
        ("WRONGTYPE",),
        Fault(
            Reaction.OUTAGE,
            "another program has written to the keys of this plugin, which begin with vd1:; "
            "choose another VALKEY_DEDUP_NAMESPACE",
        ),
    ),
)

# Amazon documents no text for requests beyond a limit. These are words that services of this
# kind use: Amazon's own (throttling, rate exceeded), Upstash's (max requests limit),
# HTTP's (too many requests).
THROTTLING = (
    "throttl",
    "rate limit",
    "ratelimit",
    "rate exceeded",
    "request limit",
    "requests limit",
    "too many requests",
    "ecpu",
)
SLOW_DOWN = Fault(
    Reaction.SLOW_DOWN,
    "it throttles: raise its limit (ElastiCache Serverless: ECPUs per second), or run fewer "
    "spiders at once",
)

# The server does not support it, and waiting does not help: the words of Valkey and Redis, and
# those of Dragonfly (undeclared key), Upstash, Envoy, Codis and the proxies of clouds.
_UNKNOWN_COMMAND = r"unknown (redis |valkey )?command|unknown subcommand"
_UNABLE = re.compile(
    rf"{_UNKNOWN_COMMAND}|not allowed (from|in) script|wrong number of arg|syntax error"
    r"|unsupported (command|option|argument)|(command|option|argument|script).{0,40}not support"
    r"|command.{0,40}(is not allowed|not available|has been disabled|is disabled)"
    r"|undeclared key|CROSSSLOT|same slot|passed using the KEYS array"
    r"|nonexistent global|attempt to (call|index|compare|concatenate|perform)|compiling script",
    re.IGNORECASE,
)
_NO_ENTRY = re.compile(
    r"authentication (failed|required)|invalid (user|password)|permission denied|access denied"
    r"|not authorized|unauthorized",
    re.IGNORECASE,
)
NO_ACCESS = Fault(Reaction.REFUSE, CREDENTIALS)
_QUOTES_ARGUMENTS = re.compile(_UNKNOWN_COMMAND, re.IGNORECASE)
UNABLE = Fault(
    Reaction.REFUSE,
    "It does not support what the plugin needs: allow it there, or let VALKEY_DEDUP_URL name "
    "another server. docs/security.md has all commands that are needed",
)

# Valkey repeats the arguments of a command that it does not know: AUTH's is the password.
_ARGUMENTS = re.compile(r",? with args beginning with:.*", re.DOTALL)
_LONGEST = 300


def by_prefix(text: str) -> Fault | None:
    """The meaning of an error reply that begins with known words."""
    for starts, found in BY_PREFIX:
        if text.startswith(starts):
            return found
    return None


def is_throttled(text: str) -> bool:
    """Whether the reply says that the server throttles."""
    lower = text.lower()
    # A reply that quotes our arguments may contain any word.
    return any(word in lower for word in THROTTLING) and not _QUOTES_ARGUMENTS.search(text)


def by_pattern(text: str) -> Fault | None:
    """The meaning of an error reply with known words anywhere."""
    if _UNABLE.search(text):
        return UNABLE
    return NO_ACCESS if _NO_ENTRY.search(text) else None


def without_arguments(text: str) -> str:
    """The text as a message may show it: without our arguments, and shortened."""
    text = _ARGUMENTS.sub("", text)
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return text.rstrip(".") if not text.endswith("...") else text
