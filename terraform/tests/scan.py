"""checkov, with its own checks and ours; and ours must refuse what it is there to refuse."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from commands import MODULE, Failure, attempt, run

CHECKOV = str(Path(sys.executable).parent / "checkov")
OURS = "CKV2_DEDUP_1"
OPTIONS = ("--framework", "terraform", "--compact", "--quiet", "--skip-download")
OPTIONS += ("--external-checks-dir", str(MODULE / "checkov"))
# What is taken out of the cache, as a pattern; without any of it our check must fail.
TAKEN_OUT = {
    "user-group": r"\n +user_group_id += aws_.*",
    "key": r"\n +kms_key_id += local\..*",
    "limit-of-storage": r"\n +maximum += var\.storage_maximum_gb",
    "limits": r"\n  cache_usage_limits \{\n(    .*\n)+  \}",
}


def check(place: Path) -> str:
    """Fails unless all checks pass, or are skipped with a reason; returns checkov's summary."""
    place.mkdir()
    for path in MODULE.rglob("*.tf"):
        for skip in re.findall(r"checkov:skip=\S.*", path.read_text()):
            if not re.fullmatch(r"checkov:skip=CKV2?_AWS_\d+:\S+( \S+){4,}", skip):
                raise Failure(f"{path.name}: a skip needs a reason, in words: {skip}")
    found = run(CHECKOV, "-d", str(MODULE), *OPTIONS, place=place)
    _ours_refuses(place)
    return next(line for line in found.splitlines() if line.startswith("Passed checks"))


def _ours_refuses(place: Path) -> None:
    right = (MODULE / "main.tf").read_text()
    for name, pattern in TAKEN_OUT.items():
        wrong, count = re.subn(pattern, "", right)
        if count != 1:
            raise Failure(f"scan.py: main.tf does not say once: {pattern}")
        (place / name).mkdir()
        (place / name / "main.tf").write_text(wrong)
    command = [CHECKOV, "-d", str(place), "--check", OURS, "--output", "json", *OPTIONS]
    report = json.loads(attempt(*command, place=place).stdout)
    refused = {
        Path(failed["file_path"]).parent.name for failed in report["results"]["failed_checks"]
    }
    if refused != set(TAKEN_OUT):
        raise Failure(
            f"{OURS} should refuse caches without any of {sorted(TAKEN_OUT)}, not {sorted(refused)}"
        )
