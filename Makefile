# `make demo` and `make test` do everything on a fresh clone: find a Python, make a virtual
# environment, install what constraints.txt pins, then run. Second runs install nothing.
#
#   make VENV=/path/to/venv …   use (and complete) an environment of your own
#   make PYTHON=python3.12 …    make the environment with this Python
#   make JOBS=4 test            processes that run the tests
#   make SEED=7 soundness       another half hour of the search for false verdicts

VENV ?= .venv
JOBS ?= auto
SEED ?= 0
MINUTES ?= 30
EXTRAS := dev

BIN := $(VENV)/bin
STAMP := $(VENV)/verify_pipeline.stamp
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test soundness check format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make the environment and install everything (the other targets do it too)

demo: $(STAMP) ## train, export, certify and tabulate on embedded data, in minutes
	$(BIN)/verify-pipeline demo

test: $(STAMP) ## run the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

soundness: $(STAMP) ## look for false verdicts for half an hour of one core
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soundness.py --seed $(SEED) --minutes $(MINUTES)

check: $(STAMP) ## formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

format: $(STAMP) ## bring the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment made here, and caches
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@python=; \
	for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if $$candidate -c '$(SUITABLE)' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.11 or newer with venv and pip found." \
	       "Install one (on Debian: python3 and python3-venv), or name it: make PYTHON=…" >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV)

# auto_LiRPA's release on the package index declares an old torch, so it goes in without its
# dependencies; a newer one that somebody has put into the environment stays.
$(STAMP): setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/python -m pip show --quiet auto_LiRPA 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --no-deps auto_LiRPA==0.3
	@touch $@
