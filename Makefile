SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 3
ifndef SEED
SEED := $(shell date +%s)
endif

# Stamps, so that set-up runs once and again when its input changes.
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(INSTALLED) ## create .venv from requirements.lock (the other commands do it when needed)

$(LOCKED): requirements.lock scripts/setup.sh
	@scripts/setup.sh $(VENV)
	@touch $@

$(INSTALLED): $(LOCKED) pyproject.toml
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m raylake.kernels >&2
	@touch $@

.PHONY: demo
demo: setup ## set up, then the main job: a million Kafka records to gold, kills, and the account (ENGINE=spark: Spark writes silver and gold)
	@$(BIN)/raylake demo $(if $(ENGINE),--engine $(ENGINE)) $(ARGS)

.PHONY: test
test: setup ## set up, then all tests (JOBS=3 processes; ARGS="-k words" narrows)
	@$(BIN)/python -m pytest -n $(JOBS) -m "not long" --durations=15 $(ARGS)

.PHONY: chaos
chaos: setup ## the long forms of all tests, chaos by a seed (SEED=n repeats a run)
	@echo "chaos seed $(SEED): make chaos SEED=$(SEED) repeats this run"
	@RAYLAKE_CHAOS_SEED=$(SEED) $(BIN)/python -m pytest -m long -s $(ARGS)

.PHONY: bench
bench: setup ## Kafka JSON to Delta beside Spark, small (at most 8 minutes); ends with the ratios
	@$(BIN)/python benchmarks/against_spark.py --bench $(ARGS)

.PHONY: soak
soak: setup ## half an hour at 20,000 records/s with a fault every 20 s (ARGS="--seconds 7200" is longer), then upkeep beside ingestion for as long
	@$(BIN)/python benchmarks/soak.py $(ARGS)
	@$(BIN)/python benchmarks/beside_ingestion.py --seconds 1800

.PHONY: lint
lint: setup ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: setup ## rewrite the sources as ruff wants them
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: spec
spec: setup ## each row of the specification with the tests that show it
	@$(BIN)/python -m tests.harness.spec_report

.PHONY: failures
failures: setup ## write docs/failures.md: which test shows which failure, and what is open
	@$(BIN)/python -m tests.harness.failure_report

.PHONY: lock
lock: setup ## renew requirements.lock from pyproject.toml (ARGS=--upgrade for newer versions)
	@scripts/lock.sh $(BIN) $(ARGS)

.PHONY: clean
clean: ## remove .venv, caches of the tools and build output (not the download cache)
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
