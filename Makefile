# Needs make and Python 3.11 or newer. `make` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
SCHEDULERS := .venv-schedulers
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV_LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url
WORKERS ?= auto

.PHONY: help dev demo test test-all lint format catalogue schema gallery pictures lock bench fuzz wheel sandbox

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' Makefile

dev: $(VENV)/dev.stamp ## set up .venv for work on the code

demo: $(VENV)/runtime.stamp ## set up .venv and import sample_data/orders.csv into the embedded sandbox
	@mkdir -p demo-output
	@echo "Two of the 14 rows are flawed on purpose, so this import ends with exit code 3."
	@echo
	@$(BIN)/rd-import sample_data/orders.csv --type ECOMMERCE_ORDER_PLACED --sandbox --yes --audit demo-output/orders.audit.parquet || [ $$? -eq 3 ]

test: lint ## lint, then run the tests
	$(BIN)/pytest -n $(WORKERS) -m "not browser and not slow and not strace and not postgres and not airflow and not spark and not s3"

test-all: test $(SCHEDULERS)/stamp ## test, then run the slow tests and those that need PostgreSQL, Airflow, Spark and S3
	@missing=; \
	command -v strace >/dev/null || missing+=' strace'; \
	command -v chromium >/dev/null || missing+=' chromium'; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing+=' postgresql'; \
	command -v java >/dev/null || missing+=' default-jre-headless'; \
	[ -z "$$missing" ] || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; }
	$(BIN)/pytest -n $(WORKERS) -m "browser or slow or strace or postgres"
	$(SCHEDULERS)/bin/pytest -n $(WORKERS) --dist loadfile -m "airflow or spark or s3" \
	    tests/test_airflow.py tests/test_object_store.py tests/test_spark.py

# uv installs in a third of pip's time, where it finds an index by itself.
$(SCHEDULERS)/stamp: requirements-airflow.lock pyproject.toml $(VENV)/dev.stamp
	@echo "setting up $(SCHEDULERS), for the tests of Airflow, Spark and S3"
	@$(BIN)/python -m venv $(SCHEDULERS)
	@$(PIP) install uv
	@$(BIN)/uv pip install --quiet --python $(SCHEDULERS)/bin/python --require-hashes -r requirements-airflow.lock \
	    || $(SCHEDULERS)/bin/python -m pip --quiet install --require-hashes -r requirements-airflow.lock
	@$(SCHEDULERS)/bin/python -m pip --quiet install --no-deps --no-build-isolation -e .
	@touch $@

SECONDS_EACH ?= 720
fuzz: $(VENV)/dev.stamp ## feed each part mutated inputs, an hour in all; CORPUS=folder adds seeds
	for target in reader mapping answers audit sandbox; do \
	    $(BIN)/python fuzz/run.py --target $$target --seconds $(SECONDS_EACH) $(if $(CORPUS),--corpus $(CORPUS)); \
	done

lint: $(VENV)/dev.stamp ## check style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/dev.stamp ## format the code and sort its imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

catalogue: $(VENV)/dev.stamp ## bring the translations' entries up to date
	$(BIN)/python tools/catalogue.py

schema: $(VENV)/dev.stamp ## write the JSON Schema of mapping files again, for editors
	$(BIN)/python tools/mapping_schema.py

gallery: $(VENV)/dev.stamp ## run each documented failure, and write docs/gallery.md from the screens
	$(BIN)/python tools/gallery.py

pictures: $(VENV)/dev.stamp ## make the pictures of the READMEs from a real run; needs chromium
	$(BIN)/python tools/pictures.py

lock: $(VENV)/dev.stamp ## write the lock files again from pyproject.toml
	$(PIP) install uv
	$(UV_LOCK) --group build pyproject.toml -o requirements.lock
	$(UV_LOCK) --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(UV_LOCK) --group schedulers --extra airflow --extra spark pyproject.toml -o requirements-airflow.lock

bench: $(VENV)/dev.stamp ## measure rd-import and what else people use side by side; writes docs/performance.md
	@test -d $(VENV)-bench || $(BIN)/python -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip --disable-pip-version-check --quiet install "pip>=25.1"
	@$(VENV)-bench/bin/python -m pip --disable-pip-version-check --quiet install --group bench -e .
	$(BIN)/python bench/run.py --python $(VENV)-bench/bin/python
	$(BIN)/python bench/page.py

wheel: $(VENV)/dev.stamp ## build dist/*.whl
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

sandbox: $(VENV)/runtime.stamp ## start a practice server; it prints the two lines that point rd-import at it
	@$(BIN)/rd-import sandbox

$(BIN)/pip:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "setting up $(VENV) with $$($$python --version); the first time takes a minute"; \
	        exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo "rd-import needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3" >&2; exit 1

$(VENV)/runtime.stamp: requirements.lock pyproject.toml | $(BIN)/pip
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock pyproject.toml | $(BIN)/pip
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/runtime.stamp
