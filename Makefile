# Everything a checkout can do. Each target sets itself up first: .venv is made once, then checking it takes a moment.
# ARGS is handed to the command of a target: make test ARGS="tests/unit -k contract"

SHELL := /bin/bash
PYTHON := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONDONTWRITEBYTECODE # or each of the many processes would compile all of Airflow and torch anew
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Make .venv with the pinned packages (every other target does this first)
	@deploy/bootstrap.sh

.PHONY: demo
demo: setup ## Three days of photos through real Airflow and Spark, ending with a table and a contact sheet
	@$(PYTHON) -m demo $(ARGS)

.PHONY: up
up: setup ## Open the Airflow UI on the demo's results
	@$(PYTHON) -m demo.ui up

.PHONY: down
down: setup ## Stop the UI
	@$(PYTHON) -m demo.ui down

.PHONY: test
test: setup ## Run the tests
ifdef ARGS
	$(PYTHON) -m pytest $(ARGS)
else # apart: what Spark, its signal handlers and its threads leave in a process is not the unit tests' concern
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile tests/unit
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --ignore tests/unit
endif

.PHONY: coverage
coverage: setup ## Run the unit tests and say which lines they do not reach, those of processes they start too (var/coverage)
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --cov --cov-report=term:skip-covered \
		--cov-report=html:var/coverage $(or $(ARGS),tests/unit)

.PHONY: test-faults
test-faults: setup ## Kill, starve and cut off the jobs at random moments, and check that no reader and no row is harmed
	$(PYTHON) -m pytest tests/faults -m "slow_faults or not slow_faults" $(ARGS)

.PHONY: test-install
test-install: setup ## Install the wheel beside an Airflow and a Spark from the registry, and run a day there
	$(PYTHON) -m pytest tests/install -m install $(ARGS)

.PHONY: test-versions
test-versions: setup ## The same on each Airflow and each Spark that is supported
	$(PYTHON) -m pytest tests/install -m "install or versions" $(ARGS)

.PHONY: test-clouds
test-clouds: setup ## Run the jobs on servers of Azure's and Google's storage APIs, installed from npm and the Python registry
	@deploy/clouds.sh
	IMAGE_FEATURES_CLOUDS=required $(PYTHON) -m pytest tests/clouds -m clouds $(ARGS)

.PHONY: test-examples
test-examples: setup ## Run every Dag of example_dags/ in a real Airflow, and answer its question in a browser
	$(PYTHON) -m pytest tests/airflow/test_example_dags.py tests/browser/test_a_person_decides.py -m examples $(ARGS)

.PHONY: test-all
test-all: setup ## Run every test: the fault drills and all backbones too (hours, and up to 20 GB of memory)
	$(PYTHON) -m pytest -m "" $(ARGS)

.PHONY: env
env: ## Write a .env with fresh secrets for docker-compose.yaml
	@python3 deploy/env.py

.PHONY: test-compose
test-compose: setup ## Build and start the stack of docker-compose.yaml, run days, kill a worker, restart, take it down
	IMAGE_FEATURES_COMPOSE=required $(PYTHON) -m pytest tests/compose -x --log-cli-level=INFO \
		--log-cli-format="%(asctime)s %(message)s" --log-cli-date-format=%H:%M:%S $(ARGS)

.PHONY: bench
bench: setup ## Measure us beside the others: table, var/bench/report.json, charts (ARGS=--docs puts them into docs/)
	@deploy/bench.sh
	@.venv-bench/bin/python -m benchmarks $(ARGS)

.PHONY: bench-quick
bench-quick: setup ## The same in some minutes: one round, fewer photos
	@deploy/bench.sh
	@.venv-bench/bin/python -m benchmarks --quick $(ARGS)

.PHONY: lint
lint: setup ## Check style, format, types and which room may import which
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	PYTHONPATH=plugins:. .venv/bin/lint-imports --no-logo

.PHONY: docs
docs: setup ## Write docs/settings.md and the dashboard anew, from the code
	@$(PYTHON) -m deploy.settings_page
	@$(PYTHON) -m deploy.dashboard

.PHONY: requirements
requirements: setup ## Resolve requirements.in into requirements.txt (ARGS=--upgrade for the newest versions)
	@deploy/resolve.sh $(ARGS)

.PHONY: sbom
sbom: setup ## Write var/sbom.json, the bill of materials of .venv in CycloneDX's format (ARGS: another environment)
	@deploy/sbom.sh $(ARGS)

.PHONY: audit
audit: setup ## Report the known vulnerabilities of the pinned packages, by pip-audit
	@deploy/audit.sh

.PHONY: clean
clean: ## Remove what runs and tests leave behind, but not .venv
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m demo.ui down; fi
	rm -rf var .mypy_cache .ruff_cache .pytest_cache spark-warehouse metastore_db derby.log
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
