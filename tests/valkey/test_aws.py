"""The laws of IAM and of credentials: real tokens, TLS, and a real Valkey that checks them."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import time_machine
from scrapy.settings import Settings

from bench.servers import SentinelSet, ValkeyCluster, ValkeyServer, free_port
from scrapy_valkey_dedup.aws import ElastiCacheIAM
from scrapy_valkey_dedup.model import (
    LedgerRefusedError,
    LedgerUnavailableError,
    SettingsError,
)
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command
from tests.support.crawls.world import World
from tests.support.patience import PATIENCE, in_loop, now
from tests.support.servers.iam import (
    ADMIN,
    KEYS,
    MOMENT,
    SECRETS,
    WHO,
    Service,
    admin,
    container_keys,
    let_in,
    role_keys,
    signed,
    signed_at,
)
from tests.support.servers.site import pages_of
from tests.support.servers.tls import LOCALHOST, Authority, terminator

ROOT = Path(__file__).parents[2]
HOUR = 3600
SLACK = 0.4  # seconds of the loop for what takes none and needs no other process


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of the tests, and nothing of the machine's own."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without keys."""
    for name in KEYS:
        monkeypatch.delenv(name)


@pytest.fixture
def clock() -> Iterator[Any]:
    """A clock that stands still until it is moved."""
    with time_machine.travel(MOMENT, tick=False) as traveller:
        yield traveller


@pytest.fixture(scope="module")
def guarded() -> Iterator[ValkeyServer]:
    """A server that needs a password."""
    with ValkeyServer("--requirepass", ADMIN, port=free_port()) as server:
        yield server


@dataclass(frozen=True)
class Door:
    """TLS in front of a server. Made before the clock is stopped: OpenSSL goes by the machine's."""

    valkey: ValkeyServer
    context: ssl.SSLContext
    options: dict[str, str]

    @asynccontextmanager
    async def opened(self, provider: Any, timeout: float = 5) -> AsyncIterator[Client]:
        """The way through it."""
        async with (
            terminator(self.valkey, self.context) as port,
            connected(f"valkeys://localhost:{port}", provider, timeout, **self.options) as server,
        ):
            yield server


@pytest.fixture
def door(guarded: ValkeyServer, tmp_path: Path) -> Door:
    """TLS in front of the guarded server."""
    authority = Authority(tmp_path, "ours")
    return Door(guarded, authority.certify(LOCALHOST), {"ssl_ca_certs": str(authority.file)})


@asynccontextmanager
async def connected(
    url: str, provider: Any, timeout: float = 5, **options: Any
) -> AsyncIterator[Client]:
    """A client of a server, with a provider."""
    server = Client(url, "valkey://place", options, timeout, credentials=provider)
    try:
        yield server
    finally:
        await server.close()


async def who(server: Client) -> str:
    """The user of this connection, as the server says."""
    (name,) = await server.ask(command("ACL", "WHOAMI"))
    return bytes(name).decode()


class Stub:
    """A user's provider: each call takes ``delay`` seconds and returns the next answer.

    With ``held`` each call takes until the test lets it ``go``.
    """

    def __init__(self, *answers: Any, delay: float = 0, held: bool = False) -> None:
        self._answers = list(answers)
        self._delay = delay
        self.go = threading.Event()
        if not held:
            self.go.set()
        self.calls = 0
        self.threads: set[threading.Thread] = set()

    def get_credentials(self) -> Any:
        """The last answer is given again and again; an exception is raised."""
        self.calls += 1
        self.threads.add(threading.current_thread())
        assert self.go.wait(PATIENCE)
        time.sleep(self._delay)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def without_user(url: str) -> str:
    """The URL, without user and password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


ADMITTED = ("default", ADMIN)


# -- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("serverless", [True, False, "true", "false"])
def test_the_token_is_the_toolkits_own(clock: Any, serverless: Any) -> None:
    """User and token are what AWS's toolkit makes of the same clock, keys and names."""
    name = "posts-one"
    if serverless in (True, "true"):
        token = signed(serverless_cache_name=name)
        assert "ResourceType=ServerlessCache" in token
    else:
        token = signed(serverless_cache_name=None, replication_group_id=name)
        assert "ResourceType" not in token
    given = ElastiCacheIAM(
        user="bot", cache="Posts-One", region="eu-central-1", serverless=serverless
    )
    assert given.get_credentials() == ("bot", token)
    assert token.startswith("posts-one/?Action=connect&User=bot&")
    clock.shift(1)
    assert given.get_credentials()[1] != token


