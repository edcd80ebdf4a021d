# `make` sets up an environment and runs the demo scale; `make test` sets up and runs linters and tests.
PYTHON ?= python3
VENV ?= .venv
SCALE ?= demo
CORES ?= all
BIN := $(VENV)/bin
ACTIVATE := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: run test lint plan report clean
.DEFAULT_GOAL := run

run: $(VENV)/.installed
	$(ACTIVATE) snakemake --cores $(CORES) --config scale=$(SCALE)

test: $(VENV)/.installed-test lint
	$(ACTIVATE) OMP_NUM_THREADS=1 pytest -q -n 2

lint: $(VENV)/.installed-test
	$(ACTIVATE) ruff check .
	$(ACTIVATE) ruff format --check .
	$(ACTIVATE) snakefmt --check Snakefile workflows
	$(ACTIVATE) snakemake --lint

# what the scale would cost, before anything is run
plan: $(VENV)/.installed
	@$(ACTIVATE) python -m mat plan --config $(SCALE)

# one self-contained page with verdicts, tables and figures
report: run
	$(ACTIVATE) snakemake --config scale=$(SCALE) --report results/$(SCALE)/report.html

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) .mat-cache .snakemake results/*/runs results/*/logs results/*/benchmarks results/*/data results/*/agreement results/*/branches results/*/only paper_figures/*/only
