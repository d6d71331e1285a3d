"""Makes the chart library of `scrapy dedup report` again: ``make vendor``.

It takes the packages of package-lock.json from npm, which checks their hashes, and has esbuild put
what charts.js names into one file. The result must be the file that is in the repository, byte for
byte; with ``--update`` it replaces that file.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "scrapy_valkey_dedup/commands/shared/reports/vendor"
BUNDLE = ["--bundle", "--minify", "--format=iife", "--global-name=Plot", "--target=es2020"]


def build(folder: Path) -> dict[str, bytes]:
    """The files of the vendor folder, made in an empty folder."""
    for name in ("package.json", "package-lock.json", "charts.js"):
        shutil.copy(HERE / name, folder)
    subprocess.run(["npm", "ci", "--silent", "--ignore-scripts"], cwd=folder, check=True)  # noqa: S607
    esbuild = [folder / "node_modules/.bin/esbuild", "charts.js", *BUNDLE]
    listed = ["--metafile=meta.json", "--outfile=plot.js", "--legal-comments=none"]
    subprocess.run([*esbuild, *listed], cwd=folder, check=True)  # noqa: S603
    return {"plot.js": (folder / "plot.js").read_bytes(), "LICENSES.txt": licenses(folder)}


def licenses(folder: Path) -> bytes:
    """The licences of all packages that went into the file."""
    found = []
    for path in sorted((folder / "node_modules").glob("**/package.json")):
        package = path.parent.relative_to(folder / "node_modules").as_posix()
        if f'"node_modules/{package}/' in (folder / "meta.json").read_text("utf-8"):
            (text,) = path.parent.glob("LICENSE*")
            found.append(f"{package}\n\n{text.read_text('utf-8').strip()}\n")
    return ("\n" + "-" * 80 + "\n\n").join(found).encode()


def main() -> int:
    """Compares, or replaces."""
    with tempfile.TemporaryDirectory() as folder:
        made = build(Path(folder))
    if "--update" in sys.argv:
        for name, content in made.items():
            (TARGET / name).write_bytes(content)
    differing = [name for name, content in made.items() if (TARGET / name).read_bytes() != content]
    print("differ:" if differing else "the same:", *(differing or made))
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
