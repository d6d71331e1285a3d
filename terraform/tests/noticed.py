"""Which assertions of ``terraform test`` notice which breakage, and whether they still do.

One run of ``terraform test`` takes seconds, of which the provider needs most. So breakages that
different assertions notice are tested together: ``golden/noticed.json`` holds what each of them
alone made fail. ``python terraform/tests/noticed.py`` breaks one after the other, and writes it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attached import attached
from breakages import BREAKAGES, PLANS, Breakage, broken
from commands import Failure, attempt, copied, init
from providers import provider_folder

RECORD = Path(__file__).parent / "golden" / "noticed.json"
OF_TESTS = [breakage for breakage in BREAKAGES if breakage.tests not in PLANS]
OF_PLANS = [breakage for breakage in BREAKAGES if breakage.tests in PLANS]
_ANEW = "If the tests are others now, record what notices it: python terraform/tests/noticed.py"


def must_all_be_noticed(module: Path) -> None:
    """Breaks a copy of the module in many places at once, runs the tests, mends it; and again.

    Fails with a breakage that is not noticed, even alone, by all that noticed it before.
    """
    alone, pending, most = _recorded(), list(OF_TESTS), len(OF_TESTS)
    while pending:
        batch = _apart(pending, alone)[:most]
        with broken(batch, module):
            found = _noticing({breakage.tests for breakage in batch}, module)
        # One fault may hide another, which comes first the next time.
        hidden = [breakage for breakage in batch if not alone[breakage.what] <= found]
        if hidden == batch[:1] == batch:
            raise Failure(
                f"no test noticed a breakage: {hidden[0].what} ({hidden[0].file}). {_ANEW}"
            )
        most = 1 if hidden == batch else len(OF_TESTS)
        pending = hidden + [breakage for breakage in pending if breakage not in batch]


def _apart(breakages: Sequence[Breakage], alone: dict[str, set[str]]) -> list[Breakage]:
    """Those of them, from the first on, that are noticed by assertions of their own."""
    batch: list[Breakage] = []
    noticing: set[str] = set()
    for breakage in breakages:
        text = breakage.right
        within = any(text in one.right or one.right in text for one in batch)
        if not within and noticing.isdisjoint(alone[breakage.what]):
            batch.append(breakage)
            noticing |= alone[breakage.what]
    return batch


def _recorded() -> dict[str, set[str]]:
    found = {name: set(words) for name, words in json.loads(RECORD.read_text()).items()}
    wrong = found.keys() ^ {breakage.what for breakage in OF_TESTS}
    if wrong or not all(found.values()):
        raise Failure(f"{RECORD.name} is not of today's breakages: {sorted(wrong)}. {_ANEW}")
    return found


def _noticing(tests: set[str], module: Path) -> set[str]:
    """The assertions that fail, each with its run: "the_key: The key rotates."."""
    filters = [f"-filter=tests/{name}.tftest.hcl" for name in sorted(tests)]
    printed = attempt("terraform", "test", "-json", *filters, place=module).stdout
    found = set()
    for line in filter(lambda line: line.startswith("{"), printed.splitlines()):
        told = json.loads(line)
        diagnostic = told.get("diagnostic", {})
        # A syntax error would fail as well; only a test that failed counts.
        if diagnostic.get("summary") in ("Test assertion failed", "Missing expected failure"):
            found.add(f"{told['@testrun']}: {diagnostic['detail']}")
    return found


def record(module: Path) -> None:
    """Breaks one after the other, and writes what noticed it."""
    found = {}
    for breakage in OF_TESTS:
        with broken([breakage], module):
            found[breakage.what] = sorted(_noticing({breakage.tests}, module))
        if not found[breakage.what]:
            raise Failure(f"no test noticed a breakage: {breakage.what} ({breakage.file})")
        print(f"{breakage.what}: {len(found[breakage.what])}", flush=True)
    RECORD.write_text(json.dumps(found, indent=2) + "\n")


def main() -> int:
    """The exit code."""
    with tempfile.TemporaryDirectory() as place:
        try:
            module = copied(Path(place) / "module")
            init(module, provider_folder())
            with attached(module):
                record(module)
        except Failure as failure:
            print(f"\nFAILED\n\n{failure}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
