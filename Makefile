# Needs Python 3.11 or newer and make; everything else is set up here.
# The first that really runs: a version manager leaves names on the path that do not.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm --no-audit --no-fund --loglevel=error
PAGE := web/editor/dist/index.html
PAGE_SOURCES := $(shell find web/editor -path '*/node_modules' -prune -o -path '*/dist' -prune -o -type f -print 2>/dev/null)
SERVE ?=
TESTS ?= tests

.PHONY: serve test check crash fuzz bench page clean

serve: $(VENV)/ready $(PAGE)  ## Serve at http://127.0.0.1:8000 with SQLite in ./data
	$(BIN)/collab serve $(SERVE)

test: check browser  ## Everything: style, types and all tests
	$(BIN)/pytest -n 3 --dist worksteal $(TESTS)

check: $(VENV)/ready $(PAGE)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

crash: $(VENV)/ready  ## 2,000 rounds of kill -9 on server and writers
	$(BIN)/python tests/crash.py --rounds 2000

fuzz: $(VENV)/ready  ## Fuzz the gate against pycrdt
	$(BIN)/python tests/fuzz_update.py --seconds 600

bench: $(VENV)/ready $(PAGE)  ## The same work against Collab and Hocuspocus, history, and what a key costs the page
	cd bench && $(NPM) ci
	$(BIN)/python bench/run.py $(BENCH)
	$(BIN)/python bench/history.py
	$(BIN)/python bench/page.py

page: $(PAGE)

$(VENV)/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo 'Collab needs Python 3.11 or newer; set PYTHON=/path/to/python'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

$(PAGE): $(VENV)/ready $(PAGE_SOURCES)
	cd web/editor && $(NPM) ci && $(NPM) run build
	touch $@

# Browser tests use the system's Chromium; as root on Debian it is installed when missing.
.PHONY: browser
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
	  echo 'No Chromium found: browser tests will be skipped.'
	@command -v gcc >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev >/dev/null; } || \
	  echo 'No gcc found: the power-cut simulation will be skipped.'

clean:
	rm -rf $(VENV) web/editor/dist web/editor/node_modules tests/js/node_modules bench/node_modules bench/.work
