# Everything here sets itself up: a machine needs only Python 3.11+ and make.
#   make demo    optimize, ablate and heatmap on a shipped model into ./pgc-demo/
#   make test    the tests (under 8 minutes on two cores)
#   make test-all   with those marked slow
#   make lint    ruff and mypy
#   make bench   the benchmarks, as ratios

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint bench clean

demo: $(VENV)/.installed
	$(BIN)/pgc-graph demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/types
	ln -sfn ../../cli build/types/pgc_cli
	ln -sfn ../../models build/types/pgc_models
	$(BIN)/mypy -p pgc_graph -p pgc_train -p pgc_cli -p pgc_models

bench: $(VENV)/.installed-dev
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pgc-graph needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# The tests need torch, as a judge and for the trainer. An open range would fetch gigabytes of CUDA on Linux, so a release
# that is known to work is asked for first.
$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[train,dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
