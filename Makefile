# Everything runs in .venv, which is made from requirements.txt alone.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# Twice the cores of a small machine: a worker waits for its servers a good part of the time.
WORKERS ?= 4
# Where it is set, every child process of a test would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## Run the demo; ONCE=1 stops after the first proven sync, SOURCE=mariadb
	@exec $(BIN)/python -m repl_pipelines.demo $(if $(filter-out 0,$(ONCE)),--once) $(if $(SOURCE),--source $(SOURCE))

.PHONY: serve
serve: setup ## Serve assets/ as a deployment would: PostgreSQL, code server, webserver, daemon
	@exec $(BIN)/python -m repl_pipelines.demo.serve

.PHONY: test
test: setup lint ## Lint, check the types and run all tests
	@$(MAKE) --no-print-directory -j 2 types pytest

.PHONY: pytest
pytest: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

.PHONY: bench
bench: setup ## Measure speed against peers and limits (NAMES=cdc for one)
	$(BIN)/python -m bench $(NAMES)

.PHONY: soak
soak: setup ## A live shop while everything goes wrong; MINUTES=60, SEED=n repeats one
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED))

.PHONY: images
images: setup ## Take the pictures in docs/images anew, by the browser's tests
	IMAGES=docs/images $(BIN)/python -m pytest tests/browser

.PHONY: lint
lint: setup ## Lint and check the format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: setup ## Check the types: strict in the engine
	$(BIN)/pyright

.PHONY: format
format: setup ## Format, and repair what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: setup
setup: $(STAMP) ## Make .venv, only when the lock has changed

$(STAMP): requirements.txt pyproject.toml
	@PYTHON="$(PYTHON)" sh .ci/environment $(VENV)
	@touch $@

.PHONY: lock
lock: ## Lock the newest versions that pyproject.toml admits
	@test -x $(BIN)/python || sh .ci/environment $(VENV) --empty
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile pyproject.toml --all-extras --generate-hashes --upgrade \
		--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-strip-extras \
		--custom-compile-command "make lock" --output-file requirements.txt --quiet

.PHONY: clean
clean: ## Remove .venv, the demo's state and the caches
	# As root the databases may lie elsewhere, behind a link (see demo/*_server.py).
	@test ! -d var || find var -type l -name data -exec sh -c 'rm -rf "$$(readlink -f "$$1")"' - {} \;
	rm -rf $(VENV) var dist .pytest_cache .ruff_cache .hypothesis
