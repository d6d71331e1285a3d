"""A slow line to a server, as a process: ``python -m bench.servers.slow_line PORT TARGET MS``.

Each direction takes so many milliseconds more. Says ``ready`` when it listens on ``PORT``.
"""

from __future__ import annotations

import signal
import sys

from bench.servers.faulty_proxy import FaultyProxy


def main(port: int, target: int, milliseconds: float) -> None:
    """Carries connections until it is killed."""
    with FaultyProxy(target, port=port) as line:
        line.delay = milliseconds / 1000
        print("ready", flush=True)
        signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
