"""Takes a picture of a page, and makes its file small."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from bench.screenshots.chromium import Page, chromium


def screenshot(page: Path, to: Path, width: int, height: int, *, scale: float = 2) -> None:
    """Writes a PNG of a page in a window of so many CSS pixels, ``scale`` times as large."""
    with chromium() as browser:
        shown = Page(browser)
        shown.show(width, height, scale=scale)
        shown.open(page.as_uri())
        shown.picture(to)
    shrink(to)


def shrink(file: Path, colours: int = 64) -> None:
    """Writes a PNG again with so many colours, which text and lines need at most."""
    with Image.open(file) as image:
        few = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    few.save(file, optimize=True)
