"""``python -m tests.support.coverage.command`` is ``python -m scrapy``, measured."""

from __future__ import annotations

import atexit

from tests.support.coverage.measure import Measurement, begin

if __name__ == "__main__":
    begin()
    assert Measurement.current, "COVERAGE_FOLDER is not set"
    atexit.register(Measurement.current.tell)
    from scrapy.cmdline import execute  # when it is measured what is imported

    execute()