def test_the_user_is_the_one_for_whom_is_signed(clock: Any) -> None:
    """The case of a user does not matter: ElastiCache keeps it in lower case."""
    given = ElastiCacheIAM(user="Bot", cache="posts", region="eu-central-1")
    assert given.get_credentials() == ("bot", signed())


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION", "profile"])
def test_the_region_is_that_of_the_machine(
    clock: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Without a region, it is AWS's own configuration that says it."""
    if name == "profile":
        (tmp_path / "config").write_text("[profile fleet]\nregion = eu-central-1\n")
        monkeypatch.setenv("AWS_PROFILE", "fleet")
    else:
        monkeypatch.setenv(name, "eu-central-1")
    given = ElastiCacheIAM(user="bot", cache="posts")
    assert repr(given) == repr(ElastiCacheIAM(**WHO))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    assert given.get_credentials() == ("bot", signed())


@pytest.mark.parametrize(
    ("option", "value", "cure"),
    [
        ("user", "", "write a text that is not empty"),
        ("user", None, "write a text that is not empty"),
        ("user", "a bot", "write the id of an ElastiCache user"),
        ("user", "arn:aws:elasticache:eu-central-1:1:user:bot", "write the id of an Elasti"),
        ("cache", "", "write a text that is not empty"),
        ("cache", "posts-ab12.serverless.euc1.cache.amazonaws.com", "not its address or ARN"),
        ("cache", "posts_one", "write the name of the cache"),
        ("cache", "posts\n", None),
        ("region", "Frankfurt", 'write a region such as "eu-central-1"'),
        ("region", "eu-central-1a", 'write a region such as "eu-central-1"'),
        ("region", 1, 'write a region such as "eu-central-1"'),
        ("region", None, "neither AWS_REGION, AWS_DEFAULT_REGION nor the AWS profile names one"),
        ("serverless", "yes", "write True or False"),
        ("serverless", None, "write True or False"),
        ("profile", None, None),
        ("profile", "", None),
        ("profile", "nobodys", "have no such profile; they have none"),
        ("profile", 5, "write a text that is not empty"),
        ("role_arn", None, None),
        ("role_arn", "arn:aws:iam::123456789012:role/spiders", None),
        ("role_arn", "arn:aws-cn:iam::123456789012:role/a/path/spiders+=,.@-_", None),
        ("role_arn", "spiders", "such as arn:aws:iam::123456789012:role/spiders"),
        ("role_arn", "arn:aws:iam::123456789012:user/spiders", "write the ARN of a role"),
        ("role_arn", ["x"], "write a text that is not empty"),
    ],
)
def test_arguments_are_checked(option: str, value: Any, cure: str | None) -> None:
    """What cannot be right is refused with the option, the value and the cure."""
    if cure is None:
        ElastiCacheIAM(**(WHO | {option: value}))
        return
    with pytest.raises(ValueError, match="1 fault") as caught:
        ElastiCacheIAM(**(WHO | {option: value}))
    assert f"{option} = {value!r}: " in str(caught.value)
    assert cure in str(caught.value)


def test_all_faults_of_the_arguments_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One error lists every fault, that of AWS's own configuration, too."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(SettingsError, match="3 fault") as caught:
        ElastiCacheIAM(user="a bot", cache="a:1", region=None)
    assert "no-such-profile" in str(caught.value)


# -- where AWS's keys are --------------------------------------------------------------------------


@pytest.mark.usefixtures("no_keys")
def test_no_keys_are_a_refusal_that_names_the_cure() -> None:
    """Without AWS credentials there is nothing to wait for."""
    with pytest.raises(LedgerRefusedError, match=r"No AWS credentials found\. Configure") as caught:
        ElastiCacheIAM(**WHO).get_credentials()
    assert "'bot'" in str(caught.value)
    assert "'posts'" in str(caught.value)
    assert "VALKEY_DEDUP_CREDENTIALS" in str(caught.value)


@pytest.mark.usefixtures("no_keys")
def test_keys_that_were_exchanged_are_found(clock: Any, tmp_path: Path) -> None:
    """A file of keys is read for each token: a long crawl goes on with the new ones."""
    given = ElastiCacheIAM(**WHO)
    for secret in ("one", "two"):
        (tmp_path / "credentials").write_text(
            f"[default]\naws_access_key_id = AKIA\naws_secret_access_key = {secret}\n"
        )
        assert given.get_credentials() == ("bot", signed())


@pytest.mark.usefixtures("no_keys")
def test_keys_of_a_role_are_kept_and_renewed(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that expire are asked for once, and again when they are about to."""
    secrets = ["the-secret-of-the-morning", "the-secret-of-the-evening"]

    def answer() -> tuple[int, bytes]:
        return 200, container_keys(secrets.pop(0), today() + dt.timedelta(hours=6))

    with Service(answer) as service:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{service.url}/keys")
        given = ElastiCacheIAM(**WHO)
        tokens = set()
        for _ in range(3):
            clock.shift(1)
            tokens.add(given.get_credentials()[1])
        assert (len(tokens), service.calls) == (3, 1)
        clock.shift(6 * HOUR)
        assert "token-with-the-secret-of-the-evening" in given.get_credentials()[1]
        assert service.calls == 2


@pytest.mark.usefixtures("no_keys")
def test_a_role_that_fails_for_a_moment_is_unavailable(
    clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that fails now may answer in a moment, and then all is well."""
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    replies = [(500, b"")] * 3 + [(200, container_keys("x", MOMENT + dt.timedelta(hours=1)))]
    with Service(lambda: replies.pop(0)) as service:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{service.url}/keys")
        given = ElastiCacheIAM(**WHO)
        with pytest.raises(LedgerUnavailableError, match="'bot' of the cache 'posts'"):
            given.get_credentials()
        assert given.get_credentials()[1].startswith("posts/?")


ASSUMED = """[default]
role_arn = arn:aws:iam::1:role/r
source_profile = keys

[profile keys]
aws_access_key_id = AKIA
aws_secret_access_key = the-key-behind-the-role
"""


@pytest.fixture
def role(no_keys: None, tmp_path: Path) -> None:
    """A profile whose keys the Security Token Service hands out."""
    (tmp_path / "config").write_text(ASSUMED)


DENIED = b"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>
<Code>%b</Code><Message>not authorized to perform: sts:AssumeRole

canonical: x-amz-security-token:the-key-behind-the-role</Message></Error></ErrorResponse>"""


@pytest.mark.usefixtures("role")
def test_a_role_is_assumed_and_no_key_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The token is signed with the role's keys; the log, at DEBUG, has no secret of any of them."""
    caplog.set_level(logging.DEBUG)
    keys = role_keys("the-secret-of-the-role", today() + dt.timedelta(hours=1))
    with Service(lambda: (200, keys)) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
        token = ElastiCacheIAM(**WHO).get_credentials()[1]
    assert "X-Amz-Security-Token=token-with-the-secret-of-the-role" in token
    signature = token.rpartition("X-Amz-Signature=")[2]
    for secret in ("the-secret-of-the-role", "the-key-behind-the-role", signature):
        assert secret not in caplog.text


@pytest.mark.usefixtures("role")
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", LedgerRefusedError),
        (400, "Throttling", LedgerUnavailableError),
        (503, "ServiceUnavailable", LedgerUnavailableError),
    ],
)
def test_what_aws_says_decides(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, kind: type[Exception]
) -> None:
    """A refusal is for good, a service that is busy or down is not; neither tells a secret."""
    with Service(lambda: (status, DENIED % code.encode())) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
        with pytest.raises(kind, match="sts:AssumeRole") as caught:
            ElastiCacheIAM(**WHO).get_credentials()
    assert "the-key-behind-the-role" not in trace(caught.value)


