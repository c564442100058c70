# Every target sets up what it needs by itself: Python 3.11 or newer, pip and make are enough to begin with.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
REQUIRED := setup.cfg setup.py pyproject.toml constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt
BENCH ?= $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))
ARGS ?=
# A file's tests share a broker and workers, so each file stays within one process; in their order, since those with
# few tests, which would come last, take longest. Half of their time they wait: one process more than there are cores.
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
SPREAD := --numprocesses $$(( $(CORES) + 1 )) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test check faults bench format clean system

help:
	@echo 'make demo             photos become catalogue copy, here, until Ctrl-C (ARGS=--once ends by itself)'
	@echo 'make test             every test: unit, system, browser, and a short run of the faults'
	@echo 'make check            format, lint, types, unit tests'
	@echo 'make faults           workers killed and the broker restarted, for minutes'
	@echo 'make bench            the benchmarks (BENCH=benchmarks/chain.py for one, ARGS for its options)'
	@echo 'make format           rewrite the code as make check wants it'
	@echo 'make clean            remove what make made; data folders stay'

demo: .venv/demo.stamp
	@exec $(BIN)/callstream demo $(ARGS)

test: .venv/dev.stamp .venv/kafka.aot system
	@$(BIN)/python -m pytest --quiet $(SPREAD) --durations=10 $(ARGS)

check: .venv/dev.stamp
	@$(BIN)/ruff format --check --quiet . || { echo 'not formatted: make format' >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --quiet $(SPREAD) tests/unit

faults: .venv/dev.stamp .venv/kafka.aot system
	@$(BIN)/python -m pytest -m long tests $(ARGS)

bench: .venv/dev.stamp
	@for file in $(BENCH); do echo "== $$file"; $(BIN)/python "$$file" $(ARGS); done

format: .venv/dev.stamp
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Chromium, PostgreSQL and Redis for the tests that meet them; what cannot be installed is named, and its tests skip.
system:
	@bash tests/support/install-system-packages.sh

.venv/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "callstream needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || true). Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@# Debian's python3 has no ensurepip; there the pip beside it fills the environment.
	@$(PYTHON) -m venv --clear .venv > /dev/null 2>&1 || { \
	  $(PYTHON) -m venv --clear --without-pip .venv; $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@touch $@

.venv/demo.stamp: .venv/python.stamp $(REQUIRED)
	@echo 'Installing callstream and what the demo needs into .venv (once; a minute or so) ...'
	@$(INSTALL) --editable '.[demo]'
	@touch $@

.venv/dev.stamp: .venv/python.stamp $(REQUIRED)
	@echo 'Installing callstream and what its tests need into .venv (once; a minute or so) ...'
	@$(INSTALL) --editable '.[dev]'
	@touch .venv/demo.stamp $@

# Brokers of tests start in half the time with it.
.venv/kafka.aot: .venv/dev.stamp tests/support/quick_broker.py
	@$(BIN)/python -m tests.support.quick_broker $@
