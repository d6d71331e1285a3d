"""What the plugin's user in Valkey may do, and needs to: the one list.

The line in docs/security.md, Terraform's access string, docker-compose.yml and the scripts are
compared with it by tests.
"""

from __future__ import annotations

KEYS = "~vd1:*"

COMMANDS = ("evalsha", "eval", "get", "set", "mget", "del")
"""What is asked of the server, and what scripts do with keys of any kind."""

IN_SCRIPTS = (
    "get", "set", "del", "sismember", "scard", "sadd", "srem", "pexpireat", "pexpiretime", "pttl",
)  # fmt: skip
"""All that a script may call: plain commands on data. ElastiCache Serverless is reported to refuse
others inside a script, such as TIME."""

WORDS = tuple(f"+{name}" for name in dict.fromkeys((*COMMANDS, *IN_SCRIPTS)))
RULES = (KEYS, "-@all", *WORDS)
"""What stands in an ACL line behind the user's name and password."""
