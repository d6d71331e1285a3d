"""Prints the oldest or the newest Python of this machine that the plugin supports.

Looks at PATH and at pyenv's versions: ``python3 .ci/pythons.py oldest``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SUPPORTED = range(10, 15)


def works(command: str) -> bool:
    """Whether it runs, and can make virtual environments."""
    try:
        ended = subprocess.run(  # noqa: S603 (candidates found on this machine)
            [command, "-c", "import ensurepip, ssl, sqlite3, venv"],
            check=False,
            capture_output=True,
        )
    except OSError:
        return False
    return ended.returncode == 0


def candidates(minor: int) -> list[str]:
    """Where a Python 3.minor may be."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = [shutil.which(f"python3.{minor}")]
    found += [str(path) for path in pyenv.glob(f"3.{minor}.*/bin/python3.{minor}")]
    return [path for path in found if path]


if __name__ == "__main__":
    order = SUPPORTED if sys.argv[1:] == ["oldest"] else reversed(SUPPORTED)
    working = (path for minor in order for path in candidates(minor) if works(path))
    print(next(working, "python3"))
