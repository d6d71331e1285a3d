"""The laws of the settings: read once, all faults at once, no secret shown; and of the add-on."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import scrapy
from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured
from scrapy.settings import Settings
from scrapy.utils.spider import DefaultSpider

from scrapy_valkey_dedup import Addon, DedupPipeline
from scrapy_valkey_dedup.identity.rules import field_rule
from scrapy_valkey_dedup.model import SettingsError
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.valkey.urls import redacted
from tests.support.processes.scrapy_command import scrapy as scrapy_in

DAY = 86400.0
FEEDS = {"posts.json": {"format": "json"}}
SECRET = "hunter2"
BLIND = re.compile("b", re.IGNORECASE)


class Post(scrapy.Item):
    """A class that rules may name."""

    id = scrapy.Field()


def by_id(item: Any, _: Any) -> str:
    """Stands for a user's ``VALKEY_DEDUP_IDENTITY``."""
    return str(item["id"])


@dataclasses.dataclass
class Static:
    """A provider of credentials whose repr shows them."""

    user: str = "ann"
    password: str = SECRET
    needs_tls: bool = False

    def get_credentials(self) -> tuple[str, str]:
        return self.user, self.password


def make_static(**options: Any) -> Static:
    """Makes one."""
    return Static(**options)


def fail(password: str, user: str = "") -> None:
    """A factory whose error tells what it was given."""
    raise KeyError(f"{user}, {password}")


class Careless:
    """No provider."""


def parse(spider: str = "spider", /, **values: Any) -> DedupSettings:
    """Parses settings: ``WAIT=5`` for ``VALKEY_DEDUP_WAIT``; Scrapy's own as they are."""
    own = {field.name.upper() for field in dataclasses.fields(DedupSettings)}
    named = {f"VALKEY_DEDUP_{name}" if name in own else name: values[name] for name in values}
    return DedupSettings.parse(Settings(named), spider)


def faults(**values: Any) -> tuple[str, ...]:
    """The faults of these settings; every one must be in the message."""
    with pytest.raises(SettingsError) as caught:
        parse(**values)
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return caught.value.faults


# -- values ----------------------------------------------------------------------------------------


def test_defaults() -> None:
    """Nothing need be set."""
    found = dict(vars(parse(BOT_NAME="posts")))
    assert found.pop("data_dir") == Path.cwd() / ".scrapy/valkey-dedup"
    assert found == {
        "enabled": True,
        "url": None,
        "client_options": {},
        "credentials": None,
        "namespace": "posts",
        "fields": {},
        "identity": None,
        "scope": "spider",
        "tracking_parameters": {},
        "retention": 90 * DAY,
        "refresh": True,
        "confirm": None,
        "on_duplicate": "drop",
        "mark_field": "duplicate",
        "on_unkeyed": "pass",
        "on_outage": "pass",
        "pause_limit": 3600,
        "wait": 5,
        "timeout": 5,
        "lease": 30,
        "reset": False,
        "trial": None,
        "requests": "job",
        "job": None,
        "requests_match": (),
        "request_retention": 7 * DAY,
        "empty_pages": 10,
    }


