"""`scrapy dedup watch`: the screen shows what there is; the terminal is left as it was."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from math import inf
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from bench.screenshots.terminal import Terminal
from bench.servers import ValkeyCluster, ValkeyServer, free_port
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import RULES
from scrapy_valkey_dedup.stats import RunInfo
from tests.support.crawls.world import World
from tests.support.ledgers import in_ledger, ledger_at
from tests.support.patience import PATIENCE, in_loop
from tests.support.processes.dedup_command import dedup, environment, project, run, words
from tests.support.servers.standin import not_on_serverless

pytestmark = not_on_serverless("they look for runs, which a spider's user may not do there")

LASTS = 3600.0
OTHER_SCREEN, COLOUR = b"\x1b[?1049h", re.compile(rb"\x1b\[[\d;]*3[0-7]m")
BARS = "[▁▂▃▄▅▆▇█ ]+"
Opened = Callable[..., Terminal]


@pytest.fixture
def here(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Path:
    """A project on the session's server."""
    return project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)


@pytest.fixture
def terminal(here: Path) -> Iterator[Opened]:
    """Opens a terminal of some size, with `scrapy dedup watch` in it."""
    opened: list[Terminal] = []

    def start(
        *given: str,
        columns: int = 160,
        lines: int = 24,
        directory: Path = here,
        env: dict[str, str] | None = None,
    ) -> Terminal:
        opened.append(Terminal(columns, lines, patience=PATIENCE))
        kept = environment(TERM="xterm-256color")
        kept.pop("NO_COLOR", None)
        command = words("watch", "--interval", "1s", *given)
        opened[-1].start(command, directory, {**kept, **(env or {})})
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def note(url: str, namespace: str, run: str, *, beat: str | None = "1", **facts: Any) -> None:
    """What a run says of itself, and its heartbeat; without ``beat`` it has none any more."""

    async def write(ledger: Ledger) -> None:
        if beat is None:
            await ledger.runs.sign_off()
        else:
            await ledger.runs.write_heartbeat(int(beat.split()[0]), LASTS, idle="idle" in beat)
        if facts:
            info = RunInfo(**{"spider": "posts", "host": "here", "start": 1e9, **facts})
            await ledger.runs.write_info(info.to_json(), LASTS)

    in_ledger(url, namespace, write, run=run)


def row(text: str, *beginning: str) -> list[str]:
    """The words of the one line that begins so."""
    lines = [line.split() for line in text.splitlines()]
    (found,) = [line for line in lines if line[: len(beginning)] == [*beginning]]
    return found


# -- what it shows ---------------------------------------------------------------------------------


def test_it_shows_what_the_crawl_s_stats_say(
    world: World, terminal: Opened, tmp_path: Path
) -> None:
    """Two crawls while they are at work, one that ends, one that is killed: each as it is."""
    there = project(
        tmp_path / "p", VALKEY_DEDUP_URL=world.url, VALKEY_DEDUP_NAMESPACE=world.namespace
    )
    posts = {number: [{"post_id": number % 5, "text": ""}] for number in range(40)}
    quick = {"VALKEY_DEDUP_LEASE": 1, "VALKEY_DEDUP_TIMEOUT": 1, "CONCURRENT_REQUESTS": 1}
    site, held = world.site(posts), world.site(posts)
    site.free, held.free = 12, 8
    first = world.start(site, **quick)
    shown = terminal(directory=there)
    # 12 answers are 12 posts, of which 5 are new; in narrow terminals the totals are left out.
    found = shown.wait_for("● posts", " 5            7  at work")
    assert row(found, "●", "posts")[2] == gethostname()
    assert row(found, "●", "posts")[-5:] == ["0", "5", "7", "at", "work"]
    second = world.start(held, **quick, VALKEY_DEDUP_CONFIRM="manual")
    shown.wait_for("2 at work", " 8  at work")
    site.free = inf
    stats = first.wait()
    found = shown.wait_for("✓ posts", "1 at work")
    counted = [f"{stats[f'dedup/items/{what}']}" for what in ("new", "duplicate")]
    assert counted == ["5", "35"]
    assert row(found, "✓", "posts")[-4:] == ["0", *counted, "ended"]
    assert second.kill()
    found = shown.wait_for("✗ posts", "1 lost")
    assert re.search(r"✗ posts .* lost \ds ago", found)
    everything = row(found, "all")
    assert everything[1:3] == ["2", "runs"]
    assert int(everything[-1]) == 35 + int(row(found, "✗", "posts")[-4])
    shown.press("q")
    assert shown.wait() == 0


