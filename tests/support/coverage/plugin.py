"""``-p tests.support.coverage.plugin`` measures in each process of pytest.

From the beginning, before ``conftest.py`` imports the package.
"""

from __future__ import annotations

import pytest

from tests.support.coverage.measure import Measurement, begin

begin()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """All fixtures have ended."""
    if Measurement.current:
        Measurement.current.tell()
