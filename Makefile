# `make help` is the index. Everything that a target needs is set up by `make install`, on which all of them depend.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first Python >= 3.11 that is there; PYTHON=... names another one.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# Servers and tests share two cores with nobody; files stay together, so that each server starts once a worker.
WORKERS ?= 2

.PHONY: help install demo test cluster test-cluster bench cluster-down check fmt generate lock clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

install: $(STAMP) ## Make the virtual environment, and install what the tests' servers need

$(STAMP): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "DataCube needs Python 3.11 or newer: install it, or name it: make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment: install its venv package (Debian: python3-venv)"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check 'uv>=0.9'
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@$(BIN)/python -m tests.cluster.packages
	@touch $@

demo: install ## Run the six transfers and a sync against real servers on this machine
	@$(BIN)/python -m tests.demo

test: install ## Run all tests: pure ones, and those with real servers on loopback
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -q

cluster: install ## Have a whole Kubernetes cluster on this machine, and say how to use it (Linux, root, Go)
	@$(BIN)/python -m tests.cluster up

test-cluster: install ## Run the tests that need a cluster, in yours (KUBECONFIG) or in that of `make cluster`
	@$(BIN)/python -m tests.cluster test

bench: install ## Measure the operator beside its peers, and say which wishes are missed (brings a cluster up)
	@$(BIN)/python -m tests.benchmarks

cluster-down: install ## End the cluster, and look that nothing of it remains
	@$(BIN)/python -m tests.cluster down

check: install ## Format, lint, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.generate --check

fmt: install ## Format the code, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: install ## Write the generated files anew: CRD, manifests of the examples, tables of the README
	$(BIN)/python -m tests.generate

RESOLVE := pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --no-header --quiet

lock: install ## Resolve the dependencies anew: all of them, and those of each image among them
	$(BIN)/uv $(RESOLVE) --extra all --group test --group check --upgrade -o requirements.lock
	$(BIN)/uv $(RESOLVE) --extra transfer --constraints requirements.lock -o operator/deploy/transfer.lock
	$(BIN)/uv $(RESOLVE) --extra operator --extra argo --extra prefect --constraints requirements.lock -o operator/deploy/operator.lock

clean: ## Remove what the targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
