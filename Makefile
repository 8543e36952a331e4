# Everything runs in .venv, made on first use. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VBOT := $(BIN)/vbot-campaign
STUDY ?= quickstart
FILE ?= studies/quickstart.yaml
# More than cores: many tests wait, for workers and for clocks.
WORKERS ?= 3
ROUNDS ?= 100
SEED ?= 1
# Where test-image takes torch from; empty: PyTorch's index of CPU builds.
TORCH_INDEX ?=
# One OpenMP thread per test process: two pools on the same cores slow each other down many times over.
TEST_ENV := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install install-dev install-motrixsim study resume status dashboard up tensorboard chaos test test-image lint check format bench bench-peers bench-search clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the test tools into $(VENV) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: $(VENV)/.installed ## Install the program into .venv
install-dev: $(VENV)/.installed-dev ## Install the program and its test tools

$(VENV)/.installed-motrixsim: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[motrixsim]'
	@touch $@

install-motrixsim: $(VENV)/.installed-motrixsim ## Add the contest's simulator (Linux and Windows)

study: $(VENV)/.installed ## Run a study to its end (FILE=studies/quickstart.yaml)
	@$(VBOT) run $(FILE)

resume: $(VENV)/.installed ## Continue a study by name (STUDY=quickstart)
	@$(VBOT) resume $(STUDY)

status: $(VENV)/.installed ## Show a study (STUDY=quickstart)
	@$(VBOT) status $(STUDY)

dashboard: $(VENV)/.installed ## Open optuna-dashboard on 127.0.0.1
	@$(VBOT) dashboard

up: $(VENV)/.installed ## Open the dashboard and TensorBoard together (STUDY=quickstart)
	@$(VBOT) up $(STUDY)

tensorboard: $(VENV)/.installed ## Open TensorBoard on a study's curves (STUDY=quickstart)
	@$(VBOT) tensorboard $(STUDY)

chaos: $(VENV)/.installed ## Prove on this machine that nothing is lost (ROUNDS=100 SEED=1)
	@$(VBOT) chaos --rounds $(ROUNDS) --seed $(SEED)

test: $(VENV)/.installed-dev ## Run all tests
	$(TEST_ENV) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

test-image: $(VENV)/.installed-dev ## Build the container image without an engine, and test it (root, buildah, debootstrap; TORCH_INDEX=)
	$(TEST_ENV) TEST_IMAGE=1 TORCH_INDEX=$(TORCH_INDEX) $(BIN)/python -m pytest -q tests/cluster/test_image.py

lint: $(VENV)/.installed-dev ## Formatting, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## The same and the fast tests
	$(TEST_ENV) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow and not browser"

format: $(VENV)/.installed-dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev ## Measure training, environment and supervisor, and say whether the floors hold
	$(BIN)/python -m tests.benchmarks

bench-peers: $(VENV)/.installed-dev ## Measure our trainer beside those of skrl and rsl_rl
	$(BIN)/python -m tests.benchmarks.peers

bench-search: $(VENV)/.installed-dev ## Measure our search beside random search, Optuna and Ray Tune
	$(BIN)/python -m tests.benchmarks.search

clean: ## Remove .venv and caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist *.egg-info
