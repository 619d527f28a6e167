# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Threads that wait for a core somebody else uses must not spin for it.
export GOMP_SPINCOUNT ?= 1000

.PHONY: help install demo check test test-slow attack parity bench clean

help:
	@echo "make demo       from real MRI scans to a trained, scored model and a report, in ./demo"
	@echo "make test       the tests"
	@echo "make install    only the environment, in $(VENV)"
	@echo "make check      format, lint, types, import contract"
	@echo "make test-slow  the tests that take long, and ten times as many examples of each property, chosen anew"
	@echo "make attack     hostile and damaged files given to the command line; ARGS='--family names' chooses, '--list' lists"
	@echo "make parity     compare with nnunetv2: PEER=/path/to/its/python DATA=/path/to/data"
	@echo "make bench      time against nnunetv2: PEER=... DATA=..."
	@echo "make clean      remove the environment and caches"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(BIN)/segwright demo

check: install
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check --no-cache src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install
	$(BIN)/pytest

test-slow: install
	$(BIN)/pytest -m slow
	$(BIN)/pytest -m hypothesis --hypothesis-profile search

attack: install
	PYTHONPATH=tests $(BIN)/python -m attack $(ARGS)

parity: install
	@test -n "$(PEER)" -a -n "$(DATA)" || { echo "make parity needs PEER=/path/to/python of an environment with nnunetv2 and DATA=/path/to/data sets"; exit 2; }
	SEGWRIGHT_PEER=$(PEER) SEGWRIGHT_DATA=$(DATA) $(BIN)/pytest -m parity tests/parity

bench: install
	@test -n "$(PEER)" -a -n "$(DATA)" || { echo "make bench needs PEER=/path/to/python of an environment with nnunetv2 and DATA=/path/to/data sets"; exit 2; }
	$(BIN)/python benchmarks/compare.py --peer $(PEER) --data $(DATA)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build
