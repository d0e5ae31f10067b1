# make run    sets up .venv and serves the tiny model: compile, apply into ./var, up
# make test   sets up .venv and runs every test
PYTHON ?= python3
FLEET  ?= $(firstword $(wildcard fleet.toml fleet.toml.example))
MODELS ?= $(firstword $(wildcard models.toml models.toml.example))
STATE  ?= var
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run setup test test-system check lint type fmt wheel clean

run: setup
	$(BIN)/cortexd compile --fleet $(FLEET) --models $(MODELS)
	$(BIN)/cortexd apply --state-dir $(STATE)
	exec $(BIN)/cortexd up --state-dir $(STATE)

setup: .venv/.ready-run

test: .venv/.ready-test test-system lint type
	$(BIN)/python -m pytest

# Tests of several hosts need an sshd. A throwaway machine gets one; on yours those tests say why they were skipped.
test-system:
	@if [ "$$CI" = true ] && [ "$$(id -u)" = 0 ] && [ ! -x /usr/sbin/sshd ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssh-server; fi

check: test

lint: .venv/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: .venv/.ready-test
	$(BIN)/mypy

fmt: .venv/.ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: .venv/.ready-test
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cortexd needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "this Python cannot make virtual environments; on Debian: apt install python3-venv"; exit 1; }

.venv/.ready-run: pyproject.toml | .venv/bin/python
	@echo "installing cortexd into .venv"
	$(PIP) --editable '.[control,cpu]'
	@touch $@

# torch first and pinned: the extra `export` is needed by the tests that rebuild an artifact, never by `make run`.
.venv/.ready-test: pyproject.toml | .venv/.ready-run
	@echo "installing what the tests need into .venv"
	$(PIP) 'torch==2.13.0'
	$(PIP) --editable '.[control,cpu,export,postgres,acp,dev]'
	@touch $@
