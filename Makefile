# Everything that is done with this repository. `make` alone lists it.
#
# Only Python 3.11+ with pip, make and git must be there: what else a command needs, it sets up in .venv/ first.

# The first of these that is new enough; PYTHON=… chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$python" && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
# The lock is installed as it stands, from wheels: nothing is resolved and nothing is built, so what sets up today sets up
# when newer versions are out.
LOCKED := install --no-deps --require-hashes --only-binary :all: --requirement
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup picture demo test debian check lint types format coverage story bench schema lock docs clean

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv/ with exactly what requirements.lock names

demo: $(READY)  ## Sell, drip and spend tokens on a database of its own, and account for every one
	@$(BIN)/till demo

test: $(READY) debian  ## Run the tests
	@$(BIN)/pytest -q --numprocesses=2 --dist=worksteal

# What some tests run beside the till. Without it they are skipped, and say why.
debian:
	@command -v pgbouncer /usr/sbin/pgbouncer >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing pgbouncer with apt-get ..." >&2; \
			{ apt-get install -yqq pgbouncer || { apt-get update -qq && apt-get install -yqq pgbouncer; }; } >/dev/null 2>&1 \
				&& { service pgbouncer stop >/dev/null 2>&1 || true; } \
				|| echo "pgbouncer cannot be installed here: its tests will be skipped." >&2; \
		else echo "pgbouncer is not installed: its tests will be skipped (Debian: apt-get install pgbouncer)." >&2; fi; }

check: lint types test  ## Run what CI runs: lint, types, tests

lint: $(READY)  ## Look for faults and for untidy code
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "Untidy code: make format"; exit 1; }

types: $(READY)  ## Check the types
	@$(BIN)/mypy

format: $(READY)  ## Tidy the code
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

coverage: $(READY)  ## Say which branches of the core the tests of the core leave out
	@$(BIN)/pytest -q tests/core --cov --cov-report=term

story: $(READY)  ## Play one scenario: make story NAME=drip_before_purchase
	@test -n "$(NAME)" || { echo "Which one? make story NAME=drip_before_purchase; they are in tests/scenarios/."; exit 2; }
	@$(BIN)/pytest -v tests/scenarios -k "$(NAME)"

bench: $(READY)  ## Measure spends a second beside the baselines, in one run: make bench ARGS="--rows 5000000"
	@$(BIN)/till bench spend $(ARGS)

schema: $(READY)  ## Write src/tokentill/store/schema.sql anew from the migrations
	@$(BIN)/python -m tokentill.store.schema

picture: $(READY)  ## Draw docs/images/demo.svg anew from what the demo prints
	@$(BIN)/python -m tokentill.demo.picture docs/images/demo.svg

# uv reads pip's choice of index from us, so that this works wherever pip does; the lock itself names none.
lock: $(READY)  ## Write requirements.lock anew; make lock ARGS=--upgrade takes newer versions
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(PIP) install uv
	@index="$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null || true)}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	compile="$(BIN)/python -m uv pip compile pyproject.toml --extra embedded --extra dev --extra docs --universal \
		--python-version 3.11 --no-build --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet"; \
	export UV_SYSTEM_CERTS=true; \
	$$compile --generate-hashes --output-file requirements.lock $(ARGS) \
	&& pylock="$$(mktemp -d)/pylock.toml" \
	&& $$compile --constraint requirements.lock --format pylock.toml --output-file "$$pylock" \
	&& $(BIN)/python -m tests.setup.lock_table "$$pylock" && rm -r "$$(dirname "$$pylock")"

docs: $(READY)  ## Build the pages and the Python reference into the site that `till serve` has under /docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:  ## Remove .venv/ and every cache
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage build dist src/tokentill/site
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so that a set-up that was cut short is done again. Debian and Ubuntu pack ensurepip apart
# (python3-venv): without it, the pip outside can still put one inside, and where there is none, root can install it.
$(READY): pyproject.toml requirements.lock
	@if [ -z "$(PYTHON)" ]; then \
		echo "tokentill needs Python 3.11 or newer, and none was found (python3 is: $$(python3 --version 2>&1))." >&2; \
		echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "tokentill needs Python 3.11 or newer; $(PYTHON) is not." >&2; exit 1; }
	@echo "Setting up .venv/ with $$("$(PYTHON)" --version) ..." >&2
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	|| "$(PYTHON)" -m venv --clear .venv >/dev/null 2>&1 \
	|| { "$(PYTHON)" -m venv --clear --without-pip .venv >/dev/null 2>&1 \
		&& "$(PYTHON)" -m pip --quiet --disable-pip-version-check --python $(BIN)/python install pip 2>/dev/null; } \
	|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "Installing python3-venv with apt-get ..." >&2 \
		&& apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -yqq python3-venv >/dev/null \
		&& "$(PYTHON)" -m venv --clear .venv; } \
	|| { echo "$(PYTHON) cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing the $$(grep -c '^[a-z].*==' requirements.lock) packages that requirements.lock names (a minute, less from pip's cache) ..." >&2
	@date +%s > .venv/.began
	@$(PIP) $(LOCKED) requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(PIP) check
	@echo "Installed in $$(($$(date +%s) - $$(cat .venv/.began))) s." >&2
	@touch $@