def test_rates_are_by_the_run_s_own_clock(
    terminal: Opened, valkey: ValkeyServer, namespace: str
) -> None:
    """60 new and 30 duplicate posts in 10 s of the run are 6 and 3 a second; none at work is none.

    Whenever the watcher looks, and however often. The busiest run comes first.
    """
    here_now = (valkey.url, namespace)
    note(*here_now, "a", spider="quick", age=100.0, new=1000, duplicate=50, open=3)
    note(*here_now, "b", spider="slow", host="else\nwhere", age=5.0)
    note(*here_now, "c", spider="idle", age=50.0, new=9, beat="1 idle")
    note(*here_now, "d")
    shown = terminal()
    found = shown.wait_for("2 at work", "1 waiting", "1 starting")
    assert "new/s" in found
    assert row(found, "all")[-2:] == ["1,009", "50"]
    note(*here_now, "a", spider="quick", age=110.0, new=1060, duplicate=80, open=3)
    note(*here_now, "b", spider="slow", host="else\nwhere", age=45.0, new=4, unchecked=2)
    found = shown.wait_for(" 6 ", " 0.1 ", "2 posts unchecked")
    assert re.search(rf"● quick +here +\dm +6 +{BARS} +3 +{BARS} +7% +3 +1,060 +80 +at work", found)
    assert re.search(rf"● slow +else\\nwhere +\d\ds +0.1 +{BARS} +0 .* at work, 2 unch", found)
    assert re.search(r"○ idle .* waiting", found)
    assert re.search(r"◌ \(starting\) .* starting", found)
    assert found.index("● quick") < found.index("● slow")
    assert re.search(rf"all +4 runs +\dm +6.1 +{BARS} +3 ", found)
    for order in ("spider", "host"):
        shown.press("s")
        shown.wait_for(f"sort: {order}")
    note(*here_now, "e", spider="quick", age=1.0, open=5)
    shown.press("g")
    found = shown.wait_for("one row a run", "● quick       2 runs")
    quick = row(found, "●", "quick")
    assert (quick[2:4], quick[-3:]) == (["2", "runs"], ["2", "at", "work"])


def test_what_a_name_may_not_do(terminal: Opened, valkey: ValkeyServer, namespace: str) -> None:
    """Control characters in the names of a spider, a host or a run never reach the terminal."""
    evil = "\x1b[2J\x1b]0;pwned\x07\x9b31m\r\nbeware\u202e"
    note(valkey.url, namespace, "a", spider=evil, host=evil, ended=evil)
    note(valkey.url, namespace, "b\x1b[1", spider="good")
    for given in ([], ["--count", "1", "--plain"], ["--count", "1", "--json"]):
        shown = terminal(*given, columns=200)
        if given:
            assert shown.wait() == 0
        else:
            assert r"\x1b[2J\x1b]0;pwned\x07\x9b" in shown.wait_for("● good")
        for part in (b"pwned\x07", b"\x1b[2J\x1b]", b"\xc2\x9b", b"\xe2\x80\xae", b"\nbeware"):
            assert part not in shown.written


def test_two_hundred_runs_in_24_lines(
    terminal: Opened, valkey: ValkeyServer, namespace: str
) -> None:
    """As many as there is room for, the lost ones first; how many more there are; all in one row.

    Another size of the window is filled at once; 40 columns have what matters most.
    """
    for number in range(3):
        note(valkey.url, namespace, f"old-{number}", spider="killed", new=1, beat=None)

    @in_loop
    async def fill() -> None:
        async with ledger_at(valkey.url, namespace) as opened:
            await opened.open()
            for number in range(197):
                info = RunInfo("posts", "here", 1e9, open=number, new=10, age=5.0)
                ledger = Ledger(opened._client, namespace, f"r{number}", retention=None)
                await ledger.runs.write_heartbeat(1, LASTS)
                await ledger.runs.write_info(info.to_json(), LASTS)

    fill()
    shown = terminal(columns=80)
    found = shown.wait_for("197 at work", "3 lost")
    lines = found.splitlines()
    assert len(lines) == 24
    assert lines[-1].startswith("q quit   p pause   s sort: activity")
    listed = [line for line in lines if line.startswith(("●", "✗"))]
    assert [line[0] for line in listed[:4]] == [*"✗✗✗●"]
    assert f"and {200 - len(listed)} more runs: {200 - len(listed)} at work" in lines[-2]
    assert row(found, "all")[1:3] == ["200", "runs"]
    assert row(listed[3], "●", "posts")[-1] == "196"  # of those as busy, with the most claims
    shown.resize(40, 12)
    found = shown.wait_for("spider", "q quit", gone="5 min")
    assert len(found.splitlines()) == 12
    assert "  and 197 more runs: 197 at work" in found
    shown.resize(120, 240)
    assert shown.wait_for("● posts", gone="more runs").count("● posts") == 197


