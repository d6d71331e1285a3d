"""Checks of what a run will need: each permission, each partition, with a post that no item has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from scrapy_valkey_dedup.ledger.keys import PROBE_POST, KeyNames, claim_key
from scrapy_valkey_dedup.ledger.tokens import NUMBER_BYTES, padded
from scrapy_valkey_dedup.model import DedupError, LedgerRefusedError
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import Argument, Script, ScriptCall, command

_LIFETIME = 1000  # ms: how long anything stays that a check writes
_STEP = _LIFETIME // 2
_NUMBERED = PROBE_POST + bytes(NUMBER_BYTES)

_Step = tuple[str, tuple[Argument, ...], list[bytes]]
"""The name of a script, its first arguments, and its posts."""


class Probe:
    """Tries with a harmless post what the run will do with real ones: what is forbidden shows now.

    Errors are those of :class:`~scrapy_valkey_dedup.valkey.client.Client`.
    """

    def __init__(  # noqa: PLR0913 (all that the run's own calls consist of)
        self,
        client: Client,
        names: KeyNames,
        run: str,
        scripts: Mapping[str, Script],
        remember: tuple[Argument, ...],
        *,
        release: tuple[Argument, ...],
        record: bool,
    ) -> None:
        """``remember`` and ``release``: the first arguments of the run's calls of these scripts."""
        self._client = client
        self._names = names
        self._scripts = scripts
        self._place = names.partition(run)
        self._name = padded(run)
        self._question = [self._name + bytes(NUMBER_BYTES), PROBE_POST]
        self._release: _Step = ("release", release, self._question[::-1])
        self._retention = remember[1:]
        self._record = record
        self.also_read: Callable[[], Awaitable[object]] | None = None
        """Reads what else the run reads; :meth:`check_keys` does so first."""

    async def check_permissions(self) -> None:
        """Runs every script once.

        Raises:
            LedgerRefusedError: a permission is missing.

        """
        # A short retention, even if the run remembers forever: what it needs then it also needs
        # when it meets what others remember for a while.
        remember = (self._name, _LIFETIME, _STEP)
        claim = (_LIFETIME, _STEP, _LIFETIME, "refresh", "", "")
        recorded = (_LIFETIME, _STEP, 1, "refresh", "rehearsal", "")  # its reply ends after 1 ms
        steps: tuple[_Step, ...] = (
            ("claim", claim, self._question),
            ("renew", (self._name, _LIFETIME), [_NUMBERED]),
            self._release,
            ("confirm", remember, [PROBE_POST]),
            # Of what is remembered: it reads the clock.
            ("claim", recorded if self._record else claim, self._question),
            ("forget", (), [PROBE_POST]),
        )
        calls = [self._call(step, self._place) for step in steps]
        delete = command("DEL", self._place)
        # With its source, although the server has it: otherwise a missing permission for EVAL would
        # show only when a server has lost its scripts, in the middle of a crawl.
        look = self._call(("look", (), [PROBE_POST]), self._place).command(with_source=True)
        try:
            _, (_, deleted) = await self._client.together(
                self._client.run(calls), self._client.ask(look, delete, key=self._place)
            )
        except LedgerRefusedError:
            with suppress(DedupError):
                await self._client.ask(delete, key=self._place)
            raise
        if not deleted:  # the scripts, which the server did not know, have run after it
            await self._client.ask(delete, key=self._place)

    async def check_keys(self) -> None:
        """Reads and writes one key of this shelf: only its key pattern is still to be checked.

        Raises:
            LedgerRefusedError: its keys are not permitted.

        """
        if self.also_read is not None:
            await self.also_read()
        name = claim_key(self._place, PROBE_POST)
        await self._client.ask(command("SET", name, "", "PX", 1, "GET"), key=name)

    async def check_partitions(
        self, *, everywhere: bool = True, permissions_checked: bool = False
    ) -> None:
        """Writes to one partition of each server that serves any.

        It is one whose last question was given up, if there is one; with ``everywhere`` off only
        these are tried. ``permissions_checked``: :meth:`check_permissions` has just written to its
        server.

        Raises:
            LedgerUnavailableError, LedgerRefusedError: at least one server does not take it.

        """
        failed = [name for name in self._names.partitions if name in self._client.failed]
        of_node = {self._client.node_of(name): name for name in failed}
        shown = {self._client.node_of(self._place)} if permissions_checked else set()
        for name in self._names.partitions if everywhere else ():
            node = self._client.node_of(name)
            if node not in shown:
                of_node.setdefault(node, name)
        claim: _Step = ("claim", (*self._retention, _LIFETIME, "keep", "", ""), self._question)
        await self._client.run(
            [
                self._call(step, partition)
                for partition in of_node.values()
                for step in (claim, self._release)
            ]
        )

    def _call(self, step: _Step, partition: str) -> ScriptCall:
        name, head, posts = step
        return ScriptCall(self._scripts[name], partition, head, posts)