@pytest.mark.parametrize(
    ("name", "value", "becomes"),
    [
        *[("ENABLED", value, True) for value in (True, 1, "1", "True", "true")],
        *[("ENABLED", value, False) for value in (False, 0, "0", "False", "false")],
        *[("REFRESH", value, False) for value in (False, 0, "0", "False", "false")],
        *[("RESET", value, True) for value in (True, 1, "1", "True", "true")],
        ("URL", None, None),
        ("URL", "", None),
        *[
            ("URL", url, url)
            for url in (
                "valkey://localhost",
                "valkeys://posts.example:6379",
                "redis://localhost:6379/0",
                "rediss://user:p%40ss@localhost:6379/2?socket_keepalive=true",
                "valkey://[::1]:6379/",
                "unix:///tmp/valkey.sock",
                "unix:///tmp/a@b.sock?db=1",
                "valkey+cluster://a:7000,b:7001,[::1]",
                "rediss+cluster://user:p%40ss@a/0",
                "valkeys+sentinel://user:p,ss@a:26379,b/posts?db=2",
            )
        ],
        ("URL", " VALKEY://Localhost ", "valkey://Localhost"),
        ("CLIENT_OPTIONS", {"ssl_ca_certs": "ca.pem"}, {"ssl_ca_certs": "ca.pem"}),
        ("CLIENT_OPTIONS", '{"socket_keepalive": true}', {"socket_keepalive": True}),
        ("CLIENT_OPTIONS", "{'socket_keepalive': True}", {"socket_keepalive": True}),
        (
            "CLIENT_OPTIONS",
            {"db": "2", "sentinel_kwargs": None},
            {"db": "2", "sentinel_kwargs": None},
        ),
        ("CLIENT_OPTIONS", None, {}),
        ("CLIENT_OPTIONS", "", {}),
        ("CREDENTIALS", None, None),
        ("CREDENTIALS", "", None),
        ("IDENTITY", None, None),
        ("IDENTITY", "", None),
        ("IDENTITY", by_id, by_id),
        ("IDENTITY", "operator.itemgetter", __import__("operator").itemgetter),
        ("RETENTION", None, None),
        ("RETENTION", "None", None),
        ("RETENTION", "none", None),
        ("FIELDS", "None", {}),
        ("RETENTION", 60, 60),
        ("RETENTION", 1.5, 1.5),
        ("RETENTION", "60", 60),
        ("RETENTION", "45s", 45),
        ("RETENTION", "30m", 1800),
        ("RETENTION", "12h", DAY / 2),
        ("RETENTION", " 90 D ", 90 * DAY),
        ("RETENTION", "2w", 14 * DAY),
        ("RETENTION", "0.5d", DAY / 2),
        *[("CONFIRM", value, value) for value in ("scraped", "exported", "manual", "claimed")],
        *[("ON_DUPLICATE", value, value) for value in ("drop", "mark")],
        *[("ON_UNKEYED", value, value) for value in ("pass", "drop", "error")],
        *[("ON_OUTAGE", policy, policy) for policy in ("pass", "pause", "close")],
        ("PAUSE_LIMIT", "90s", 90),
        ("PAUSE_LIMIT", None, None),
        ("EMPTY_PAGES", "25", 25),
        ("EMPTY_PAGES", 0, 0),
        ("EMPTY_PAGES", None, None),
        ("EMPTY_PAGES", "None", None),
        ("MARK_FIELD", " seen ", "seen"),
        ("WAIT", 0, 0),
        ("WAIT", "0", 0),
        ("WAIT", "1m", 60),
        ("TIMEOUT", "0.1", 0.1),
        ("LEASE", "1", 1),
        *[("REQUESTS", value, value) for value in ("job", "stored", "off")],
        *[("JOB", value, None) for value in (None, "")],
        *[("TRIAL", value, None) for value in (None, "", "None", "none")],
        ("TRIAL", "first.try-1", "first.try-1"),
        ("TRIAL", 1, "1"),
        ("JOB", " 2026-11-22 ", "2026-11-22"),
        ("JOB", 7, "7"),
        ("JOB", 0, "0"),
        ("JOB", "{bot}/{spider}", "scrapybot/spider"),
        *[("REQUESTS_MATCH", value, ()) for value in (None, "", [], "[]")],
        *[
            ("REQUESTS_MATCH", value, (re.compile(r"/post/\d+"),))
            for value in (
                r"/post/\d+",
                [r"/post/\d+"],
                (r"/post/\d+",),
                {r"/post/\d+"},
                [re.compile(r"/post/\d+")],
                r'["/post/\\d+"]',
                r"['/post/\\d+']",
            )
        ],
        ("REQUESTS_MATCH", ["a", BLIND], (re.compile("a"), BLIND)),
        ("REQUESTS_MATCH", "[0-9]$", (re.compile("[0-9]$"),)),
        ("REQUESTS_MATCH", "a,b", (re.compile("a,b"),)),
        ("REQUEST_RETENTION", None, None),
        ("REQUEST_RETENTION", "none", None),
        ("REQUEST_RETENTION", "30d", 30 * DAY),
        ("REQUEST_RETENTION", 1, 1),
        ("DATA_DIR", "/var/lib/posts", Path("/var/lib/posts")),
        ("DATA_DIR", "~/posts", Path.home() / "posts"),
        ("DATA_DIR", Path("posts"), Path.cwd() / "posts"),
    ],
)
def test_good_values(name: str, value: Any, becomes: Any) -> None:
    """Values are read alike from Python and, as texts, from the command line."""
    assert getattr(parse(**{name: value, "FEEDS": FEEDS}), name.lower()) == becomes


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("ENABLED", "yes", "write True or False"),
        ("ENABLED", None, "write True or False"),
        ("REFRESH", 2, "write True or False"),
        ("RESET", "once", "write True or False"),
        *[
            ("TRIAL", value, "write a name of 1 to 32")
            for value in (" ", "a b", "a+b", "x" * 33, ["a"], "{spider}", True, False, "true")
        ],
        ("URL", "localhost:6379", "it has no scheme: write valkey://"),
        ("URL", "http://localhost", "this version speaks valkey://"),
        ("URL", "valkey+cloud://localhost", "this version speaks valkey://"),
        ("URL", "unix+cluster:///tmp/x", "this version speaks valkey://"),
        ("URL", "valkey+cluster://localhost/1", "a cluster has no database but 0"),
        ("URL", "valkey+cluster://localhost?db=1", "a cluster has no database but 0"),
        ("URL", "valkey+cluster://a:1,,b:2", "it cannot be read as a URL"),
        ("URL", "valkey+cluster://a:1;b:2", "it cannot be read as a URL"),
        ("URL", "valkey+cluster://", "it names no host"),
        ("URL", "valkey+sentinel://a:1,b:2", "the name of the service must follow"),
        ("URL", "valkey+sentinel://a:1,b:2/", "the name of the service must follow"),
        ("URL", "valkey+sentinel://a:1/posts/0", "the name of the service must follow"),
        ("URL", "valkey://a:1,b:2", "write valkey+cluster:// for a cluster"),
        ("URL", "valkey://localhost:65536", "the port is not a number from 0 to 65535"),
        ("URL", "valkey://", "it names no host"),
        ("URL", "unix://", "(or, for a Unix socket, its path"),
        ("URL", "valkey://localhost:6379x", "the port is not a number from 0 to 65535"),
        ("URL", "valkey://localhost:99999", "cannot be read as a URL"),
        ("URL", "valkey://[::1", "cannot be read as a URL"),
        ("URL", "valkey://localhost/posts", "only the number of a database may follow"),
        ("URL", "valkey://localhost?client_name=a@b", "there is an @ after the host"),
        ("URL", "valkey://localhost?decode_responses=true", "sets decode_responses itself"),
        ("URL", 6379, "write a text"),
        ("CLIENT_OPTIONS", "ssl", "write a dict"),
        ("CLIENT_OPTIONS", [1], "write a dict"),
        ("CLIENT_OPTIONS", "{", "not valid JSON"),
        ("CLIENT_OPTIONS", {"retry": 3, "protocol": 3}, "sets protocol, retry itself"),
        ("CLIENT_OPTIONS", {"sentinel_kwargs": "x"}, "sentinel_kwargs: write a dict"),
        ("CLIENT_OPTIONS", {"sentinel_kwargs": {"retry": 3}}, "sets retry itself"),
        ("CLIENT_OPTIONS", {"sentinel_kwargs": {"db": "x"}}, "sentinel_kwargs: db: write the nu"),
        ("CLIENT_OPTIONS", {"socket_timeout": "5"}, "socket_timeout: write seconds, above 0"),
        ("CLIENT_OPTIONS", {"socket_timeout": 0}, "socket_timeout: write seconds, above 0"),
        ("CLIENT_OPTIONS", {"ssl_check_hostname": "no"}, "ssl_check_hostname: write True or False"),
        ("CLIENT_OPTIONS", {"db": -1, "username": 5}, "db: write the number of a database; userna"),
        ("CLIENT_OPTIONS", {5: 5}, "the names of options are texts"),
        ("NAMESPACE", "", "write a text that is not empty"),
        ("NAMESPACE", None, "write a text that is not empty"),
        ("NAMESPACE", "{job}", "{job} is not known; it may use {bot} and {spider}"),
        ("NAMESPACE", "{}", "{} is not known"),
        ("NAMESPACE", "{bot!r}", "{bot!r} is not known"),
        ("FIELDS", [], "write a list of field names"),
        ("FIELDS", [""], "write a text that is not empty"),
        ("FIELDS", ["a", 1], "write a text that is not empty"),
        ("FIELDS", ["a..b"], "'a..b' has an empty field name"),
        ("FIELDS", [":url"], "has an empty field name"),
        ("FIELDS", ["a:uri"], "no normaliser is called 'uri'; there are strip"),
        ("FIELDS", ["a:"], "no normaliser is called ''"),
        ("FIELDS", ["a:no.such"], "the normaliser 'no.such' cannot be imported"),
        ("FIELDS", "a:nfkc,casefold", "write a list: a comma between names"),
        ("FIELDS", "a,,b", "write a text that is not empty"),
        ("FIELDS", '["a"', "not valid JSON"),
        ("FIELDS", "['a'", "not valid JSON"),
        ("FIELDS", "[a]", "not valid JSON"),
        ("FIELDS", 7, "write a list of field names"),
        ("FIELDS", {"no.such.Post": ["a"]}, "for the item class 'no.such.Post': it cannot be imp"),
        ("FIELDS", {"Post": ["a"]}, "for the item class 'Post': it cannot be imported"),
        ("FIELDS", {"math.pi": ["a"]}, "'math.pi' is not a class"),
        ("FIELDS", {"*": None}, "for the item class '*': write a list"),
        ("FIELDS", {"*": {"field": ["a"]}}, "'field' is not known here"),
        ("FIELDS", {"*": {"kind": ""}}, "write a text that is not empty"),
        ("FIELDS", {Post: ["a:uri"]}, "no normaliser is called 'uri'"),
        ("IDENTITY", "no.such.function", "it cannot be imported"),
        ("IDENTITY", "function", "it cannot be imported"),
        ("IDENTITY", "math.pi", "it is not a function of (item, spider)"),
        ("IDENTITY", 7, "it cannot be imported"),
        ("RETENTION", "soon", 'such as "45s", "30m", "12h", "90d"'),
        ("RETENTION", "", 'such as "45s"'),
        ("RETENTION", -1, "it must not be negative"),
        ("RETENTION", True, 'such as "45s"'),
        ("RETENTION", "1y", 'such as "45s"'),
        ("RETENTION", float("nan"), 'such as "45s"'),
        ("RETENTION", 0, "at least 1 seconds"),
        ("RETENTION", "101w" * 60, 'such as "45s"'),
        ("RETENTION", "36526d", "more than a century"),
        ("RETENTION", "9" * 400, "more than a century"),
        ("CONFIRM", "stored", "write 'scraped', 'exported', 'manual' or 'claimed'"),
        ("CONFIRM", "Manual", "did you mean 'manual'?"),
        ("CONFIRM", "exported", "there are no FEEDS"),
        ("ON_DUPLICATE", "pass", "write 'drop' or 'mark'"),
        ("ON_UNKEYED", "mark", "write 'pass', 'drop' or 'error'"),
        ("ON_OUTAGE", "wait", "write 'pass', 'pause' or 'close'"),
        ("ON_OUTAGE", "paus", "did you mean 'pause'?"),
        ("PAUSE_LIMIT", 0, "it must be at least 1 seconds"),
        ("EMPTY_PAGES", -1, "it must not be negative"),
        ("EMPTY_PAGES", 1.5, "write a whole number, or None for no limit"),
        ("EMPTY_PAGES", True, "write a whole number, or None for no limit"),
        ("MARK_FIELD", "", "write a text that is not empty"),
        ("MARK_FIELD", None, "write a text that is not empty"),
        ("WAIT", None, 'such as "45s"'),
        ("WAIT", "-5", "it must not be negative"),
        ("TIMEOUT", 0, "at least 0.1 seconds"),
        ("LEASE", 0.5, "at least 1 seconds"),
        ("REQUESTS", "jobs", "did you mean 'job'? write 'job', 'stored' or 'off'"),
        ("REQUESTS", "Stored", "did you mean 'stored'?"),
        *[("REQUESTS", value, "write 'job', 'stored' or 'off'") for value in (None, "", False)],
        *[("JOB", value, "write a text") for value in (True, 1.5, " ", ["a"])],
        ("JOB", "{job}", "{job} is not known; it may use {bot} and {spider}"),
        ("REQUESTS_MATCH", "/post/(", "'/post/(' is not a regular expression"),
        ("REQUESTS_MATCH", ["/post", "*"], "'*' is not a regular expression: nothing to repeat"),
        ("REQUESTS_MATCH", '["/post", "*"]', "'*' is not a regular expression: nothing to repeat"),
        ("REQUESTS_MATCH", ["/post", ""], "'' is not a regular expression: write a text"),
        ("REQUESTS_MATCH", [7], "7 is not a regular expression: write a text"),
        ("REQUESTS_MATCH", [re.compile(b"/post")], "is not a regular expression: write a text"),
        ("REQUESTS_MATCH", 7, "write a regular expression, or a list of them"),
        ("REQUESTS_MATCH", {"a": "b"}, "write a regular expression, or a list of them"),
        ("REQUEST_RETENTION", "soon", 'such as "45s", "30m", "12h", "90d"'),
        ("REQUEST_RETENTION", 0, "at least 1 seconds"),
        ("DATA_DIR", "", "write the path of a folder"),
        ("DATA_DIR", None, "NoneType"),
        ("DATA_DIR", "~nobody-of-this-name/posts", "write the whole path"),
    ],
)
def test_bad_values(name: str, value: Any, cure: str) -> None:
    """A wrong value is refused with the setting, the value found and the cure."""
    (fault,) = faults(**{name: value})
    shown = {"URL": "'", "CLIENT_OPTIONS": "(not shown)"}.get(name, repr(value)[:200])
    if (name, value) == ("URL", 6379):
        shown = "(not shown)"
    assert fault.startswith(f"VALKEY_DEDUP_{name} = {shown}")
    assert cure in fault
    assert len(fault) < 500