@pytest.mark.usefixtures("role")
def test_nobody_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that cannot be reached may be there in a moment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(LedgerUnavailableError, match="Could not connect"):
        ElastiCacheIAM(**WHO).get_credentials()


@pytest.mark.usefixtures("role")
def test_a_silent_service_holds_a_thread_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the minutes that botocore has in mind; and a question not even that long."""
    monkeypatch.setattr("scrapy_valkey_dedup.aws.sessions._SECONDS", 0.5)
    silence = threading.Event()
    with Service(lambda: (silence.wait(PATIENCE), b"")) as service:  # type: ignore[arg-type,return-value]
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
        began = time.monotonic()
        with pytest.raises(LedgerUnavailableError, match="timeout"):
            ElastiCacheIAM(**WHO).get_credentials()
        assert time.monotonic() - began < PATIENCE / 10
        assert service.calls == 2
        silence.set()


PROFILES = """[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = the-key-of-nobody

[profile fleet]
region = eu-north-1
aws_access_key_id = AKIAFLEET
aws_secret_access_key = %s
"""
ROLE = "arn:aws:iam::123456789012:role/spiders"


def test_a_profile_is_used(clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys and its region, whatever keys the environment has; those of a file are read anew."""
    config = tmp_path / "config"
    config.write_text(PROFILES % "one")
    given = ElastiCacheIAM(user="bot", cache="posts", profile="fleet")
    for secret in ("one", "two"):
        config.write_text(PROFILES % secret)
        token = given.get_credentials()[1]
        with monkeypatch.context() as keys:
            for name, value in zip(KEYS, ("AKIAFLEET", secret), strict=False):
                keys.setenv(name, value)
            keys.delenv("AWS_SESSION_TOKEN")
            assert token == signed(region="eu-north-1")
    with pytest.raises(SettingsError, match=r"profile = 'none': .* they have 'default', 'fleet'"):
        ElastiCacheIAM(user="bot", cache="posts", profile="none", region="eu-north-1")


@pytest.mark.parametrize("profile", [None, "fleet"])
def test_a_role_that_is_named_is_assumed(
    clock: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    profile: str | None,
) -> None:
    """Once for an hour of connections, in time again, with the keys that then are in the file."""
    caplog.set_level(logging.DEBUG)
    config = tmp_path / "config"
    config.write_text(PROFILES % "one")
    secrets = ["the-secret-of-the-morning", "the-secret-of-the-evening"]

    def answer() -> tuple[int, bytes]:
        return 200, role_keys(secrets.pop(0), today() + dt.timedelta(hours=1))

    with Service(answer) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
        given = ElastiCacheIAM(**WHO, role_arn=ROLE, profile=profile)
        assert service.calls == 0
        for minutes in (0, 20, 20):
            clock.shift(60 * minutes)
            assert "token-with-the-secret-of-the-morning" in given.get_credentials()[1]
        assert service.calls == 1
        config.write_text(PROFILES % "two")
        clock.shift(HOUR)
        token = given.get_credentials()[1]
        assert "token-with-the-secret-of-the-evening" in token
    first, second = service.requests
    assert "Action=AssumeRole" in first.body
    assert "role%2Fspiders" in first.body
    assert "RoleSessionName=scrapy-valkey-dedup-bot" in first.body
    key = "AKIAFLEET" if profile else KEYS["AWS_ACCESS_KEY_ID"]
    assert f"Credential={key}/" in first.authorization
    assert first.authorization != second.authorization
    assert ROLE in repr(given)
    for secret in (*SECRETS, "the-secret-of-the", token):
        assert secret not in caplog.text


@pytest.mark.parametrize("what", ["AccessDenied", "nobody", "no keys"])
def test_a_role_that_cannot_be_assumed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    """A refusal names the setting and no secret; a service that is away may come back."""
    with Service(lambda: (403, DENIED % b"AccessDenied")) as service:
        url = f"http://127.0.0.1:{free_port()}" if what == "nobody" else service.url
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        if what == "no keys":
            for name in KEYS:
                monkeypatch.delenv(name)
        kind = LedgerUnavailableError if what == "nobody" else LedgerRefusedError
        with pytest.raises(kind, match="VALKEY_DEDUP_CREDENTIALS") as caught:
            ElastiCacheIAM(**WHO, role_arn=ROLE).get_credentials()
        assert_no_secret(trace(caught.value))
        assert service.calls == (what == "AccessDenied")


@in_loop
async def test_each_connection_has_a_token_of_the_role(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider with a role opens the door, connection by connection, and asks for it once."""
    keys = role_keys("the-secret-of-the-role", today() + dt.timedelta(hours=1))
    with Service(lambda: (200, keys)) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
        given = ElastiCacheIAM(**WHO, role_arn=ROLE)
        for _ in range(2):
            with time_machine.travel(today(), tick=False):
                let_in(door.valkey, given.get_credentials()[1])
                async with door.opened(given) as server:
                    assert await who(server) == "bot"
        assert service.calls == 1


def test_a_missing_extra_is_named() -> None:
    """Without AWS's toolkit the settings are at fault, and the cure is one command."""
    program = (
        "import sys; sys.modules['developer_toolkit_elasticache'] = None\n"
        "from scrapy.settings import Settings\n"
        "from scrapy_valkey_dedup.settings import DedupSettings\n"
        "given = {'provider': 'scrapy_valkey_dedup.aws.ElastiCacheIAM'}\n"
        "given |= {'user': 'u', 'cache': 'c', 'region': 'eu-central-1'}\n"
        "settings = {'VALKEY_DEDUP_URL': 'valkeys://h', 'VALKEY_DEDUP_CREDENTIALS': given}\n"
        "DedupSettings.parse(Settings(settings), 'spider')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "1 fault in the settings" in done.stderr
    assert 'pip install "scrapy-valkey-dedup[aws]"' in done.stderr


# -- over TLS, to a server that checks the token ---------------------------------------------------


@in_loop
async def test_the_right_token_opens_the_door(door: Door, clock: Any) -> None:
    """A connection over TLS is the user's if its token is the one of this moment."""
    let_in(door.valkey, signed())
    async with door.opened(ElastiCacheIAM(**WHO)) as server:
        assert await who(server) == "bot"


@pytest.mark.parametrize(
    "wrong", [{"cache": "others"}, {"region": "us-east-1"}, {"serverless": False}, {"user": "bob"}]
)
@in_loop
async def test_a_wrong_token_is_refused(door: Door, clock: Any, wrong: dict[str, Any]) -> None:
    """A token for another cache, region, kind of cache or user opens nothing, and is not told."""
    let_in(door.valkey, signed())
    given = ElastiCacheIAM(**(WHO | wrong))
    async with door.opened(given) as server:
        with pytest.raises(LedgerRefusedError, match="VALKEY_DEDUP_CREDENTIALS") as caught:
            await who(server)
    assert_no_secret(trace(caught.value), given.get_credentials()[1])


@in_loop
async def test_another_clocks_token_is_refused(door: Door, clock: Any) -> None:
    """The token of a machine whose clock is wrong opens nothing, and that is told at once."""
    let_in(door.valkey, signed())
    clock.shift(-HOUR)
    async with door.opened(ElastiCacheIAM(**WHO), timeout=PATIENCE) as server:
        began = now()
        with pytest.raises(LedgerRefusedError, match="refuses"):
            await who(server)
        assert now() - began < PATIENCE / 10


@in_loop
async def test_each_connection_has_a_fresh_token(door: Door, clock: Any) -> None:
    """A connection outlives its token; one that is cut, as after 12 hours, comes with a new one."""
    let_in(door.valkey, signed())
    async with door.opened(ElastiCacheIAM(**WHO)) as server:
        await who(server)
        for _ in range(3):
            clock.shift(12 * HOUR)
            let_in(door.valkey, signed())
            assert await who(server) == "bot"
            with admin(door.valkey) as client:
                assert client.execute_command("CLIENT", "KILL", "USER", "bot") == 1
            assert await who(server) == "bot"


def crawl_through(door: Door, world: World, given: dict[str, Any], times: int = 1) -> list[Any]:
    """Crawls a site of a hundred posts with these credentials; returns the crawls' stats."""
    site = world.site(pages_of(range(100)))

    async def crawl() -> list[Any]:
        async with terminator(door.valkey, door.context) as port:
            world.url = f"valkeys://localhost:{port}"
            changes = {
                "VALKEY_DEDUP_CREDENTIALS": given,
                "VALKEY_DEDUP_CLIENT_OPTIONS": door.options,
                "LOG_LEVEL": "DEBUG",
            }
            return [await asyncio.to_thread(world.crawl, site, **changes) for _ in range(times)]

    return asyncio.run(crawl())


def test_a_crawl_by_iam(world: World, door: Door) -> None:
    """A real crawl over TLS, with tokens: each post is stored once, and no secret is logged."""
    began = today()
    tokens = signed_at(began + dt.timedelta(seconds=second) for second in range(120))
    let_in(door.valkey, *tokens)
    stats = crawl_through(
        door, world, {"provider": "tests.support.servers.iam.SignedIn", **WHO}, times=2
    )[1]
    assert stats["dedup/items/duplicate"] == 100
    assert "dedup/valkey/outages" not in stats
    assert set(world.stored.values()) == {1}
    assert len(world.stored) == 100
    for crawl in world.crawls:
        assert_no_secret(crawl.log, *tokens)


def test_a_crawl_without_keys_ends_at_the_start(world: World, door: Door) -> None:
    """Waiting does not bring them: no page is fetched, and the log names the cure."""
    crawl_through(door, world, {"provider": "tests.support.servers.iam.SignedOut", **WHO})
    assert not world.sites[0].served
    assert "ERROR: No token for the user 'bot' of the cache 'posts'" in world.log
    assert "No AWS credentials found" in world.log


# -- any provider ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by_option", [False, True])
@in_loop
async def test_a_slow_provider_holds_up_nothing_else(
    guarded: ValkeyServer, *, by_option: bool
) -> None:
    """While a provider takes its time the event loop goes on; each connection asks it."""
    given = Stub(ADMITTED, held=True)
    options = {"credential_provider": given} if by_option else {}

    async def let_go() -> None:
        """A loop that is held up never comes to it."""
        while not given.calls:
            await asyncio.sleep(0.01)
        for _ in range(20):
            await asyncio.sleep(0.01)
        given.go.set()

    async with connected(guarded.url, None if by_option else given, **options) as server:
        questions = (who(server) for _ in range(5))
        assert await asyncio.gather(let_go(), *questions) == [None, *["default"] * 5]
        assert threading.main_thread() not in given.threads
        calls = given.calls
        with admin(guarded) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await who(server) == "default"
        assert given.calls == calls + 1


@in_loop
async def test_a_provider_that_hangs_costs_the_deadline_and_one_thread(
    guarded: ValkeyServer,
) -> None:
    """Every question ends in time and says why; when the provider answers, all are answered."""
    given = Stub(ADMITTED, held=True)
    async with connected(guarded.url, given, timeout=1) as server:
        for _ in range(3):
            began = now()
            failed = await asyncio.gather(*(who(server) for _ in range(5)), return_exceptions=True)
            assert now() - began < 1 + SLACK
            assert {type(error) for error in failed} == {LedgerUnavailableError}
            assert "Stub gave no credentials within 0.5 s" in str(failed[0])
        assert given.calls == 1
        given.go.set()
        assert await who(server) == "default"


@in_loop
async def test_a_provider_that_fails_for_a_moment_is_asked_again(guarded: ValkeyServer) -> None:
    """What may pass is tried until the deadline, and the message of one that is not says why."""
    lost = LedgerUnavailableError("AWS is away")
    async with connected(guarded.url, Stub(lost, lost, ADMITTED)) as server:
        assert await who(server) == "default"
    async with connected(guarded.url, Stub(lost), timeout=0.3) as server:
        with pytest.raises(LedgerUnavailableError, match=r"gave no answer.*AWS is away"):
            await who(server)


@in_loop
async def test_what_a_provider_refuses_is_refused_at_once(guarded: ValkeyServer) -> None:
    """Our refusals come out as they are."""
    given = Stub(LedgerRefusedError("No AWS credentials"))
    async with connected(guarded.url, given, timeout=10) as server:
        for _ in range(2):
            with pytest.raises(LedgerRefusedError, match=r"^No AWS credentials$"):
                await who(server)
    assert given.calls == 2


@pytest.mark.parametrize(
    "answer",
    [KeyError(ADMIN), OSError(f"cannot read {ADMIN}"), ValueError(), None, "x", (), ("", ADMIN),
     ("a", "b", "c"), (None, ADMIN), {"user": ADMIN}],
)  # fmt: skip
@in_loop
async def test_a_provider_that_is_wrong_is_named(guarded: ValkeyServer, answer: Any) -> None:
    """Its faults are refusals that name setting and provider, and show nothing that it holds."""
    given = Stub(answer)
    given.secret = ADMIN  # type: ignore[attr-defined]
    async with connected(guarded.url, given) as server:
        with pytest.raises(LedgerRefusedError, match=r"VALKEY_DEDUP_CREDENTIALS: Stub\.") as caught:
            await who(server)
    if isinstance(answer, Exception):
        assert type(answer).__name__ in str(caught.value)
    assert ADMIN not in trace(caught.value)


@in_loop
async def test_a_password_alone_is_the_default_users(guarded: ValkeyServer) -> None:
    """Providers may give no user, as valkey-py has it."""
    async with connected(guarded.url, Stub((ADMIN,))) as server:
        assert await who(server) == "default"


@in_loop
async def test_every_node_of_a_cluster_is_given_them() -> None:
    """Whichever node a connection leads to; those that are made at once share an answer."""
    with ValkeyCluster(replicas=0, password=ADMIN) as cluster:
        url = without_user(cluster.url)
        async with connected(url, given := Stub((ADMIN,))) as server:
            for key in map(str, range(20)):
                assert await server.ask(command("SET", key, 1), key=key) == [b"OK"]
        assert given.calls < 20


@in_loop
async def test_sentinels_are_not_given_those_of_the_service() -> None:
    """They have another provider, or none; that is asked in a thread as well."""
    with SentinelSet(0, password=ADMIN, sentinel_password="watch") as sentinels:
        url = without_user(sentinels.url)
        theirs = Stub(("watch",))
        options = {"sentinel_kwargs": {"credential_provider": theirs}}
        async with connected(url, Stub((ADMIN,)), **options) as server:
            assert await who(server) == "default"
        assert threading.main_thread() not in theirs.threads
        async with connected(url, given := Stub((ADMIN,)), timeout=0.5) as server:
            with pytest.raises(LedgerRefusedError):
                await who(server)
        assert not given.calls


@in_loop
async def test_a_connection_that_failed_is_not_taken_for_one_that_is_open(
    guarded: ValkeyServer,
) -> None:
    """After a refusal, or a question that was cancelled half-way, the next begins from scratch."""
    given = Stub(KeyError("x"), ADMITTED, delay=0.1)
    async with connected(guarded.url, given) as server:
        with pytest.raises(LedgerRefusedError):
            await who(server)
        assert await who(server) == "default"
    for delay in (0, 0.05, 0.1, 0.101, 0.102, 0.105):
        async with connected(guarded.url, Stub(ADMITTED, delay=0.1)) as server:
            question = asyncio.create_task(who(server))
            await asyncio.sleep(delay)
            question.cancel()
            await asyncio.wait([question])
            assert await who(server) == "default"


# -- secrets ---------------------------------------------------------------------------------------


def today() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def trace(error: BaseException) -> str:
    """All that a log would show of an error."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def assert_no_secret(text: str, *tokens: str) -> None:
    """Neither the keys, nor a token nor its signature are in a text."""
    for secret in SECRETS:
        assert secret not in text
    for token in tokens:
        assert token not in text
        assert token.rpartition("X-Amz-Signature=")[2] not in text


def test_no_secret_is_told(clock: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither repr nor log, not even at DEBUG, nor the settings show keys or token."""
    caplog.set_level(logging.DEBUG)
    options = {"provider": ElastiCacheIAM, **WHO}
    given = {"VALKEY_DEDUP_URL": "valkeys://h", "VALKEY_DEDUP_CREDENTIALS": options}
    settings = DedupSettings.parse(Settings(given), "spider")
    assert settings.credentials is not None
    user, token = settings.credentials.get_credentials()
    assert user == "bot"
    for text in (repr(settings.credentials), str(settings.credentials), repr(settings)):
        assert_no_secret(text, token)
    assert "ElastiCacheIAM" not in repr(settings)
    assert_no_secret(caplog.text, token)
