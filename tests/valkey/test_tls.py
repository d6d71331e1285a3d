"""TLS: a server that cannot prove its identity is refused with the cure, on every topology."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.servers import SentinelSet, Tls, ValkeyCluster, ValkeyServer, free_port
from scrapy_valkey_dedup.model import LedgerRefusedError, LedgerUnavailableError
from tests.support.ledgers import ledger_at
from tests.support.patience import in_loop, now
from tests.support.servers.tls import ELSEWHERE, LOOPBACK, SPEAKER, Authority, needs_tls

TIMEOUT = 2.0
SLACK = 3.0  # seconds of the loop for what takes none
KEYS = [bytes([number]) * 16 for number in range(250)]
KINDS = ("server", "cluster", "sentinel")
DAY = dt.timedelta(days=1)


pytestmark = needs_tls


class Issuer(Authority):
    """An authority that issues what is asked for."""

    def issue(self, name: str, *names: x509.GeneralName, expired: bool = False) -> Path:
        """A certificate and its key, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._builder(x509.Name([]), key)
        if expired:
            now = dt.datetime.now(dt.timezone.utc)
            made = x509.CertificateBuilder(
                made._issuer_name, made._subject_name, made._public_key, made._serial_number,
                now - 2 * DAY, now - DAY, made._extensions,
            )  # fmt: skip
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=True)
        file = self._directory / f"{name}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._write(file, made, private)
        return file


@dataclass
class Place:
    """What speaks TLS: its URL, the servers of it, and the certificates there are."""

    url: str
    members: list[ValkeyServer]
    files: dict[str, Path]

    @contextmanager
    def configured(self, **options: Path | str) -> Iterator[None]:
        """The servers have other options for a while."""
        before = self.set({name: str(value) for name, value in options.items()})
        try:
            yield
        finally:
            self.set(before)

    def set(self, options: dict[str, str]) -> dict[str, str]:
        """Sets options; returns those before."""
        before = {}
        for member in self.members:
            words = []
            for name, value in options.items():
                option = name.replace("_", "-")
                before[name] = member.ask("CONFIG", "GET", option)[1]
                words += [option, value]
            member.ask("CONFIG", "SET", *words)
        return before


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Certificates of all kinds, by name."""
    ours = Issuer(tmp_path_factory.mktemp("ours"), "authority")
    theirs = Issuer(tmp_path_factory.mktemp("theirs"), "authority")
    return {
        "authority": ours.file,
        "stranger": theirs.file,
        "good": ours.issue("good", LOOPBACK),
        "expired": ours.issue("expired", LOOPBACK, expired=True),
        "elsewhere": ours.issue("elsewhere", ELSEWHERE),
        "spider": ours.issue("spider"),
        "impostor": theirs.issue("impostor"),
        "former": ours.issue("former", expired=True),
    }


@pytest.fixture(scope="module")
def places(files: dict[str, Path]) -> Iterator[dict[str, Place]]:
    """One server, a cluster of three primaries, and a Sentinel with its primary."""
    tls = Tls(files["good"], files["good"], files["authority"])
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("VALKEY_SERVER", str(SPEAKER))
        server = stack.enter_context(ValkeyServer(port=free_port(), tls=tls))
        cluster = stack.enter_context(ValkeyCluster(3, 0, tls=tls))
        sentinels = stack.enter_context(SentinelSet(0, 1, tls=tls))
        yield {
            "server": Place(server.url, [server], files),
            "cluster": Place(cluster.url, list(cluster.nodes), files),
            "sentinel": Place(sentinels.url, sentinels.servers, files),
        }


@pytest.fixture(params=KINDS)
def place(places: dict[str, Place], request: pytest.FixtureRequest) -> Place:
    """Each of them."""
    return places[request.param]


def told(files: dict[str, Path], authority: str = "authority", own: str = "") -> dict[str, str]:
    """What a client is told about certificates."""
    found = {"ssl_ca_certs": str(files[authority])} if authority else {}
    return found | (
        {"ssl_certfile": str(files[own]), "ssl_keyfile": str(files[own])} if own else {}
    )


async def assert_welcome(url: str, **options: Any) -> None:
    """All works, on all nodes."""
    async with ledger_at(url, timeout=TIMEOUT, options=options) as ledger:
        await ledger.open()
        await ledger.probe.check_partitions()
        await ledger.confirm_many(KEYS)
        assert all(await ledger.seen_many(KEYS))


async def assert_refused(url: str, words: str, **options: Any) -> None:
    """At once, with the cure."""
    async with ledger_at(url, timeout=TIMEOUT, options=options) as ledger:
        began = now()
        with pytest.raises(LedgerRefusedError, match=words):
            await ledger.open()
        assert now() - began < SLACK


async def assert_unavailable(url: str, words: str, **options: Any) -> None:
    """In time, with the reason."""
    async with ledger_at(url, timeout=TIMEOUT, options=options) as ledger:
        began = now()
        with pytest.raises(LedgerUnavailableError, match=words):
            await ledger.open()
        assert now() - began < TIMEOUT + SLACK


NOT_TRUSTED = r"not trusted.*ssl_ca_certs"


@in_loop
async def test_the_right_certificate_is_accepted(place: Place) -> None:
    """Signed by the authority that is named, for the address that is connected to."""
    await assert_welcome(place.url, **told(place.files))


@pytest.mark.parametrize("authority", ["stranger", ""])
@in_loop
async def test_a_wrong_authority_is_refused(place: Place, authority: str) -> None:
    """Another's, or, if none is named, none that this machine trusts."""
    await assert_refused(place.url, NOT_TRUSTED, **told(place.files, authority))


@pytest.mark.parametrize(("name", "words"), [("expired", "expired"), ("elsewhere", "127.0.0.1")])
@in_loop
async def test_a_wrong_certificate_is_refused(place: Place, name: str, words: str) -> None:
    """One that has expired, or that is another host's."""
    file = place.files[name]
    with place.configured(tls_cert_file=file, tls_key_file=file):
        await assert_refused(place.url, rf"not trusted.*{words}.*ssl_ca_certs", **told(place.files))
    await assert_welcome(place.url, **told(place.files))


@in_loop
async def test_a_wrong_host_name_is_refused(place: Place) -> None:
    """The certificate is for the address, and the URL says the name."""
    url = place.url.replace("127.0.0.1", "localhost")
    await assert_refused(url, NOT_TRUSTED, **told(place.files))


@in_loop
async def test_a_certificate_that_is_demanded(place: Place) -> None:
    """It is accepted if the right authority has signed it; without it the cure is told."""
    await assert_welcome(place.url, **told(place.files, own="spider"))
    with place.configured(tls_auth_clients="yes"):
        await assert_welcome(place.url, **told(place.files, own="spider"))
        for own in ("", "impostor", "former"):
            await assert_refused(place.url, r"ssl_certfile", **told(place.files, own=own))


@in_loop
async def test_tls_and_plain_text_do_not_mix(place: Place) -> None:
    """TLS to a plain port, or the reverse: the run is told in time that it may be that."""
    await assert_unavailable(place.url.replace("valkeys", "valkey"), "TLS")
    with ValkeyServer(port=free_port()) as plain:
        _, _, kind = place.url.partition("://")[0].partition("+")
        scheme = "valkeys" + (f"+{kind}" if kind else "")
        path = "/posts" if kind == "sentinel" else ""
        url = f"{scheme}://127.0.0.1:{plain.port}{path}"
        await assert_unavailable(url, "TLS", **told(place.files))