@pytest.mark.parametrize("name", ["WAIT", "TIMEOUT", "LEASE"])
def test_deadlines_that_cannot_hold(name: str) -> None:
    """A claim, which ends after a day, outlives the deadlines: more than six hours are refused."""
    parse(**{name: "5h"})
    (fault,) = faults(**{name: "6h"})
    assert f"VALKEY_DEDUP_{name} = 21600" in fault
    assert "let them be 6 hours together at most" in fault


def test_all_faults_at_once() -> None:
    """One message lists every fault, of values and of names."""
    settings = {"WAIT": "soon", "CONFIRM": "store", "VALKEY_DEDUP_RETENTON": "30d", "LEASE": 0}
    found = faults(**settings)
    assert [fault.partition(" = ")[0].removeprefix("VALKEY_DEDUP_") for fault in found] == [
        "RETENTON",
        "CONFIRM",
        "WAIT",
        "LEASE",
    ]
    with pytest.raises(SettingsError, match=r"^4 faults in the settings of scrapy-valkey-dedup"):
        parse(**settings)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RETENTON", "RETENTION"),
        ("FIELD", "FIELDS"),
        ("ON_DUPLICATES", "ON_DUPLICATE"),
        ("NAME_SPACE", "NAMESPACE"),
        ("fields", "FIELDS"),
    ],
)
def test_unknown_names(name: str, meant: str) -> None:
    """An unknown name is refused with its value and the nearest right name."""
    (fault,) = faults(**{f"VALKEY_DEDUP_{name}": "it"})
    assert fault == f"VALKEY_DEDUP_{name} = 'it': unknown; did you mean VALKEY_DEDUP_{meant}?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("VALKEY_DEDUPE_FIELDS", "FIELDS"),
        ("VALKEY_DEDUP__FIELDS", "FIELDS"),
        ("VALKEYDEDUP_FIELDS", "FIELDS"),
        ("VALKEYDEDUPFIELDS", "FIELDS"),
        ("VALKEY_DEDUPFIELDS", "FIELDS"),
        ("VALKEY_DEDUPE_FIELD", "FIELDS"),
        ("VALKEY_DEDUPLICATION_ON_UNKEYED", "ON_UNKEYED"),
        ("VALKEYDEDUP_REQUESTS_RETENTION", "REQUEST_RETENTION"),
        ("VAKLEY_DEDUP_EMPTY_PAGES", "EMPTY_PAGES"),
        ("VALKEY_DUP_SCOPE", "SCOPE"),
        ("VALKEY-DEDUP-SCOPE", "SCOPE"),
        ("valkey_dedup_fields", "FIELDS"),
    ],
)
def test_mistyped_prefixes(name: str, meant: str) -> None:
    """A setting of ours under a prefix that is nearly ours is refused, and the right one named."""
    (fault,) = faults(**{name: "it"})
    assert fault == f"{name} = 'it': unknown; did you mean VALKEY_DEDUP_{meant}?"


