# `make quickstart` and `make test` set everything up by themselves, in .venv, and only when something changed.
# With `make -j 2 test` lint and types are checked while bytecode is made and tests run.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEV := .venv/.ready-dev
BYTECODE := .venv/.ready-bytecode
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: quickstart test unlinted failed lint format clean

quickstart: $(READY)
	$(BIN)/dualformer quickstart --out quickstart

test: lint unlinted

unlinted: $(BYTECODE)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal --durations=40 --durations-min=3

# Those that failed the last time.
failed: $(BYTECODE)
	OMP_NUM_THREADS=1 $(BIN)/pytest --last-failed --last-failed-no-failures none

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv .venv

$(READY): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[explain]'
	touch $@

# What tests and lint need besides, the extras among it.
$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --no-compile -e '.[dev]'
	touch $(READY) $@

# pip makes bytecode on one core, of much that is never imported as well, and all that is to be done waits for it.
$(BYTECODE): $(DEV)
	$(BIN)/python -m compileall -qq -j 0 -x '/(tests?|transformers|moto|sklearn|sympy|pip|setuptools|networkx)/' .venv/lib || echo 'some installed files are no Python'
	touch $@

clean:
	rm -rf .venv quickstart runs build dist
