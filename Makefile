# Two commands do everything on a machine with Python 3.11 and make:
#   make run    set up what is missing, then serve a small sample memory
#   make test   set up what is missing, then every check and every test
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
HOME_DIR ?= $(CURDIR)/.reverie-sample
PORT   ?= 8377
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help run test check unit bench lock docs clean
help:
	@sed -n '1,3p' Makefile; grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/run.stamp ## start the server on a sample memory
	$(BIN)/reverie serve --home $(HOME_DIR) --sample --port $(PORT)

test: check unit ## every check and every test

check: $(VENV)/dev.stamp ## lint, format, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m tests.docs.generate --check

unit: $(VENV)/dev.stamp ## the tests alone
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

bench: $(VENV)/dev.stamp ## measure and write docs/benchmarks.md; FILES="--turn a.jsonl.gz --session b.jsonl.gz" adds retrieval
	$(BIN)/python -m benchmarks $(FILES)

docs: $(VENV)/dev.stamp ## regenerate docs/reference
	$(BIN)/python -m tests.docs.generate

# The lock files carry hashes and no addresses; needs `uv` on the path.
lock: ## resolve the dependencies again
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header -q pyproject.toml --group build -o requirements.lock
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header -q pyproject.toml --group build --group dev -o requirements-dev.lock

$(VENV)/run.stamp: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or pass PYTHON=/path/to/python"; exit 1; }
	@echo "setting up $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements.lock
	@PATH="$(abspath $(BIN)):$$PATH" $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.lock
	@echo "adding the development tools (once)"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

clean: ## remove the environment and the sample home
	rm -rf $(VENV) $(HOME_DIR)
