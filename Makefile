# Every target sets up what it needs; `make test` is all that CI runs.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

BIN := .venv/bin
PYTEST := $(BIN)/pytest -q
# One a core: with a third the tests that wait for processes miss their moments.
WORKERS ?= 2
# What many processes import is compiled once, whatever the surroundings say.
export PYTHONDONTWRITEBYTECODE :=
STATEMENTS := $(addprefix tests/store/test_,migrations.py plans.py claims.py limits.py)
PARALLEL := -n $(WORKERS) --dist worksteal

.PHONY: help demo test test-all test-most test-first test-patient test-beside test-quick test-oldest test-between test-pooled check check-format check-lint check-types check-layers \
	check-quickstart check-migrations coverage soak bench bench-setup flips lock setup setup-all setup-node setup-older setup-pgbouncer setup-browser clean

help:
	@echo 'make demo         jobs that move between two executors, and a kill -9, under a minute'
	@echo 'make test         all that CI runs'
	@echo 'make test-quick   the tests that need neither Node nor a browser'
	@echo 'make check        format, lint, types, layers, migrations'
	@echo 'make test-oldest  all that has a database on PostgreSQL 14, the oldest we promise, behind PgBouncer'
	@echo 'make test-between migrations and hot statements on PostgreSQL 15, 16 and 17'
	@echo 'make test-pooled  the quick tests behind PgBouncer in transaction mode'
	@echo 'make coverage     the quick tests, with the branches they miss'
	@echo 'make bench        the benchmarks'
	@echo 'make bench-setup  the peers that the benchmarks compare with'
	@echo 'make flips        switches and percentages flip under load for 30 seconds'
	@echo 'make soak         10 workers under load for 10 minutes, with kills (HOURS=4, SECONDS=60)'
	@echo 'make lock         write the locks anew (LOCK_OPTIONS=--upgrade: with the newest of everything)'
	@echo 'make clean        remove all that was made'

# ---- set-up ----

setup: .venv/.ready
setup-node: .venv/.node
setup-all: setup tests/interop/node/node_modules/.package-lock.json setup-pgbouncer setup-browser
setup-older: tests/peers/postgres/node_modules/.package-lock.json
# Its tests skip without it, but not in CI. One after the other: Debian installs one package at a time.
setup-pgbouncer:
	@scripts/debian_package.sh pgbouncer > /dev/null || test "$$CI" != true

setup-browser: | setup-pgbouncer
	@scripts/debian_package.sh chromium-headless-shell > /dev/null || test "$$CI" != true

.venv/.ready: requirements.lock pyproject.toml scripts/setup_venv.sh
	scripts/setup_venv.sh
	@touch $@

.venv/.node: .venv/.ready scripts/setup_node.sh
	scripts/setup_node.sh
	@touch $@

# npm writes this file at the end of an install that went well.
tests/interop/node/node_modules/.package-lock.json: tests/interop/node/package-lock.json .venv/.node
	scripts/npm_ci.sh $(<D)
	@touch $@

tests/peers/postgres/node_modules/.package-lock.json: tests/peers/postgres/package-lock.json .venv/.node
	scripts/npm_ci.sh $(<D)
	@touch $@

# ---- tests ----

# What loads from elsewhere loads at once; the type checkers compute while the tests wait; and the tests that only wait do
# so beside the others. Those on older servers follow on whichever of the two.
test:
	@$(MAKE) --no-print-directory --jobs 3 setup-all setup-older check-format check-lint check-layers
	@$(MAKE) --no-print-directory --jobs 4 check-quickstart check-types test-first test-beside

test-first:
	@$(MAKE) --no-print-directory test-most
	@$(MAKE) --no-print-directory test-oldest

test-beside:
	@$(MAKE) --no-print-directory test-patient
	@$(MAKE) --no-print-directory test-between WORKERS=1

test-all: test-most test-patient

test-most: setup-all
	$(PYTEST) $(PARALLEL) -m 'not patient' tests

