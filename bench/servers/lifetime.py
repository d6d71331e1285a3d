"""What all these servers have in common: they run in a ``with`` block."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeVar

_T = TypeVar("_T", bound="Equipment")


class Equipment:
    """Runs from ``start`` to ``stop``, or in a ``with`` block, and leaves nothing behind."""

    def start(self) -> Any:
        """Returns itself when it is ready."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends it, also one that has started in part; a second time it does nothing."""
        raise NotImplementedError

    def __enter__(self: _T) -> _T:  # noqa: PYI019 (Self needs Python 3.11)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