def test_nothing_to_see(terminal: Opened, tmp_path: Path) -> None:
    """No run has been here: that is said. Pause asks nothing, and goes on."""
    shown = terminal("--count", "9")
    shown.wait_for("no run is at work", "no run has been here yet", "answers in", "memory")
    shown.press("p")
    shown.wait_for("paused", "p go on")
    shown.press("p")
    shown.wait_for("every 1s", gone="paused")
    assert shown.wait() == 0


# -- how the terminal is left ----------------------------------------------------------------------

WAYS: dict[str, tuple[Callable[[Terminal], Any], int, str]] = {
    "q": (lambda shown: shown.press("q"), 0, ""),
    "Ctrl-D": (lambda shown: shown.press("\x04"), 0, ""),
    "Ctrl-C": (lambda shown: shown.press("\x03"), 130, "interrupted"),
    "Ctrl-\\": (lambda shown: shown.press("\x1c"), 131, ""),
    "SIGTERM": (lambda shown: shown.process.send_signal(signal.SIGTERM), 143, "interrupted"),
    "SIGHUP": (lambda shown: shown.process.send_signal(signal.SIGHUP), 129, ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_terminal_is_left_as_it_was(terminal: Opened, way: str) -> None:
    """Its attributes, its first screen with all on it, its cursor; nothing typed is left for it."""
    end, code, said = WAYS[way]
    shown = terminal()
    shown.wait_for("q quit")
    meanwhile = shown.state
    assert meanwhile[0] != shown.before[0]
    assert meanwhile[1:3] == (True, True)
    shown.press("\x1b[A\x1b[Bp")  # arrows do nothing
    shown.wait_for("paused")  # so all of it has arrived: a key that comes later would be echoed
    end(shown)
    assert shown.wait() == code
    assert_as_before(shown, said)
    if not said:
        assert shown.state == shown.before


def assert_as_before(shown: Terminal, said: str = "") -> None:
    """As it was, but for a line that the command has said."""
    assert shown.state[:3] == shown.before[:3]
    assert shown.text.rstrip() == f"$ before\n{said}".rstrip()


FAULT = """
import sys
from scrapy import cmdline
from scrapy_valkey_dedup.commands.shared.watching import live

drawn, pictures = [], live.picture
def picture(*given):
    drawn.append(given)
    if len(drawn) > 2:
        raise ZeroDivisionError("a fault")
    return pictures(*given)

live.picture = picture
cmdline.execute(["scrapy", "dedup", "watch", "--interval", "1s"])
"""


READS = """
from scrapy import cmdline
from scrapy_valkey_dedup.commands.shared.watching import live

class Reading(live.Terminal):
    def draw(self, lines):
        self._read()
        super().draw(lines)

live.Terminal = Reading
cmdline.execute(["scrapy", "dedup", "watch", "--interval", "1s"])
"""


def test_keys_that_are_gone_block_nothing(here: Path) -> None:
    """Ctrl-C takes away keys that were typed before it: what was told to be there is not."""
    with closing(Terminal(patience=PATIENCE)) as shown:
        shown.start([sys.executable, "-c", READS], here, environment())
        shown.wait_for("q quit")
        shown.press("q")
        assert shown.wait() == 0
        assert_as_before(shown)


def test_a_fault_leaves_the_terminal_as_it_was(here: Path) -> None:
    """What Python says of it is on the first screen, whole, and lines begin at the left."""
    with closing(Terminal(lines=200, patience=PATIENCE)) as shown:
        shown.start([sys.executable, "-c", FAULT], here, environment())
        assert shown.wait() == 1
        assert OTHER_SCREEN in shown.written
        assert shown.state[:3] == shown.before[:3]
        assert shown.text.splitlines()[0] == "$ before"
        assert "ZeroDivisionError: a fault" in shown.text


def test_ctrl_z_in_a_shell(here: Path) -> None:
    """The shell has its screen and its attributes back; `fg` shows the fleet again."""
    with closing(Terminal(lines=50, patience=PATIENCE)) as shown:
        shell = ["bash", "--norc", "--noprofile", "-i"]
        shown.start(shell, here, environment(PS1="$ ", TERM="xterm"))
        shown.press("stty -g > one; set +o history\n")
        shown.press(" ".join(words("watch", "--interval", "1s")) + "\n")
        shown.wait_for("q quit")
        for file in ("two", "three"):
            shown.press("\x1a")
            found = shown.wait_for("Stopped")
            assert found.startswith("$ before")
            assert shown.state[1:3] == (False, False)
            shown.press(f"stty -g > {file}; fg\n")
            shown.wait_for("q quit", gone="Stopped")
        shown.press("q")
        shown.wait_for("$ ", gone="q quit")
        shown.press("exit\n")
        shown.wait()
    settings = {(here / file).read_text() for file in ("one", "two", "three")}
    assert len(settings) == 1


def test_a_server_that_is_not_there(terminal: Opened, here: Path) -> None:
    """At the start the message, and exit code 2: the terminal has not been touched."""
    url = f"valkey://127.0.0.1:{free_port()}"
    shown = terminal("--url", url, "-s", "VALKEY_DEDUP_TIMEOUT=0.5")
    assert shown.wait() == 2
    assert OTHER_SCREEN not in shown.written
    assert shown.state[:3] == shown.before[:3]
    assert "gave no answer" in shown.text
    for given, said in (
        (["--interval", "soon"], "45s"), (["--interval", "0.1"], "1s"), (["--count", "0"], "1"),
    ):  # fmt: skip
        ended = dedup("watch", *given, directory=here)
        assert ended.code == 2
        assert said in ended.err


def test_a_server_that_goes_away_and_comes_back(tmp_path: Path, terminal: Opened) -> None:
    """The runs stay on the screen, and since when there is no answer; it goes on by itself."""
    with ValkeyServer(persistent=True) as server:
        there = project(tmp_path / "p", VALKEY_DEDUP_URL=server.url, VALKEY_DEDUP_TIMEOUT=0.5)
        note(server.url, "posts", "a", new=7, age=1.0)
        shown = terminal(directory=there)
        shown.wait_for("● posts", "answers in")
        server.kill()
        found = shown.wait_for("no answer since", gone="answers in")
        assert "● posts" in found
        assert re.search(r"no answer since \d\d:\d\d:\d\d \(\ds\): Valkey at ", found)
        server.start()
        shown.wait_for("answers in", "● posts", "1 at work", gone="no answer")


# -- elsewhere than on a terminal ------------------------------------------------------------------


def test_without_a_terminal(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """One line, or one JSON object, for each look; nothing that only a terminal understands."""
    note(valkey.url, namespace, "a", age=10.0, new=30, duplicate=70, open=2, outages=1)
    note(valkey.url, namespace, "b", age=10.0, new=1, ended="shutdown", beat=None)
    found = run("watch", "--interval", "1s", "--count", "2", directory=here)
    assert (found.code, found.err) == (0, "")
    lines = found.out.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(
            r"\d\d:\d\d:\d\d  1 at work, 1 ended  new -/s  duplicate -/s \(69% so far\)"
            r"  2 claims open  [\d.]+ ms \(p99 [\d.]+\)  0 posts  [\d.]+ MB", line,
        )  # fmt: skip
    told = json.loads(dedup("watch", "--count", "1", "--json", directory=here).out)
    assert told["error"] is None
    assert told["posts"] == {"entries": 0, "exact": True}
    runs = {each["run"]: each for each in told["runs"]}
    assert (runs["a"]["state"], runs["b"]["state"]) == ("at work", "ended")
    assert {**runs["a"], "new": 30, "duplicate": 70, "open": 2, "outages": 1} == runs["a"]
    assert runs["b"]["ended"] == "shutdown"


@pytest.mark.parametrize("lacking", ["rich", "colours", "TERM", "characters"])
def test_a_terminal_that_lacks_something(
    terminal: Opened, valkey: ValkeyServer, namespace: str, tmp_path: Path, lacking: str
) -> None:
    """Without rich, or on a dumb terminal, plain lines; no colours, or only ASCII, as asked."""
    note(valkey.url, namespace, "a", spider="pösts", age=10.0, new=30)
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['rich'] = None\n")
    env = {
        "rich": {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])},
        "colours": {"NO_COLOR": "1"},
        "TERM": {"TERM": "dumb"},
        "characters": {"PYTHONIOENCODING": "ascii:backslashreplace"},
    }[lacking]
    shown = terminal("--count", "2", env=env)
    if lacking in ("rich", "TERM"):
        assert shown.wait() == 0
        assert OTHER_SCREEN not in shown.written
        assert shown.text.count("1 at work") == 2
        assert ('pip install "scrapy-valkey-dedup[cli]"' in shown.text) is (lacking == "rich")
        return
    shown.wait_for("spider", "* " if lacking == "characters" else "● pösts")
    assert shown.wait() == 0
    if lacking == "colours":
        assert not COLOUR.search(shown.written)
    else:
        assert shown.written.isascii()
        assert COLOUR.search(shown.written)


# -- where it works, and what it costs -------------------------------------------------------------


def test_what_a_look_costs(tmp_path: Path, namespace: str) -> None:
    """A ping, heartbeats, notes, and one SCAN a thousand keys, of which ten at most."""
    with ValkeyServer() as server:
        here = project(tmp_path, VALKEY_DEDUP_URL=server.url, VALKEY_DEDUP_NAMESPACE=namespace)
        for run_ in "abc":
            note(server.url, namespace, run_, age=1.0)
        assert dedup("watch", "--count", "1", directory=here).code == 0  # it sends the script
        counted = []
        for many in (0, 40_000):
            server.ask("EVAL", "for i = 1, ARGV[1] do redis.call('SET', 'x' .. i, 1) end", 0, many)
            for looks in (2, 5):
                server.ask("CONFIG", "RESETSTAT")
                given = ("--interval", "1s", "--count", str(looks))
                assert dedup("watch", *given, directory=here).code == 0
                counted.append(calls(server))
        few, many_looks = ({name: (there[name] - before[name]) / 3 for name in there}
                           for before, there in (counted[:2], counted[2:]))  # fmt: skip
        once = {"get": 1.0, "mget": 2.0}
        assert {name: number for name, number in few.items() if number} == {**once, "scan": 1}
        found = {name: number for name, number in many_looks.items() if number}
        assert found == {**once, "scan": 10}


def calls(server: ValkeyServer) -> dict[str, int]:
    """The commands that a server was asked, but for those of this test."""
    stats = server.ask("INFO", "commandstats")
    found = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    return {name: number for name, number in found.items() if "config" not in name}


def test_a_reader_in_a_cluster(tmp_path: Path, namespace: str) -> None:
    """A user who may only read sees all; a spider's user all but the runs, and why not."""
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    (rules,) = re.findall(r"ACL SETUSER reader on >PASSWORD (.*?)\n```", page, re.DOTALL)
    with ValkeyCluster(replicas=0) as cluster:
        here = project(tmp_path, VALKEY_DEDUP_NAMESPACE=namespace)
        note(cluster.url, namespace, "a", age=1.0, new=3)
        users = {"reader": [*rules.split(), "+cluster|slots"], "spider": [*RULES, "+cluster|slots"]}
        told = {}
        for name, allowed in users.items():
            for node in cluster.nodes:
                node.ask("ACL", "SETUSER", name, "on", ">secret", *allowed)
            url = cluster.url.replace("://", f"://{name}:secret@")
            ended = dedup("watch", "--url", url, "--count", "2", "--interval", "1s", "--json",
                          directory=here)  # fmt: skip
            assert ended.code == 0, ended.err
            assert "secret" not in ended.out
            told[name] = [json.loads(line) for line in ended.out.splitlines()][-1]
        assert [each["new"] for each in told["reader"]["runs"]] == [3]
        assert told["reader"]["memory"]["used"] > 0
        assert (told["spider"]["runs"], told["spider"]["memory"]) == ([], None)
        assert "scan" in told["spider"]["refused"]
        assert told["spider"]["posts"] == {"entries": 0, "exact": True}
