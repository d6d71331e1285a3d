"""Where figures are from: the commit, the machine, the versions. No names of machines, no paths."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.servers import ValkeyServer
from bench.suite.environments import ROOT
from bench.suite.peers import versions

_PACKAGES = ("scrapy", "twisted", "valkey", "libvalkey", "scrapy-valkey-dedup")


def provenance(command: str, size: str) -> dict[str, Any]:
    """What the row was measured with; its seconds come when it is done."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _git("rev-parse", "--short=10", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--", "scrapy_valkey_dedup", "bench")),
        "command": command,
        "size": size,
        "load": round(os.getloadavg()[0], 1),
        "machine": _machine(),
        "versions": _versions(),
    }


def _git(*words: str) -> str:
    asked = ["git", "-C", str(ROOT), *words]
    return subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()


def _machine() -> dict[str, Any]:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory, GB": round(pages * size / 1e9),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    installed = versions("")
    with ValkeyServer() as server:
        about = server.info()
    name = "Valkey" if "valkey_version" in about else "Redis"
    return {
        "Python": platform.python_version(),
        name: str(about.get("valkey_version") or about["redis_version"]),
        "allocator": str(about["mem_allocator"]),
        **{package: installed[package] for package in _PACKAGES if package in installed},
    }
