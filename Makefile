# Everything runs from one virtual environment in .venv, made from pinned versions; nothing needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := koukan operator charts docs tests

.PHONY: setup run test interop faults lint fmt generate bench constraints clean images test-cluster

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "error: cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[operator,dev]'
	touch $@

run: setup  ## the whole house on loopback: a mail goes through and is shown; Ctrl-C ends it
	$(BIN)/koukan dev

test: setup  ## fast tests, tests of real processes, real SQLite and PostgreSQL
	$(BIN)/python -m pytest -n 2 --dist loadgroup

interop: setup  ## other implementations verify ours and are verified by us; needs npm
	$(BIN)/python -m pytest tests/interop

faults: setup  ## exchanges spoilt in every way, processes killed, stopped and cut off: nothing is lost, nothing comes twice
	$(BIN)/python -m pytest tests/faults -n 2 --dist loadgroup

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

generate: setup  ## files that are made from others: the CRDs, reference pages, the chart's README and its copies of the CRDs
	$(BIN)/python -m koukan_operator.crds crds
	$(BIN)/python charts/generate.py
	$(BIN)/python -m koukan.config.reference docs/reference
	$(BIN)/python docs/limits.py

constraints:  ## pin the newest versions that pyproject.toml allows
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --editable '.[operator,dev]'
	$(BIN)/pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .dev

IMAGE_REGISTRY ?= localhost
IMAGE_TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# The first of these that works here: a docker without its daemon does not.
IMAGE_BUILD ?= $(shell for build in "docker build" "podman build" "buildah build"; do \
	$${build% *} info >/dev/null 2>&1 && echo "$$build" && break; done)

IMAGE_LABELS = --build-arg VERSION=$(IMAGE_TAG) --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null || echo unknown)

images:  ## both container images; IMAGE_BUILD is the command, IMAGE_REGISTRY and IMAGE_TAG the names
	@test -n "$(IMAGE_BUILD)" || (echo "error: no docker, podman or buildah works here; set IMAGE_BUILD to a command that takes the options of docker build" >&2; exit 1)
	$(IMAGE_BUILD) --target koukan --tag $(IMAGE_REGISTRY)/koukan:$(IMAGE_TAG) $(IMAGE_LABELS) .
	$(IMAGE_BUILD) --target operator --tag $(IMAGE_REGISTRY)/koukan-operator:$(IMAGE_TAG) $(IMAGE_LABELS) .

test-cluster: setup  ## everything on a real node: KUBECONFIG's, or one that is started for it and taken down again
	tests/cluster/run
