"""The layers: a module imports only from rows above its own, and only two know valkey-py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "scrapy_valkey_dedup"
ROWS = [
    {"model"},
    {"stats", "values", "resp", "keyset", "private", "client_options", "asking", "watcher",
     "snapshot", "variety", "permissions", "replies", "pace", "outcomes"},
    {"characters", "spool", "foreign", "blanks", "item_classes", "links"},
    {"normalise", "watching", "refusals"},
    {"rules", "urls", "encoding", "faults"},
    {"credentials", "waiting"},
    {"settings", "connections", "storages", "feed_files"},
    {"resolution", "aws", "embedded", "feeds", "outage", "book", "admission", "lookahead", "marks",
     "topology", "advice"},
    {"identity", "attempts"},
    {"client"},
    {"ledger", "selftest.findings"},
    {"selftest.place"},
    {"selftest.commands", "selftest.surroundings"},
    {"selftest.ledgers"},
    {"selftest.examination"},
    {"selftest", "selftest.__main__"},
    {"batching"},
    {"settling", "timelines", "heartbeat"},
    {"pages", "held"},
    {"claims"},
    {"session", "aside"},
    {"registry", "next_pages"},
    {"scraping", "processor"},
    {"pipeline", "requests"},
    {"dupefilter"},
    {"addon"},
    {"commands.shared", "commands.shared.explain", "commands.shared.place",
     "commands.shared.screen", "commands.shared.usage", "commands.shared.findings",
     "commands.shared.spiders", "fingerprints"},
    {"commands.shared.contents", "commands.shared.items", "commands.shared.project",
     "commands.shared.records", "commands.shared.server", "commands.shared.runs",
     "commands.shared.project_checks",
     "commands.shared.tables"},
    {"commands.shared.json_list", "commands.shared.buckets"},
    {"commands.shared.feeds", "commands.shared.state"},
    {"commands.shared.sources", "commands.shared.metrics", "commands.shared.server_checks"},
    {"commands", "commands.shared.keyed"},
    {"commands.shared.plugins", "commands.shared.progress_file"},
    {"commands.shared.counts", "commands.shared.importing"},
    {"commands.shared.from_plugins", "commands.check"},
    {"commands.forget", "commands.import_", "commands.status", "commands.doctor"},
]  # fmt: skip
SPEAK_TO_VALKEY = {"connections", "faults"}
ROW_OF = {module: number for number, row in enumerate(ROWS) for module in row}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)


def file_of(module: str) -> Path:
    """Where a module is; a folder of modules has its own in ``__init__.py``."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports_of(module: str) -> set[str]:
    """Every module that it imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(file_of(module).read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found.add(node.module or "")
    return found


def test_every_module_has_its_row() -> None:
    """The table of rows and the package have the same modules."""
    assert set(MODULES) == set(ROW_OF)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """A module imports only modules of rows above its own, and never the root."""
    for name in imports_of(module):
        root, _, other = name.partition(".")
        if root == "scrapy_valkey_dedup":
            assert other, f"{module} imports the root of the package"
            assert ROW_OF[other] < ROW_OF[module], f"{module} imports {other}"


@pytest.mark.parametrize("module", MODULES)
def test_two_modules_know_valkey_py(module: str) -> None:
    """Only ``connections`` uses valkey-py, and only ``faults`` knows its errors besides."""
    speaks = any(name.partition(".")[0] == "valkey" for name in imports_of(module))
    assert speaks == (module in SPEAK_TO_VALKEY)