def test_a_mistyped_prefix_shows_no_secret() -> None:
    """The value is hidden as that of the setting that is meant."""
    (fault,) = faults(VALKEYDEDUP_CREDENTIALS=SECRET)
    assert fault == (
        "VALKEYDEDUP_CREDENTIALS = (not shown): unknown; did you mean VALKEY_DEDUP_CREDENTIALS?"
    )


def test_names_of_nothing() -> None:
    """A name near to none is refused without a guess; other prefixes are others' business."""
    (fault,) = faults(VALKEY_DEDUP_XYZZY=1)
    assert fault.endswith("unknown; this version has no such setting; remove it")
    assert parse(PROD_VALKEY_DEDUP_URL="x", DEV_VALKEY_DEDUP_URL="y", MY_VALKEY_DEDUP_JOB=1)
    assert parse(VALKEY_URL="x", VALKEY_DEDUPLICATE="x", DEDUP_URL="x", REDIS_DEDUP_FIELDS="x")


# -- secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "valkey://:hunter2@localhost/x",
        "valkey://user:hunter2@localhost:port",
        "valkey://user:hunter2@localhost:99999",
        "valkey://user:hunter2@[::1",
        "valkey://user:hunter2@",
        "valkey://:hunter2",
        "valkey://user:hunter2",
        "valkey://:hun/hunter2@localhost",
        "valkey://u:1/hunter2@localhost",
        "valkey://u:1?hunter2@localhost/x",
        "valkey://u:1#hunter2@localhost/x",
        "valkey://:#hunter2@localhost/x",
        "valkey://:hunter2#@localhost/x",
        "valkey://:hunter2@\u2100localhost",
        "valkey:hunter2@localhost",
        "valkey:/:hunter2@localhost",
        "user:hunter2@localhost:6379",
        "hunter2",
        "hunter2://localhost",
        ":hunter2@localhost",
        "http://user:hunter2@localhost",
        "valkey+cluster://user:hunter2@a:1,b:2/3",
        "valkey+sentinel://user:hunter2@a:1,b:2",
        "valkey://user:hunter2@a:1,b:2",
        "valkey://localhost/x?password=hunter2",
        "valkey://localhost/x?password=p@hunter2",
        "valkey://localhost?protocol=3&password=hunter2",
        "unix://user:hunter2@/tmp/x?protocol=3",
        "unix://:hun/hunter2@/tmp/x?protocol=3",
        ["valkey://:hunter2@localhost"],
        {"password": "hunter2"},
        b"valkey://:hunter2@localhost",
    ],
)
def test_no_url_shows_its_password(url: Any) -> None:
    """A URL that is refused shows neither password nor query, however it is written."""
    (fault,) = faults(URL=url)
    assert "hunter2" not in fault.replace("hunter2://", "")
    assert fault.startswith("VALKEY_DEDUP_URL = ")


