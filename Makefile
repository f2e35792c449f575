# Two commands do everything on a bare machine: `make run` and `make test`. Both set up first.
# What `make run` makes is in results/, which git ignores; the published board in leaderboards/ stays as it is.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: run test test-slurm smoke lint docs setup

run: setup
	$(BIN)/python -m bench run --suite paper

# a worker a core, a file of tests at a time; one thread each, as workers that share cores slow each other down
test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# the part of `make test` that runs on real Slurm clusters of one node, started and stopped by the tests; needs
# slurm-wlm, munge and root, and slurmdbd and mariadb-server for the runs with accounting
test-slurm: setup
	@$(BIN)/python tests/bench/slurm_cluster.py check
	$(BIN)/python -m pytest -rs tests/bench/test_slurm*.py

smoke: setup
	$(BIN)/python -m bench run --suite smoke

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# the documentation as a site, build/site/index.html; a broken link is an error
docs: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "the site is at build/site/index.html"

setup: $(STAMP)

# torch goes in first and alone: with it present no other package's wider range pulls a newer build
$(STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV): torch, then the libraries in constraints.txt (a few minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $(STAMP)
