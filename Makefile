# What a user needs: `make run` and `make test`. Everything lands in .venv; nothing is installed elsewhere.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv

.PHONY: help run test lint format typecheck e2e bench shots lock clean

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | expand -t 12

$(BIN)/.runtime: requirements.lock pyproject.toml
	@scripts/install $(PYTHON) requirements.lock
	@touch $@

$(BIN)/.dev: requirements-dev.lock pyproject.toml
	@scripts/install $(PYTHON) requirements-dev.lock
	@touch $@ $(BIN)/.runtime

run: $(BIN)/.runtime  ## start everything; Ctrl-C stops it
	@exec $(BIN)/portway up

test: $(BIN)/.dev  ## every test this machine can run; the others say why they are skipped
	@$(BIN)/python -m pytest $(ARGS)

lint: $(BIN)/.dev  ## ruff, import rules, types, templates, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@PORTWAY_HOME=$$(mktemp -d) $(BIN)/mypy
	$(BIN)/djlint --check --lint templates
	@PORTWAY_HOME=$$(mktemp -d) $(BIN)/python manage.py makemigrations --check --dry-run

format: $(BIN)/.dev  ## rewrite the code in our format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/djlint --reformat --quiet templates

e2e: $(BIN)/.dev  ## the tests in a real browser (needs Chromium)
	@$(BIN)/python -m pytest -m e2e $(ARGS)

bench: $(BIN)/.dev  ## the figures of the README, measured here
	@$(BIN)/python -m bench $(ARGS)

shots: $(BIN)/.dev  ## screenshots of every page into docs/screenshots
	@$(BIN)/python -m tests.shots

lock: $(BIN)/.dev  ## resolve the dependencies again
	$(UV) pip compile -q --upgrade pyproject.toml --generate-hashes --no-header --no-emit-index-url -o requirements.lock
	$(UV) pip compile -q pyproject.toml --group dev -c requirements.lock --generate-hashes --no-header --no-emit-index-url -o requirements-dev.lock

clean:  ## remove the virtual environment and the state folder
	rm -rf $(VENV) .portway
