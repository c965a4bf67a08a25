PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
REPORT = FULLSTORY_TESTS_REPORT="$(CURDIR)/docs/reliability"

.DEFAULT_GOAL := help
.PHONY: help install demo dev test unit lint fix types dbt check soak bench reliability analytics constraints clean

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(READY) ## create .venv with everything, pinned

$(READY): pyproject.toml constraints.txt fullstory_dagster/parse/_plain_rows.c
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 to 3.13 is needed, this is " + sys.version.split()[0] + "; set PYTHON=") if not (3, 10) <= sys.version_info[:2] <= (3, 13) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY) ## simulator to DuckDB to marts; no account needed
	@$(BIN)/fullstory-dagster demo

dev: $(READY) ## Dagster's UI and daemon, on your account or on the demo
	@$(BIN)/fullstory-dagster dev

test: $(READY) ## all tests, offline
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

unit: $(READY) ## the quick tests only, under a minute
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m 'not slow and not browser'

lint: $(READY) ## ruff and sqlfluff, check only
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/sqlfluff lint --disable-progress-bar dbt_project

fix: $(READY) ## ruff and sqlfluff, repair
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/sqlfluff fix --disable-progress-bar dbt_project

types: $(READY) ## mypy, strict on the package
	@$(BIN)/mypy

dbt: $(READY) ## dbt build with unit tests, and its docs, on a temporary DuckDB
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT \
	&& FULLSTORY_DATA_DIR="$$home" $(BIN)/fullstory-dagster demo --days 2 >/dev/null \
	&& export FULLSTORY_WAREHOUSE="$$home/demo/warehouse.duckdb" DBT_TARGET_PATH="$$home/dbt" DBT_LOG_PATH="$$home/logs" DO_NOT_TRACK=1 \
	&& cd dbt_project \
	&& $(BIN)/dbt --quiet --warn-error build --profiles-dir . \
	&& $(BIN)/dbt --quiet docs generate --profiles-dir . \
	&& $(BIN)/python -c "import json, collections; r = json.load(open('$$home/dbt/manifest.json')); n = collections.Counter(x['resource_type'] for x in r['nodes'].values()); print('dbt build and docs: %d models, %d data tests, %d unit tests' % (n['model'], n['test'], len(r['unit_tests'])))"

check: lint types dbt test ## what CI runs

soak: $(READY) ## the reliability and growth tests with their full counts, by hand
	@rm -f docs/reliability/kills.json docs/reliability/examples.json
	@FULLSTORY_TESTS_SOAK=1 $(REPORT) $(BIN)/python -m pytest -n auto --dist load -m soak --timeout 7200
	@$(BIN)/python -m fullstory_dagster_tests.reliability.report

bench: $(READY) ## measure speed, memory and growth; renews docs/benchmarks.md, by hand (four hours)
	@$(BIN)/python -m benchmarks

reliability: $(READY) ## what each failure does; renews docs/reliability.md, as soak does
	@$(REPORT) $(BIN)/python -m pytest -m 'not soak' fullstory_dagster_tests/reliability
	@$(BIN)/python -m fullstory_dagster_tests.reliability.report

analytics: $(READY) ## ask the demo all questions of docs/analytics; renews docs/analytics.md
	@$(BIN)/python -m fullstory_dagster_tests.analytics

constraints: $(READY) ## pin the whole set anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 --no-emit-index-url \
		--no-header --no-annotate --upgrade --quiet --output-file constraints.txt

clean: ## remove .venv and caches; data/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dbt_project/target dbt_project/logs
