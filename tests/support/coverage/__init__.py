"""Which lines and branches of the package the tests run: ``make test COVERAGE=1``."""
