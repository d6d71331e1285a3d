"""What all these servers have in common: they run in a ``with`` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, TypeVar

_T = TypeVar("_T", bound="Equipment")


class Equipment(ABC):
    """Runs from ``start`` to ``stop``, or in a ``with`` block, and leaves nothing behind."""

    @abstractmethod
    def start(self) -> Any:
        """Returns itself when it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it, also one that has started in part; a second time it does nothing."""

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
