"""Rules about single commands: those that the plugin sends, and those that its scripts call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from secrets import token_hex
from typing import Any

from scrapy_valkey_dedup.ledger.permissions import COMMANDS, IN_SCRIPTS
from scrapy_valkey_dedup.ledger.scripts import POSTS_PER_CALL
from scrapy_valkey_dedup.selftest.expectations import expect
from scrapy_valkey_dedup.selftest.findings import Check, DiffersError, Rule
from scrapy_valkey_dedup.selftest.sandbox import Sandbox
from scrapy_valkey_dedup.valkey.errors import is_noscript
from scrapy_valkey_dedup.valkey.resp import Script

_CONNECTIONS = 8


def fresh_script() -> Script:
    """A script that no server has loaded yet."""
    return Script("selftest", f"return 'selftest {token_hex(8)}'")


async def reach(sandbox: Sandbox) -> str:
    """Tests that the server can be reached and accepts the credentials."""
    key = sandbox.key("nothing")
    expect(await sandbox.ask("GET", key, key=key), None, "GET of a key that is not there")
    return "answers GET"


# -- sent commands ---------------------------------------------------------------------------------


# Each uses as few other commands as possible, so that a missing permission fails just one rule.


async def _get(sandbox: Sandbox) -> str:
    key = sandbox.key("nothing")
    expect(await sandbox.ask("GET", key, key=key), None, "GET of a key that is not there")
    return "GET"


async def _set(sandbox: Sandbox) -> str:
    """Tests all forms of SET: with NX, with NX GET PX, with PX GET, with KEEPTTL."""
    key = sandbox.key("set")
    expect(await sandbox.ask("SET", key, 1, "NX", "GET", "PX", 60_000, key=key), None, "SET NX GET")
    expect(await sandbox.ask("SET", key, 2, "NX", "GET", "PX", 60_000, key=key), b"1", "SET NX GET")
    expect(await sandbox.ask("SET", key, 3, "NX", key=key), None, "SET NX of a key that is there")
    expect(await sandbox.ask("SET", key, 4, "PX", 60_000, "GET", key=key), b"1", "SET PX GET")
    expect(await sandbox.ask("SET", key, 5, "KEEPTTL", key=key), b"OK", "SET KEEPTTL")
    return "SET with NX, GET, PX, KEEPTTL"


async def _mget(sandbox: Sandbox) -> str:
    one, two = sandbox.key("nothing"), sandbox.key("no more")
    expect(
        await sandbox.ask("MGET", one, two, key=one),
        [None, None],
        "MGET of keys that are not there",
    )
    return "MGET of several keys of a slot"


async def _del(sandbox: Sandbox) -> str:
    key = sandbox.key("nothing")
    expect(
        await sandbox.ask("DEL", key, sandbox.key("no more"), key=key),
        0,
        "DEL of what is not there",
    )
    return "DEL of several keys of a slot"


async def _evalsha(sandbox: Sandbox) -> str:
    """Tests that an unknown script is answered with NOSCRIPT, which the plugin recognises."""
    try:
        sha = fresh_script().sha
        found = await sandbox.ask("EVALSHA", sha, 1, sandbox.partition, key=sandbox.partition)
    except Exception as error:
        if is_noscript(error):
            return f"a script that is not there is NOSCRIPT: {error}"
        raise
    raise DiffersError(f"EVALSHA of a script that was never loaded: {found!r:.80}")


async def _script_load(sandbox: Sandbox) -> str:
    script = fresh_script()
    found = await sandbox.ask("SCRIPT", "LOAD", script.source, key=sandbox.partition)
    expect(found, script.sha.encode(), "SCRIPT LOAD")
    return "SCRIPT LOAD gives the script's SHA-1"


async def _eval(sandbox: Sandbox) -> str:
    script = fresh_script()
    found = await sandbox.ask("EVAL", script.source, 1, sandbox.partition, key=sandbox.partition)
    expect(found, script.source[8:-1].encode(), "EVAL")
    return "EVAL runs a script with its source"


_SENT: Mapping[str, Check] = {
    "get": _get,
    "set": _set,
    "mget": _mget,
    "del": _del,
    "evalsha": _evalsha,
    "script|load": _script_load,
    "eval": _eval,
}
_OTHERS_SENT = ("script|load", "eval")
"""The plugin needs one of these two; ``COMMANDS`` says which one."""

# -- commands in scripts ---------------------------------------------------------------------------

_CALLED: Mapping[str, tuple[str, Any]] = {
    # The call, and what the script must return. The key k is derived from KEYS[1], and is missing.
    "get": ("return call('GET', k)", None),
    "set": ("return call('SET', k, 'y', 'PX', 60000, 'GET')", None),
    "del": ("return call('DEL', k)", 0),
    "sismember": ("return call('SISMEMBER', k, 7)", 0),
    "scard": ("return call('SCARD', k)", 0),
    "sadd": ("return call('SADD', k, '-9223372036854775807', 7)", 2),
    "srem": ("return call('SREM', k, 7)", 0),
    "pexpireat": ("return call('PEXPIREAT', k, '99999999999999')", 0),
    "pexpiretime": ("return call('PEXPIRETIME', k)", -2),
    "pttl": ("return call('PTTL', k)", -2),
    "time": ("return #call('TIME')", 2),
}
_DERIVED = "local call, k = redis.call, KEYS[1] .. ':%s' "
_ENDS = """
call('SET', k, 'x', 'PX', 60000)
local left, ends = call('PTTL', k), call('PEXPIRETIME', k)
call('PEXPIREAT', k, string.format('%.0f', ends + 1000))
local later = call('PEXPIRETIME', k) - ends
return {left > 50000 and left <= 60000 and 1 or left, later, call('DEL', k)}
"""


async def _called(name: str, sandbox: Sandbox) -> str:
    body, wanted = _CALLED[name]
    key = sandbox.key_inside(name)
    try:
        expect(await sandbox.script(_DERIVED % name + body), wanted, name.upper())
    finally:
        with suppress(Exception):  # it is deleted again at the end
            await sandbox.once("DEL", key, key=key)
    return f"{name.upper()} on a key that the script derives from KEYS[1]"


async def _ends(sandbox: Sandbox) -> str:
    sandbox.key_inside("ends")
    found = await sandbox.script(_DERIVED % "ends" + _ENDS)
    expect(found, [1, 1000, 1], "PTTL, PEXPIREAT and DEL")
    return "a script knows when keys end, by the server's clock, and says so"


# -- scripts ---------------------------------------------------------------------------------------


async def _arguments(sandbox: Sandbox) -> str:
    """Tests a call with as many arguments as the plugin ever sends, and of their size."""
    count = 2 * POSTS_PER_CALL + 8
    arguments = [b"%028d" % number for number in range(count)]
    found = await sandbox.script("return {#ARGV, #ARGV[1], ARGV[#ARGV]}", *arguments)
    expect(found, [count, 28, arguments[-1]], f"{count} arguments")
    return f"a call with {count} arguments"


async def _more_arguments(sandbox: Sandbox) -> str:
    return f"a call with {await sandbox.script('return #ARGV', *[b'x'] * 5000)} arguments"


async def _without_keys(sandbox: Sandbox) -> str:
    found = await sandbox.ask("EVAL", "return 1", 0)
    expect(found, 1, "EVAL without keys")
    return "a script without keys is run"


async def _shared_scripts(sandbox: Sandbox) -> str:
    """Tests whether the servers behind one address share their scripts."""
    script = fresh_script()
    await sandbox.script(script.source)
    names = [sandbox.partition_of(f"selftest-{number}") for number in range(_CONNECTIONS)]
    asked = [sandbox.once("EVALSHA", script.sha, 1, name, key=name) for name in names]
    found = await asyncio.gather(*asked, return_exceptions=True)
    lacking = sum(map(is_noscript, found))
    others = [error for error in found if isinstance(error, BaseException)]
    if lacking:
        raise DiffersError(
            f"{lacking} of {_CONNECTIONS} connections lack a script that another has sent: there "
            "are several servers, or they forget scripts; each is sent it when it lacks it"
        )
    if others:
        raise others[0]
    return f"{_CONNECTIONS} of {_CONNECTIONS} connections know a script that one has sent"


COMMAND_RULES = (
    *(Rule(name.replace("|", " "), _SENT[name]) for name in COMMANDS),
    *(
        Rule(name.replace("|", " "), _SENT[name], needed=False)
        for name in _OTHERS_SENT
        if name not in COMMANDS
    ),
    *(Rule(f"{name} in a script", partial(_called, name)) for name in IN_SCRIPTS),
    Rule("ends of keys in a script", _ends),
    Rule("time in a script", partial(_called, "time"), needed=False),
    Rule("many arguments", _arguments),
    Rule("5000 arguments", _more_arguments, needed=False),
    Rule("a script without keys", _without_keys, needed=False),
    Rule("scripts are shared", _shared_scripts, needed=False),
)