@pytest.mark.parametrize(
    "options",
    [
        {"password": SECRET, "retry": 1},
        '{"password": "hunter2"',
        '{"password": "hunter2", "retry": 1}',
        "password=hunter2",
        [SECRET],
    ],
)
def test_no_client_option_is_shown(options: Any) -> None:
    """Client options that are refused show no value."""
    (fault,) = faults(CLIENT_OPTIONS=options)
    assert SECRET not in fault


@pytest.mark.parametrize(
    "name",
    ["URI", "URLS", "CLIENT_OPTION", "OPTIONS", "PASSWORD", "PASS", "SECRET", "TOKEN", "AUTH",
     "CREDENTIAL", "IAM", "USERNAME_AND_PASSWORD", "CONNECTION", "HOST", "KEY"],
)  # fmt: skip
def test_no_unknown_name_shows_a_secret(name: str) -> None:
    """An unknown name that may hold a secret shows no value."""
    for value in (SECRET, f"valkey://:{SECRET}@localhost", {"password": SECRET}):
        (fault,) = faults(**{f"VALKEY_DEDUP_{name}": value})
        assert SECRET not in fault


def test_no_repr_shows_a_secret() -> None:
    """The settings' repr has neither URL nor client options nor credentials."""
    url = f"valkey://user:{SECRET}@localhost:6379/1?password={SECRET}"
    found = parse(URL=url, CLIENT_OPTIONS={"password": SECRET})
    assert found.url == url
    assert SECRET not in repr(found)
    assert "localhost" not in repr(found)
    found = parse(URL="valkey://localhost", CREDENTIALS=Static("user", SECRET))
    assert SECRET not in repr(found)
    assert "Static" not in repr(found)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("valkeys://user:pw@posts.example:6379/1?x=y#z", "valkeys://posts.example:6379/1"),
        ("valkey://[::1]:6379", "valkey://[::1]:6379"),
        ("unix:///tmp/a@b.sock?db=1", "unix:///tmp/a@b.sock"),
        ("unix://user:pw@/tmp/x", "unix:///tmp/x"),
        ("unix://user:p/w@/tmp/x", "unix://(not shown)"),
        ("valkey://localhost?password=p@ss", "valkey://(not shown)"),
        ("valkey://[", "valkey://(not shown)"),
        ("localhost", "localhost"),
        ("127.0.0.1:6379/0", "127.0.0.1:6379/0"),
        ("posts.example:6379", "posts.example:6379"),
        ("posts.example", "(not shown)"),
        ("hunter2", "(not shown)"),
        (":hunter2@localhost", "(not shown)"),
        ("user:1234", "(not shown)"),
        ("valkey+cluster://user:p,w@a:1,b:2", "valkey+cluster://a:1,b:2"),
        ("valkeys+sentinel://:pw@[::1]:1,b:2/posts?x=y", "valkeys+sentinel://[::1]:1,b:2/posts"),
        ("valkey+cluster://a:1,pw", "valkey+cluster://a:1,pw"),
        ("valkey+cluster://a:1,p:w", "valkey+cluster://(not shown)"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    """What logs show of a URL is the place, and the scheme alone where that is not certain."""
    assert redacted(url) == shown


NO_SCHEME = (
    "it has no scheme: write valkey:// before the host, as in valkey://{0} (with TLS, as "
    "ElastiCache needs it, valkeys://{0})"
)
NO_HOST = (
    "it names no host: write it as in valkey://localhost:6379 (or, for a Unix socket, its path as "
    "in unix:///run/valkey.sock)"
)


@pytest.mark.parametrize(
    ("url", "shown", "cure"),
    [
        ("localhost:6379", "localhost:6379", NO_SCHEME.format("localhost:6379")),
        ("10.0.0.7", "10.0.0.7", NO_SCHEME.format("10.0.0.7")),
        (f"user:{SECRET}@posts", "(not shown)", NO_SCHEME.format("host:6379")),
        ("/run/valkey.sock", "(not shown)", "write unix:// before the path, as in unix:///run/"),
        ("valkey:/localhost", "(not shown)", NO_HOST),
        ("http://localhost", "http://localhost", "this version speaks valkey://, valkeys:// (TLS)"),
    ],
)
def test_what_to_write_instead(url: str, shown: str, cure: str) -> None:
    """Each way to write no URL is told what to write, with what is surely no secret of it."""
    (fault,) = faults(URL=url)
    assert fault.startswith(f"VALKEY_DEDUP_URL = {shown!r}: ")
    assert cure in fault


# -- credentials -----------------------------------------------------------------------------------

VALKEY = "valkey://localhost"
IAM = "scrapy_valkey_dedup.aws.ElastiCacheIAM"


@pytest.mark.parametrize(
    "value",
    [
        Static(),
        Static,
        make_static,
        "tests.settings.test_settings.Static",
        " tests.settings.test_settings.make_static ",
        {"provider": Static()},
        {"provider": Static, "user": "ann"},
        {"provider": "tests.settings.test_settings.make_static", "user": "ann"},
        '{"provider": "tests.settings.test_settings.Static", "user": "ann"}',
    ],
)
def test_forms_of_credentials(value: Any) -> None:
    """CREDENTIALS is a provider, or what makes one, by itself or in a dict with options."""
    found = parse(URL=VALKEY, CREDENTIALS=value).credentials
    assert found is not None
    assert found.get_credentials() == ("ann", SECRET)


def test_credentials_by_iam() -> None:
    """Those of ElastiCache are a dict of names, on the command line as JSON."""
    options = {"provider": IAM, "user": "bot", "cache": "Posts", "region": "eu-central-1"}
    for value in (options, json.dumps(options)):
        found = parse(URL="valkeys://localhost", CREDENTIALS=value).credentials
        shown = "ElastiCacheIAM(user='bot', cache='posts', region='eu-central-1', serverless=True)"
        assert repr(found) == shown


@pytest.mark.parametrize(
    ("value", "cure"),
    [
        (SECRET, f'write the path of a provider, such as "{IAM}"'),
        (f"no.such.{SECRET}", "it cannot be imported"),
        (f"{SECRET}.tests", "it cannot be imported: No module named '(not shown)'"),
        (f"valkey://:{SECRET}@localhost", "it cannot be imported"),
        (f"scrapy_valkey_dedup.aws.{SECRET}", "doesn't define any object named '(not shown)'"),
        ("math.pi", "float has no method get_credentials(); write the path of a provider"),
        (7, "int has no method get_credentials(); write"),
        ([SECRET], "list has no method get_credentials(); write"),
        ('{"provider": "hunter2"', "not valid JSON"),
        ({}, 'the dict names no "provider", such as'),
        ({"password": SECRET}, 'the dict names no "provider"'),
        ({"provider": None}, 'the dict names no "provider"'),
        ({"provider": SECRET, "user": SECRET}, "it cannot be imported"),
        (Careless, "Careless has no method get_credentials(); write"),
        (Careless(), "Careless has no method get_credentials(); write"),
        (lambda: None, "NoneType has no method get_credentials(), which is asked for"),
        ({"provider": Static(), "user": "ann"}, "its provider is made already"),
        ({"provider": Static, "usr": SECRET}, "has no option 'usr'; did you mean 'user'? it knows"),
        ({"provider": Static, SECRET: 1}, "it knows 'user', 'password', 'needs_tls'"),
        ({"provider": make_static, "usr": SECRET}, "make_static cannot be made: TypeError: "),
        (fail, "fail needs the option 'password'; write a dict of"),
        ({"provider": fail, "password": SECRET, "user": "my " + SECRET}, "fail cannot be made: K"),
        ({"provider": IAM, "cache": "posts"}, "ElastiCacheIAM needs the option 'user'"),
        (
            {"provider": IAM, "user": "a b", "cache": "posts", "region": "x"},
            "then letters, digits and -; region = 'x': write a region",
        ),
    ],
)
def test_bad_credentials(value: Any, cure: str) -> None:
    """Wrong credentials are refused with the cure; of the value names alone are shown."""
    (fault,) = faults(URL="valkeys://localhost", CREDENTIALS=value)
    assert fault.startswith("VALKEY_DEDUP_CREDENTIALS = (not shown): ")
    assert cure in fault
    if not (isinstance(value, dict) and SECRET in value):  # as the name of an option
        assert SECRET not in fault
    assert len(fault) < 500


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"URL": None}, "the embedded server asks for none; set VALKEY_DEDUP_URL"),
        ({"URL": f"valkey://ann:{SECRET}@h"}, "VALKEY_DEDUP_URL has a user or a password as well"),
        ({"URL": f"valkey://:{SECRET}@h"}, "VALKEY_DEDUP_URL has a user or a password as well"),
        ({"URL": "valkey://ann@h"}, "VALKEY_DEDUP_URL has a user or a password as well"),
        ({"URL": f"valkey://h?password={SECRET}"}, "VALKEY_DEDUP_URL has a user or a password"),
        ({"CLIENT_OPTIONS": {"password": SECRET}}, "VALKEY_DEDUP_CLIENT_OPTIONS has password as"),
        (
            {"CLIENT_OPTIONS": {"username": "ann", "credential_provider": Static()}},
            "VALKEY_DEDUP_CLIENT_OPTIONS has credential_provider, username as well; leave it out",
        ),
        ({"CREDENTIALS": Static(needs_tls=True)}, "Static needs TLS; write valkeys:// in"),
        ({"CREDENTIALS": Static(needs_tls=True), "URL": "unix:///s"}, "Static needs TLS"),
    ],
)
def test_credentials_that_contradict(settings: dict[str, Any], cure: str) -> None:
    """There is one place for credentials, and they go where they can be used."""
    (fault,) = faults(**({"URL": VALKEY, "CREDENTIALS": Static()} | settings))
    assert fault.startswith("VALKEY_DEDUP_CREDENTIALS = (not shown): ")
    assert cure in fault
    assert SECRET not in fault


