"""Takes a picture of a page with a headless Chromium, and makes its file small."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# With the last three it looks for no updates and for no hosts of Google.
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--hide-scrollbars", "--force-color-profile=srgb", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
_SECONDS = 120


def screenshot(page: Path, to: Path, width: int, height: int, *, scale: float = 2) -> None:
    """Writes a PNG of a page in a window of so many CSS pixels, ``scale`` times as large."""
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        raise SystemExit("there is no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="svd-browser-") as profile:
        subprocess.run(
            [
                browser, *_OPTIONS, f"--user-data-dir={profile}", f"--screenshot={to}",
                f"--window-size={width},{height}", f"--force-device-scale-factor={scale}",
                page.as_uri(),
            ],
            check=True, capture_output=True, timeout=_SECONDS,
        )  # fmt: skip
    shrink(to)


def shrink(file: Path, colours: int = 64) -> None:
    """Writes a PNG again with so many colours, which text and lines need at most."""
    with Image.open(file) as image:
        few = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    few.save(file, optimize=True)
