# Everything runs from one virtual environment in .venv, made from pinned versions; nothing needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := koukan operator tests

.PHONY: setup run test lint fmt generate bench constraints clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || (echo "error: cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[operator,dev]'
	touch $@

run: setup  ## the whole house on loopback: a mail goes through and is shown; Ctrl-C ends it
	$(BIN)/koukan dev

test: setup  ## fast tests, tests of real processes, real SQLite and PostgreSQL
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: setup
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: setup  ## messages per second and CPU per message, beside Postfix when it is installed
	$(BIN)/python -m tests.bench

constraints:  ## pin the newest versions that pyproject.toml allows
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --editable '.[operator,dev]'
	$(BIN)/pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .dev