def test_what_is_no_contradiction() -> None:
    """Credentials that need TLS have it; other options for valkey-py, and faults, do not matter."""
    options = {"ssl_ca_certs": "ca.pem"}
    for scheme in ("valkeys", "rediss"):
        given = Static(needs_tls=True)
        found = parse(URL=f"{scheme}://h", CREDENTIALS=given, CLIENT_OPTIONS=options)
        assert found.credentials is given
    assert len(faults(URL="http://h", CREDENTIALS=Static(needs_tls=True))) == 1
    assert len(faults(URL=VALKEY, CREDENTIALS=Static(needs_tls=True), WAIT="soon")) == 2


# -- what values refer to --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "becomes"),
    [
        ("{bot}", "posts"),
        ("{bot}:{spider}", "posts:{bot}"),
        ("shared", "shared"),
        (" a b ", "a b"),
        ("{", "{"),
    ],
)
def test_namespace(namespace: str, becomes: str) -> None:
    """The namespace may use the names of the bot and the spider, which stand for themselves."""
    assert parse("{bot}", NAMESPACE=namespace, BOT_NAME="posts").namespace == becomes


def test_frozen() -> None:
    """Nothing of it can be changed, and what it was made from may change without it."""
    options = {"username": "ann"}
    found = parse(CLIENT_OPTIONS=options, FIELDS=["id"], TRACKING_PARAMETERS=["ref"])
    options["username"] = "bob"
    assert found.client_options == {"username": "ann"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.wait = 7  # type: ignore[misc]
    for mapping in (found.client_options, found.fields, found.tracking_parameters):
        with pytest.raises(TypeError):
            mapping["x"] = 1  # type: ignore[index]


def test_data_dir_is_relative_to_scrapy_cfg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crawl that is started in a folder below the project finds the same ledger."""
    (tmp_path / "scrapy.cfg").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert parse().data_dir == tmp_path / ".scrapy/valkey-dedup"
    assert parse(DATA_DIR="data").data_dir == tmp_path / "data"
    assert parse(DATA_DIR="/data").data_dir == Path("/data")


FORMS_OF_FIELDS: list[tuple[Any, Mapping[type | None, tuple[str, ...]]]] = [
    (None, {}),
    ("", {}),
    ({}, {}),
    (["platform", "post_id"], {None: ("platform", "post_id")}),
    (("platform",), {None: ("platform",)}),
    ("platform, post_id", {None: ("platform", "post_id")}),
    ("author.id", {None: ("author.id",)}),
    ('["platform", "post_id"]', {None: ("platform", "post_id")}),
    ("['platform', 'post_id']", {None: ("platform", "post_id")}),
    ("{'*': ['a'], 'dict': ('b',)}", {None: ("a",), dict: ("b",)}),
    ({Post: ["id"]}, {Post: ("id",)}),
    ({"scrapy.Item": "id", "*": ["b"]}, {scrapy.Item: ("id",), None: ("b",)}),
    ({"builtins.dict": ["a"]}, {dict: ("a",)}),
    ('{"*": ["a"], "dict": {"fields": ["b"], "kind": "post"}}', {None: ("a",), dict: ("b",)}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "becomes"), FORMS_OF_FIELDS)
def test_forms_of_fields(value: Any, becomes: Mapping[type | None, tuple[str, ...]]) -> None:
    """FIELDS is a list, a text or a dict by class, import path, "dict" or "*"; or that as JSON."""
    found = parse(FIELDS=value).fields
    assert {cls: tuple(map(str, rule.fields or ())) for cls, rule in found.items()} == becomes


def test_kinds() -> None:
    """A rule may name a kind, with fields or without."""
    rules = {"dict": {"fields": ["id"], "kind": " post "}, Post: {"kind": "post"}, "*": ["id"]}
    found = parse(FIELDS=rules).fields
    assert (found[dict].kind, found[Post].kind, found[None].kind) == ("post", "post", None)
    assert found[Post].fields is None


def test_field_rules() -> None:
    """A rule is a path, and after a colon the normalisers, in their order."""
    assert field_rule("author.id").path == ("author", "id")
    assert field_rule("author.id").normalise is None
    rule = field_rule(" author . name : strip , casefold ")
    assert rule.path == ("author", "name")
    assert rule.normalise is not None
    assert rule.normalise(" A ") == "a"


def test_tracking_parameters() -> None:
    """Names of parameters, or a dict of them by host; what is wrong is one fault, once."""
    assert parse(TRACKING_PARAMETERS=["ref"]).tracking_parameters == {"*": ("ref",)}
    assert parse(TRACKING_PARAMETERS="a, b").tracking_parameters == {"*": ("a", "b")}
    found = parse(TRACKING_PARAMETERS='{"News.example": ["s"]}').tracking_parameters
    assert found == {"news.example": ("s",)}
    (fault,) = faults(TRACKING_PARAMETERS=7, FIELDS=["url:url"])
    assert fault.startswith("VALKEY_DEDUP_TRACKING_PARAMETERS = 7: write a list of names such as")


def test_scope() -> None:
    """Posts are told apart within a spider, or within the project."""
    assert parse(SCOPE="project").scope == "project"
    assert faults(SCOPE="projet") == (
        "VALKEY_DEDUP_SCOPE = 'projet': did you mean 'project'? write 'spider' or 'project'",
    )


def test_fields_that_a_class_does_not_have() -> None:
    """A class that is named has the fields, unless it is a base without fields."""
    (fault,) = faults(FIELDS={f"{__name__}.Post": ["ids"]})
    assert "Post has no field 'ids'; did you mean 'id'?" in fault
    parse(FIELDS={"scrapy.Item": ["no_item_class_has_this"]})


def test_modules_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that fails in any way while it is imported is one fault of several."""
    (tmp_path / "failing_settings_module.py").write_text("raise KeyError('MY_VARIABLE')")
    monkeypatch.syspath_prepend(tmp_path)
    path = "failing_settings_module.it"
    found = faults(IDENTITY=path, FIELDS={path: ["a"]}, WAIT="soon")
    assert len(found) == 3
    assert all("it cannot be imported: 'MY_VARIABLE'" in fault for fault in found[:2])


# -- the add-on ------------------------------------------------------------------------------------


def pipelines(**settings: Any) -> dict[Any, Any]:
    """What the add-on makes of ``ITEM_PIPELINES``."""
    crawler_settings = Settings(settings)
    crawler = Crawler(DefaultSpider, crawler_settings)
    Addon.from_crawler(crawler).update_settings(crawler_settings)
    return dict(crawler_settings["ITEM_PIPELINES"])


def test_addon_enables_the_pipeline() -> None:
    """The pipeline runs at 100, before the storage."""
    assert pipelines() == {DedupPipeline: 100}
    storage = "scrapy.pipelines.files.FilesPipeline"
    assert pipelines(ITEM_PIPELINES={storage: 300}) == {storage: 300, DedupPipeline: 100}


@pytest.mark.parametrize("priority", [1, 300, None])
@pytest.mark.parametrize(
    "name",
    [
        DedupPipeline,
        "scrapy_valkey_dedup.DedupPipeline",
        "scrapy_valkey_dedup.items.pipeline.DedupPipeline",
    ],
)
def test_addon_leaves_what_is_placed(name: Any, priority: int | None) -> None:
    """What the user placed by hand, or switched off, stays where it is."""
    assert pipelines(ITEM_PIPELINES={name: priority}) == {name: priority}


@pytest.mark.parametrize("off", [False, 0, "0", "False", "false"])
def test_addon_that_is_off(off: Any) -> None:
    """Switched off it adds nothing, and what else is set does not matter."""
    assert pipelines(VALKEY_DEDUP_ENABLED=off, VALKEY_DEDUP_WAIT="soon") == {}


def test_pipeline_that_is_off() -> None:
    """A pipeline that was placed by hand is not run either."""
    crawler = Crawler(DefaultSpider, {"VALKEY_DEDUP_ENABLED": False, "VALKEY_DEDUP_WAIT": "soon"})
    with pytest.raises(NotConfigured, match="VALKEY_DEDUP_ENABLED is off"):
        DedupPipeline.from_crawler(crawler)


def test_addon_refuses_wrong_settings() -> None:
    """Wrong settings end it before anything is added."""
    with pytest.raises(SettingsError, match="VALKEY_DEDUP_WAIT = 'soon'"):
        pipelines(VALKEY_DEDUP_WAIT="soon")
    with pytest.raises(SettingsError, match="VALKEY_DEDUP_ENABLED = 'yes'"):
        pipelines(VALKEY_DEDUP_ENABLED="yes")


SPIDER = """
import scrapy

class Posts(scrapy.Spider):
    name = "posts"
    custom_settings = {settings!r}

    async def start(self):
        yield scrapy.Request("data:,")

    def parse(self, response):
        yield {{"id": 1}}
"""
BY_ADDON = {"ADDONS": {"scrapy_valkey_dedup.Addon": 500}}
BY_HAND = {"ITEM_PIPELINES": {"scrapy_valkey_dedup.DedupPipeline": 100}}


@pytest.fixture
def scrapy_command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``scrapy ...`` in a project with one spider of these settings."""

    def run(settings: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "scrapy.cfg").write_text("[settings]\ndefault = project_of_test.settings\n")
        package = tmp_path / "project_of_test"
        (package / "spiders").mkdir(parents=True)
        for folder in (package, package / "spiders"):
            (folder / "__init__.py").touch()
        (package / "settings.py").write_text("SPIDER_MODULES = ['project_of_test.spiders']\n")
        (package / "spiders" / "posts.py").write_text(SPIDER.format(settings=settings))
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SCRAPY")
        }
        return scrapy_in(*arguments, folder=tmp_path, environment=environment, place=tmp_path)

    return run


@pytest.mark.parametrize(
    ("enabled", "arguments"),
    [
        (BY_ADDON, ("crawl", "posts")),
        (BY_HAND, ("crawl", "posts")),
        (BY_ADDON, ("runspider", "project_of_test/spiders/posts.py")),
    ],
    ids=["crawl, add-on", "crawl, by hand", "runspider, add-on"],
)
def test_wrong_settings_stop_scrapy(
    scrapy_command: Callable[..., subprocess.CompletedProcess[str]],
    enabled: dict[str, Any],
    arguments: tuple[str, ...],
) -> None:
    """Wrong settings end the command at the start, with every fault and an exit code of failure."""
    url = f"valkey://:{SECRET}@localhost/x"
    given = ("-s", "VALKEY_DEDUP_RETENTON=3d", "-s", f"VALKEY_DEDUP_URL={url}")
    done = scrapy_command(enabled, *arguments, *given)
    # Scrapy 2.14 ends with 0 whatever component cannot be built.
    assert (done.returncode != 0) == (scrapy.version_info >= (2, 15))
    assert "2 faults in the settings of scrapy-valkey-dedup" in done.stderr
    assert (
        "VALKEY_DEDUP_RETENTON = '3d': unknown; did you mean VALKEY_DEDUP_RETENTION?" in done.stderr
    )
    assert "VALKEY_DEDUP_URL = 'valkey://localhost/x': after the host" in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr
    assert "item_scraped_count" not in done.stderr


def test_settings_from_the_command_line(
    scrapy_command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Every setting can be given as a text with ``-s``."""
    texts = {
        "URL": "unix:///nowhere/valkey.sock",
        "CLIENT_OPTIONS": json.dumps({"health_check_interval": 10}),
        "FIELDS": json.dumps({"dict": {"fields": ["id"], "kind": "Post"}}),
        "RETENTION": "None",
        "REFRESH": "False",
        "TIMEOUT": "0.2",
        "LEASE": "5s",
    }
    given = [part for name in texts for part in ("-s", f"VALKEY_DEDUP_{name}={texts[name]}")]
    done = scrapy_command(BY_ADDON, "crawl", "posts", *given)
    assert done.returncode == 0
    assert "1 unchecked because Valkey could not be asked" in done.stderr
