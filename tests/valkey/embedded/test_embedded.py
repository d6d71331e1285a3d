"""The embedded server: the first user starts it, the last one stops it."""

import threading

from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer
from tests.support.patience import PATIENCE
from tests.support.servers.embedded import client, is_free, is_gone, members, server_pid, until


def test_first_starts_it_and_last_stops_it(data_dir):
    """The server lives from the first user's acquire to the last user's release."""
    first, second = EmbeddedServer(data_dir), EmbeddedServer(data_dir)
    pid = server_pid(first.acquire())
    assert server_pid(second.acquire()) == pid
    first.release()
    assert not is_gone(pid)
    second.release()
    assert is_free(data_dir / "server.lock")
    until(lambda: is_gone(pid), "the server ends")
    assert not second.socket_path.exists()


def test_data_survive_a_restart(data_dir):
    """What one life of the server was told, the next one knows."""
    server = EmbeddedServer(data_dir)
    with client(server.acquire()) as connection:
        connection.sadd("ledger", *range(1000))
    server.release()
    assert members(server.acquire()) == set(range(1000))
    server.release()


def test_acquire_and_release_may_be_repeated(data_dir):
    """A second acquire or release, and a release without acquire, change nothing."""
    server, other = EmbeddedServer(data_dir), EmbeddedServer(data_dir)
    server.release()
    assert server.acquire() == server.acquire()
    pid = server_pid(other.acquire())
    server.release()
    server.release()
    assert server_pid(other.acquire()) == pid
    other.release()
    assert is_free(data_dir / "server.lock")


def test_ten_processes_at_once_share_one_server(data_dir, spider):
    """Ten processes that start at one instant reach one server, and all they write is there."""
    spiders = [spider() for _ in range(10)]
    for one in spiders:
        one.order("acquire")
    answers = {one.answer() for one in spiders}
    assert len(answers) == 1
    for number, one in enumerate(spiders):
        one.order("write", number * 100, number * 100 + 100)
    assert [one.answer() for one in spiders] == [[1] * 100] * 10
    url, pid = answers.pop()
    assert members(url) == set(range(1000))
    for one in spiders:
        one.order("release")
    assert {one.answer() for one in spiders} == {"released"}
    until(lambda: is_gone(pid), "the server ends")


def test_leaving_and_coming_at_once_loses_nothing(data_dir, spider):
    """A run that starts while the last one ends gets a living server, whichever is first."""
    spiders = [spider() for _ in range(4)]
    for number, one in enumerate(spiders):
        one.order("rounds", number * 15, number * 15 + 15)
    assert {one.answer() for one in spiders} == {"done"}
    assert is_free(data_dir / "server.lock")
    server = EmbeddedServer(data_dir)
    assert members(server.acquire()) == set(range(60))
    server.release()


def test_threads_may_share_an_object(data_dir):
    """Calls from several threads at once leave one hold, which one release gives back."""
    server = EmbeddedServer(data_dir)
    pids = []
    threads = [
        threading.Thread(target=lambda: pids.append(server_pid(server.acquire()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(pids) == 8
    assert len(set(pids)) == 1
    server.release()
    assert is_free(data_dir / "users.lock")
    assert is_free(data_dir / "server.lock")
