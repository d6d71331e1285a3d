"""Notes which lines and branches of the package run, in each process once: that costs little.

Slipcover marks each branch in the source's syntax tree with a line number of its own. Python calls
back for each line (``sys.monitoring``, from 3.12 on), and never again for one that was noted. A
process tells what it has seen when it ends; one that is killed tells nothing. Pytest's processes
are measured, and those that are forked; not the interpreters that tests start.
"""

from __future__ import annotations

import ast
import json
import marshal
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from multiprocessing import util
from pathlib import Path
from types import CodeType, ModuleType

PACKAGE = "scrapy_valkey_dedup"
FOLDER = "COVERAGE_FOLDER"
"""The variable of the environment: where processes tell. Without it nothing is measured."""
TOLD = "told"
Seen = defaultdict[str, set[int]]
_TOOL = 4
"""Of Python's monitoring tools one without a name: Slipcover itself takes 1, Hypothesis 3."""


def begin() -> None:
    """Measures what this process runs of the package, if ``FOLDER`` is set."""
    if FOLDER in os.environ:
        Measurement(Path(os.environ[FOLDER]), PACKAGE).begin()


class Measurement:
    """What one process has seen since it told last."""

    current: Measurement | None = None

    def __init__(self, folder: Path, package: str) -> None:
        self.folder = folder
        self.package = package
        self.seen: Seen = defaultdict(set)

    def begin(self) -> None:
        """Before the package is imported."""
        assert sys.version_info >= (3, 12), "COVERAGE=1 needs Python 3.12 or newer"
        assert self.package not in sys.modules, "too late to measure it"
        (self.folder / "code").mkdir(parents=True, exist_ok=True)
        sys.monitoring.use_tool_id(_TOOL, "tests")
        sys.monitoring.register_callback(_TOOL, sys.monitoring.events.LINE, self._note)
        sys.meta_path.insert(0, _Finder(self.folder / "code", self.package))
        Measurement.current = self

    def tell(self) -> None:
        """Adds it to what all have told."""
        seen = {path: sorted(lines) for path, lines in self.seen.items()}
        self.seen.clear()
        with (self.folder / TOLD).open("ab", buffering=0) as file:
            file.write(json.dumps(seen).encode() + b"\n")  # at once: nobody writes in between

    def tell_in_forks(self) -> None:
        """What is forked from this process tells what it has seen itself, too."""
        self.tell()
        util.register_after_fork(self, Measurement._begin_in_fork)

    def _begin_in_fork(self) -> None:
        self.seen.clear()
        util.Finalize(None, self.tell, exitpriority=-1000)

    def _note(self, code: CodeType, line: int) -> object:
        self.seen[code.co_filename].add(line)
        return sys.monitoring.DISABLE


class _Finder(MetaPathFinder):
    """Finds the modules of the package, to be loaded with marks."""

    def __init__(self, folder: Path, package: str) -> None:
        self._folder = folder
        self._package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != self._package:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, self._folder)
        return spec


class _Loader(SourceFileLoader):
    """Compiles a module with marks, once for all processes."""

    def __init__(self, fullname: str, path: str, folder: Path) -> None:
        super().__init__(fullname, path)
        self._folder = folder

    def get_code(self, fullname: str) -> CodeType:
        kept = self._folder / fullname
        if not kept.exists():
            new = kept.with_name(f"{fullname} {os.getpid()}")
            new.write_bytes(marshal.dumps(marked(Path(self.path))))
            new.replace(kept)
        code: CodeType = marshal.loads(kept.read_bytes())
        _watch(code)
        return code


def marked(path: Path) -> CodeType:
    """The code of a module, with a mark in each branch."""
    from slipcover.branch import preinstrument  # only where something is measured

    return compile(preinstrument(ast.parse(path.read_bytes())), str(path), "exec")


def _watch(code: CodeType) -> None:
    sys.monitoring.set_local_events(_TOOL, code, sys.monitoring.events.LINE)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            _watch(inner)
