"""The environments of the peers: ``python -m bench.suite.environments`` makes what is missing.

Each is ``.venv-bench-NAME`` in the repository, with the newest Scrapy that its peers run on. What
pip says when a package cannot be installed stays there, for the list of the peers that cannot run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEWEST, SCRAPY_2_15, SCRAPY_2_11 = "newest", "scrapy-2.15", "scrapy-2.11"
ENVIRONMENTS = {
    NEWEST: (
        "scrapy>=2.14",
        "scrapy-crawl-once==0.1.1",
        "scrapy-deltafetch==2.1.0",
        "scrapy-redis-bloomfilter==0.8.1",
        "scrapy-redis==0.9.1",
    ),
    SCRAPY_2_15: ("scrapy>=2.15,<2.16", "scrapy-deltafetch==2.1.0"),
    SCRAPY_2_11: (
        "scrapy>=2.11,<2.12",
        "twisted<25",
        "w3lib<2.4",
        "scrapy-crawl-once==0.1.1",
    ),
}
"""What each environment has; the newest Scrapy that a peer runs on was found by trying."""


def folder(name: str) -> Path:
    """Where an environment is."""
    return ROOT / f".venv-bench-{name}"


def interpreter(name: str) -> Path:
    """Its Python; the one that runs this for the environment without a name."""
    return folder(name) / "bin" / "python" if name else Path(sys.executable)


def error(name: str) -> str:
    """Why it is not there; empty if it is."""
    if interpreter(name).exists() and not (folder(name) / "error").exists():
        return ""
    note = folder(name) / "error"
    return note.read_text() if note.exists() else "not installed: `make bench-environments`"


def make(name: str) -> None:
    """Makes an environment, unless it is there with what it should have."""
    wanted, mark = "\n".join(ENVIRONMENTS[name]), folder(name) / "ready"
    if mark.exists() and mark.read_text() == wanted:
        return
    note = folder(name) / "error"
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder(name)], check=True)
    install = [str(interpreter(name)), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name]]
    done = subprocess.run(install, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        note.write_text(lines[-1] if lines else f"pip ended with {done.returncode}")
        print(f"{name}: {note.read_text()}")
    else:
        mark.write_text(wanted)


if __name__ == "__main__":
    for each, packages in ENVIRONMENTS.items():
        print(f"{folder(each).name}: {', '.join(packages)}", flush=True)
        make(each)