test-patient: setup-all
	$(PYTEST) -m patient tests

test-quick: setup
	$(PYTEST) $(PARALLEL) -m 'not interop and not browser' tests

# $(call on_postgres,VERSION,TESTS,ENVIRONMENT)
define on_postgres
	@if bin=$$($(BIN)/python scripts/older_postgres.py $(1)); then \
		echo "PostgreSQL $(1)"; \
		$(3) ADAPTER_TEST_PG_BIN=$$bin $(PYTEST) $(PARALLEL) $(2); \
	else \
		test "$$CI" != true && echo 'skipped: the tests on PostgreSQL $(1)'; \
	fi
endef

# The same tests again, all that have a database: what the newest PostgreSQL knows, an older one may not. And behind PgBouncer
# (directly on a laptop without it): what a session remembers, a transaction may not.
test-oldest: setup setup-older setup-pgbouncer
	$(call on_postgres,14,-m 'database and not once' tests,ADAPTER_TEST_POOLER=$$(scripts/debian_package.sh pgbouncer) SIMULATION_EXAMPLES=6)

test-pooled: setup setup-pgbouncer
	ADAPTER_TEST_POOLER=1 $(PYTEST) $(PARALLEL) -m 'not interop and not browser' tests

# In between: every migration, every hot statement and its plan.
test-between: setup setup-older
	$(call on_postgres,15,$(STATEMENTS))
	$(call on_postgres,16,$(STATEMENTS))
	$(call on_postgres,17,$(STATEMENTS))

coverage: setup
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -m 'not interop and not browser' tests
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# ---- checks ----

check: check-format check-lint check-types check-layers check-quickstart check-migrations

check-format: setup
	$(BIN)/ruff format --check .

check-lint: setup
	$(BIN)/ruff check .

check-types: setup
	$(BIN)/pyright

check-layers: setup
	$(BIN)/lint-imports

# What a user writes is to pass the other type checker as well.
check-quickstart: setup
	$(if $(wildcard examples/quickstart.py),$(BIN)/mypy)

check-migrations: setup
	$(if $(wildcard tests/store/test_migrations.py),$(PYTEST) tests/store/test_migrations.py)

# ---- the rest ----

demo: setup
	$(BIN)/python -m examples.demo

bench: setup
	$(BIN)/python -m bench

flips: setup
	ADAPTER_TEST_FLIP_SECONDS=$(or $(SECONDS),30) $(PYTEST) --log-cli-level=INFO tests/fault/test_flipping.py

soak: setup
	$(BIN)/python -m soak $(if $(HOURS),--hours $(HOURS)) $(if $(SECONDS),--seconds $(SECONDS)) $(SOAK_OPTIONS)

# The peers that the benchmarks compare with. One that cannot be set up is left out, and the benchmarks say so.
bench-setup: setup
	-scripts/setup_bench.sh
	-$(MAKE) --no-print-directory bench/peers/node/node_modules/.package-lock.json

bench/peers/node/node_modules/.package-lock.json: bench/peers/node/package-lock.json .venv/.node
	scripts/npm_ci.sh $(<D)
	@touch $@

# requirements.lock is for development; the other two, parts of it, are what the image is built from.
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command 'make lock' --quiet

lock:
	$(COMPILE) pyproject.toml --extra embedded --extra graphql --extra reload --extra uvloop --group dev $(LOCK_OPTIONS) --output-file requirements.lock
	$(COMPILE) pyproject.toml --constraints requirements.lock --output-file requirements-runtime.lock
	$(COMPILE) --group build --constraints requirements.lock --output-file requirements-build.lock

clean:
	rm -rf .venv .venv-bench build dist .coverage .coverage.* htmlcov .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache tests/interop/node/node_modules tests/peers/*/node_modules \
		bench/peers/node/node_modules
	find adapter alembic bench examples scripts soak tests -name __pycache__ -type d -prune -exec rm -rf {} +
