"""The file of a dump: what was written is read, and what is not whole, or no dump, is refused."""

from __future__ import annotations

import json
import os
import re
import stat
from array import array
from hashlib import blake2b
from pathlib import Path
from struct import pack
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapy_valkey_dedup.commands.shared.dump_format import Head
from scrapy_valkey_dedup.commands.shared.dump_reader import DumpReader
from scrapy_valkey_dedup.commands.shared.dump_writer import DumpWriter
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.transfer import Bucket, Step

HEAD = Head("posts", "posts", "2026-11-26T08:00:00+00:00")
PAGE = (Path(__file__).parents[2] / "docs" / "dump-file.md").read_text("utf-8")

MEMBERS = st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20)
PATHS = st.integers(0, 7).flatmap(
    lambda below: st.tuples(
        st.integers(0, 255).map("{:02x}".format),
        st.text("01234567", min_size=below, max_size=below),
    ).map("".join)
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, Step]:
    """Some buckets of one level."""
    first = draw(PATHS)
    alike = PATHS.filter(lambda path: len(path) == len(first))
    paths = [first, *(draw(st.lists(alike, max_size=2)) if len(first) < 4 else [])]
    buckets = [Bucket(path, array("q", sorted(draw(MEMBERS)))) for path in paths]
    kind = draw(st.sampled_from(["posts", "pages", "timelines"]))
    ends = draw(st.integers(0, 10**13 - 1))
    return kind, Step(draw(st.integers(0, 15)), ends, buckets)


def written(path: Path, held: list[tuple[str, Step]], head: Head = HEAD) -> bytes:
    """The file that holds this."""
    with DumpWriter(path, head) as file:
        for kind, step in held:
            file.add(kind, step)
        file.finish()
    return path.read_bytes()


def some() -> list[tuple[str, Step]]:
    """What a small ledger holds."""
    return [
        ("pages", Step(0, 0, [Bucket("00", array("q", [-1, 5]))])),
        ("posts", Step(3, 1764000000000, [Bucket("a0", array("q", range(511)))])),
        (
            "posts",
            Step(3, 1764000000000, [Bucket(path, array("q", [7])) for path in ("a07", "ff0")]),
        ),
    ]


def refusal(path: Path) -> str:
    """Why a file is refused."""
    with pytest.raises(CommandError) as caught, DumpReader(path) as file:
        file.verify()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@given(st.lists(steps(), max_size=5))
@settings(max_examples=100)
def test_what_is_written_is_read(held: list[tuple[str, Step]]) -> None:
    """Twice, in order, with every path, end and member."""
    with TemporaryDirectory() as folder:
        written(Path(folder, "a.dump"), held)
        with DumpReader(Path(folder, "a.dump")) as file:
            assert file.head == HEAD
            assert sum(file.verify().values()) == sum(step.size for _, step in held)
            assert list(file.steps()) == list(file.steps()) == held


@given(st.data())
@settings(max_examples=300)
def test_what_is_altered_is_refused(data: st.DataObject) -> None:
    """A byte that is another, missing, or too many, wherever it is: the whole file is refused."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.dump")
        whole = written(path, some())
        at = data.draw(st.integers(0, len(whole) - 1))
        other = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
        part = data.draw(st.sampled_from([b"", other, b"\0" + whole[at : at + 1]]))
        altered = whole[:at] + part + whole[at + 1 :]
        if altered == whole:  # a zero before zeros is the same file, but for its length
            altered += b"\0"
        path.write_bytes(altered)
        refusal(path)


@given(st.integers(0, 10_000))
def test_what_is_cut_off_is_refused(at: int) -> None:
    """Wherever it was."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.dump")
        whole = written(path, some())
        path.write_bytes(whole[: at % len(whole)])
        refusal(path)


def test_a_bucket_that_is_huge(tmp_path: Path) -> None:
    """As those of the last level may be: it stands in pieces, none too large to read."""
    path = tmp_path / "a.dump"
    held = [("posts", Step(0, 0, [Bucket("000000000", array("q", range(300_000)))] * 20))]
    written(path, held)
    with DumpReader(path) as file:
        assert file.verify()["posts"] == 6_000_000
        found = array("q")
        for _, step in file.steps():
            for bucket in step.buckets:
                found += bucket.members
    assert found == array("q", range(300_000)) * 20


def frames_of(whole: bytes) -> list[bytes]:
    """The first line, and the frames behind it."""
    found = [whole[: whole.index(b"\n") + 1]]
    at = len(found[0])
    while at < len(whole):
        size = 5 + int.from_bytes(whole[at + 1 : at + 5], "little") + 16
        found.append(whole[at : at + size])
        at += size
    return found


def test_frames_cannot_change_places(tmp_path: Path) -> None:
    """Whole frames that are left out, put twice or exchanged, or more behind the end: refused."""
    path = tmp_path / "a.dump"
    line, head, *between, last, end = frames_of(written(path, some()))
    first, second = between
    for listed in (
        [head, *between, end],
        [head, second, first, last, end],
        [head, first, first, second, last, end],
        [head, *between, last],
        [head, *between, last, end, end],
        [head, *between, last, end, b"\n"],
        [*between, last, end],
        [],
    ):
        path.write_bytes(b"".join([line, *listed]))
        refusal(path)


