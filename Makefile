# Everything a person or a pipeline does here. `make` alone prints the list.

.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
UV := $(shell command -v uv 2>/dev/null)
PACKAGES := agents api evals operations prompts storage triad
# One more than there are processors, at most four: tests wait for a database, a disk or a process a third of their time.
WORKERS := -n $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 3 ? n + 1 : 4)))
COMPILE = "$(UV)" pip compile --no-config --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet

# uv where there is one, pip otherwise. Both refuse what the lock's hashes do not name.
INSTALL = $(if $(UV),"$(UV)" pip install --quiet --python $(PY),$(PY) -m pip install --quiet --no-input --disable-pip-version-check)

.PHONY: help
help: ## Print this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(VENV)/.ready ## Build .venv from the hashed lock; again only when the lock or pyproject.toml changed

.PHONY: demo
demo: setup ## Show a governed operation from request to seal on an embedded PostgreSQL
	@$(VENV)/bin/triad demo $(ARGS)

.PHONY: test
test: setup ## Run the test suite, without what is marked `full`
	@$(PY) -m pytest $(WORKERS) -m "not full" $(ARGS)

.PHONY: test-full
test-full: setup ## Run every test, also those that take minutes
	@$(PY) -m pytest $(WORKERS) $(ARGS)

.PHONY: check
check: $(VENV)/.checked ## Check format, lint, types, layers, security, advisories and the house rules
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/bandit --quiet --configfile pyproject.toml --recursive $(PACKAGES)
	$(PY) .ci/audit.py requirements.lock requirements-check.lock
	$(PY) -m pytest -q tests/test_house.py tests/test_locks.py

.PHONY: bench
bench: setup ## Measure what things cost; ARGS=--quick for a short look
	@$(PY) -m evals.benchmarks $(ARGS)

.PHONY: interop
interop: setup ## Let other people's tools read an exported log; installs them, so run it as root on Debian; ARGS=DIR
	@evals/interop/install.sh
	@$(PY) -m evals.interop $(ARGS)

.PHONY: format
format: $(VENV)/.checked ## Format the code and apply the linter's safe fixes
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

.PHONY: docs
docs: setup ## Write the generated pages of the documentation anew
	$(PY) -m operations.diagram > docs/architecture/stages.md
	$(PY) -m operations.playbooks.document > docs/operations/playbooks.md
	$(PY) -m storage.schema > .entry.schema.json && mv .entry.schema.json storage/verifier/entry.schema.json
	$(PY) -m api.cli.document > docs/operations/cli.md
	$(PY) -m api.document errors > docs/api/errors.md
	$(PY) -m api.document routes > docs/api/routes.md
	$(PY) -m api.document settings > docs/operations/settings.md

.PHONY: lock
lock: ## Compile both locks from pyproject.toml with uv; ARGS=--upgrade for newer versions
	@test -n "$(UV)" || { echo "make lock needs uv: see docs/development/setup.md" >&2; exit 1; }
	$(COMPILE) $(ARGS) pyproject.toml --group build --group test --output-file requirements.lock
	$(COMPILE) $(ARGS) --group check --constraint requirements.lock --output-file requirements-check.lock

.PHONY: clean
clean: ## Remove .venv and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.locked: requirements.lock
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Triad needs Python 3.11 or newer. Name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -n "$(UV)" || "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@rm -rf $(VENV)
	@$(if $(UV),"$(UV)" venv --quiet --python "$(PYTHON)" $(VENV),"$(PYTHON)" -m venv $(VENV))
	@echo "Installing what requirements.lock names ..." >&2
	@$(INSTALL) --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.ready: $(VENV)/.locked pyproject.toml
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.checked: $(VENV)/.ready requirements-check.lock
	@echo "Installing what requirements-check.lock names ..." >&2
	@$(INSTALL) --require-hashes -r requirements-check.lock
	@touch $@
