# Everything sets itself up: an environment per Python version, made from $(PYTHON), with what the target needs.
PYTHON ?= python3
ARGS ?=

SUPPORTED := import ensurepip, sys, venv; v = sys.version_info[:2]; print("%d.%d" % v if v >= (3, 11) else "")
VERSION := $(shell $(PYTHON) -c '$(SUPPORTED)' 2>/dev/null)
VENV ?= .venv-$(VERSION)
RUN := $(VENV)/bin/python -m
COVERAGE := $(VENV)/bin/coverage report

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check bench chaos docs clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
	@echo
	@echo 'Another Python: make test PYTHON=python3.12; some tests: make test ARGS="-k gate"'

run: $(VENV)/.ready-examples ## Review this project's own src with the code review example
	$(VENV)/bin/python examples/code_review.py src --out build/review $(ARGS)

test: $(VENV)/.ready-test ## Run the tests, the docs and the examples
	$(RUN) $(MEASURE) pytest $(ARGS)

check: $(VENV)/.ready-dev ## Run everything that a change must pass
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) pyright --pythonpath $(VENV)/bin/python
	$(VENV)/bin/lint-imports
	$(RUN) coverage erase
	$(MAKE) test MEASURE="coverage run -m"
	$(RUN) coverage combine --quiet
	$(COVERAGE) --include='src/*' --fail-under=95
	$(COVERAGE) --include='tests/*' --fail-under=95
	$(VENV)/bin/zensical build --clean --strict

bench: $(VENV)/.ready-bench ## Measure against raw asyncio and print the table
	$(VENV)/bin/python benchmarks/run.py $(ARGS)

chaos: $(VENV)/.ready-test ## Kill a program hundreds of times and compare how its board ends
	$(VENV)/bin/python tests/chaos/sweep.py $(ARGS)

docs: $(VENV)/.ready-docs ## Build the documentation in site/
	$(VENV)/bin/zensical build --clean --strict

clean: ## Remove what the other targets made, environments excepted
	rm -rf build dist site .cache .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# One stamp per extra, so that each target installs what it needs and the second time is quick.
$(VENV)/.ready-%: pyproject.toml | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/bin/python:
	@test -n '$(VERSION)' || { \
	  echo 'Flock needs Python 3.11 or newer with venv and ensurepip (on Debian: python3-venv); "$(PYTHON)" is not.' >&2; \
	  echo 'Name another: make PYTHON=/path/to/python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