def test_the_page_describes_it(tmp_path: Path) -> None:
    """A reader made from docs/dump-file.md alone finds all that there is."""
    path = tmp_path / "a.dump"
    written(path, some())
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(program, scope)
    found = list(scope["buckets"](path))
    assert found == [
        (kind, step.partition, step.ends, bucket.path, list(bucket.members))
        for kind, step in (("pages", some()[0][1]), *some()[1:])
        for bucket in step.buckets
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a dump"),
        (b'{"post_id": 1}\n', "is not a dump"),
        (b"\0" * 100, "is not a dump"),
        (b"scrapy-valkey-dedup dump", "is not a dump"),
        (b"scrapy-valkey-dedup dump 2\n", "version '2'"),
        (b"scrapy-valkey-dedup dump 1", "version '1'"),
        (b"scrapy-valkey-dedup dump 1\r\n", "version '1'"),
        (b"scrapy-valkey-dedup dump 1\n", "cut off at byte 27"),
    ],
)
def test_what_is_no_dump(tmp_path: Path, content: bytes, said: str) -> None:
    """Another file, or one of another version, is refused in a line that says so."""
    path = tmp_path / "a.dump"
    path.write_bytes(content)
    assert said in refusal(path)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    """A file of a ledger that this version cannot read, although it is whole."""
    path = tmp_path / "a.dump"
    written(path, some(), Head("posts", "posts", "", layout="3"))
    assert "layout '3'" in refusal(path)


def crafted(*frames: tuple[bytes, bytes]) -> bytes:
    """A file whose checksums are right, whatever it holds."""
    whole = b"scrapy-valkey-dedup dump 1\n"
    for kind, content in frames:
        whole += pack("<cI", kind, len(content)) + content
        whole += blake2b(whole, digest_size=16).digest()
    return whole


GOOD_HEAD = (b"L", json.dumps(vars(HEAD)).encode())
GOOD_END = (b"E", b'{"posts": 0, "pages": 0, "timelines": 0}')


@pytest.mark.parametrize(
    "frames",
    [
        [(b"L", b"[]"), GOOD_END],
        [(b"L", b'{"tag": 7}'), GOOD_END],
        [(b"L", GOOD_HEAD[1].replace(b'"posts"', b"7")), GOOD_END],
        [(b"X", GOOD_HEAD[1]), GOOD_END],
        [GOOD_HEAD, (b"E", b"no JSON")],
        [GOOD_HEAD, (b"E", b'{"posts": 1, "pages": 0, "timelines": 0}')],
        [GOOD_HEAD, GOOD_HEAD, GOOD_END],
        [GOOD_HEAD, (b"B", b""), GOOD_END],
        [GOOD_HEAD, (b"B", pack("<BBBQ", 0, 0, 1, 0)), GOOD_END],
        *(
            [GOOD_HEAD, (b"B", pack("<BBBQIIq", *numbers)), GOOD_END]
            for numbers in (
                (3, 0, 1, 0, 0, 1, 5),  # no such kind
                (0, 16, 1, 0, 0, 1, 5),  # no such partition
                (0, 0, 0, 0, 0, 1, 5),  # no such level
                (0, 0, 9, 0, 0, 1, 5),
                (0, 0, 1, 10**13, 0, 1, 5),  # an end of 14 digits
                (0, 0, 1, 0, 256, 1, 5),  # no path of that level
                (0, 0, 1, 0, 0, 0, 5),  # no members
                (0, 0, 1, 0, 0, 2, 5),  # more members than there are
                (0, 0, 1, 0, 0, 1 << 31, 5),
            )
        ),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, frames: list[tuple[bytes, bytes]]) -> None:
    """Even if its checksums are right."""
    path = tmp_path / "a.dump"
    path.write_bytes(crafted(*frames))
    refusal(path)
    path.write_bytes(crafted(GOOD_HEAD, GOOD_END))
    with DumpReader(path) as file:
        assert sum(file.verify().values()) == 0


# -- writing ---------------------------------------------------------------------------------------


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    """Mode 0600, whatever the umask and the mode of a dump that was there."""
    path = tmp_path / "a.dump"
    before = os.umask(0)
    try:
        for _ in range(2):
            written(path, some())
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            path.chmod(0o644)
    finally:
        os.umask(before)
    assert [each.name for each in tmp_path.iterdir()] == ["a.dump"]


def test_an_earlier_dump_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    """A dump that does not come to its end leaves the earlier one, and nothing of itself."""
    path = tmp_path / "a.dump"
    earlier = written(path, some())

    def interrupted() -> None:
        with DumpWriter(path, HEAD) as file:
            file.add(*some()[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [earlier]
    (tmp_path / "link").symlink_to(path)
    later = written(tmp_path / "link", some()[:1])
    assert (tmp_path / "link").is_symlink()
    assert path.read_bytes() == later != earlier


def test_any_other_file_is_left_alone(tmp_path: Path) -> None:
    """It is not replaced, and neither is a folder or a pipe, which is not waited for."""
    path, pipe = tmp_path / "posts.jl", tmp_path / "pipe"
    path.write_bytes(b'{"post_id": 1}\n')
    os.mkfifo(pipe)
    for place in (path, pipe, tmp_path, tmp_path / "nowhere" / "a.dump"):
        with pytest.raises(CommandError, match=re.escape(str(place))):
            DumpWriter(place, HEAD)
    pipe.unlink()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b'{"post_id": 1}\n']


def test_a_dump_is_read_twice(tmp_path: Path) -> None:
    """So a pipe is refused at once, and a file that is not there in one line."""
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refusal(tmp_path / "pipe")
    assert "is not a file" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "nothing")
