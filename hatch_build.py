"""The README on PyPI, where links into the repository must be whole addresses.

The repository's address is known where a release is made: GitHub Actions has it in the environment.
A build elsewhere leaves the links as they are, and names no address.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:)([^)\s]+)\)")  # to a file, or within the page
_IMAGE = re.compile(r'(src|srcset)="(?![a-z]+:)([^"\s]+)"')


def readme_at(text: str, address: str, version: str) -> str:
    """The README with links to the files of this version: pages as pages, images as files."""

    def whole(found: re.Match[str]) -> str:
        is_image, label, path = found[1], found[2], found[3]
        kind = "raw" if is_image else "blob"
        path = f"README.md{path}" if path.startswith("#") else path
        return f"{is_image}[{label}]({address}/{kind}/v{version}/{path})"

    text = _IMAGE.sub(rf'\1="{address}/raw/v{version}/\2"', text)
    return _LINK.sub(whole, text)


def addresses(address: str, version: str) -> dict[str, str]:
    """What PyPI shows beside the README."""
    return {
        "Homepage": address,
        "Documentation": f"{address}/tree/v{version}/docs",
        "Changelog": f"{address}/blob/v{version}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }


class Address(MetadataHookInterface):
    """Gives readme and urls, which pyproject.toml leaves to it."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the metadata of pyproject.toml."""
        text = Path(self.root, "README.md").read_text("utf-8")
        server, repository = os.getenv("GITHUB_SERVER_URL"), os.getenv("GITHUB_REPOSITORY")
        metadata["urls"] = {}
        if server and repository:
            address, version = f"{server}/{repository}", metadata["version"]
            text = readme_at(text, address, version)
            metadata["urls"] = addresses(address, version)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
