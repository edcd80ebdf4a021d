# `make` sets up an environment and runs the demo scale; `make test` sets up and runs linters and tests.
PYTHON ?= python3
VENV ?= .venv
SCALE ?= demo
CORES ?= all
BIN := $(VENV)/bin
ACTIVATE := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: run test test-slurm docs wheel lint lint-style lint-imports lint-types lint-workflow check-results figures \
  reference pilots plan clean distclean
.DEFAULT_GOAL := run

run: $(VENV)/.installed
	$(ACTIVATE) snakemake --cores $(CORES) --config scale=$(SCALE)

test: $(VENV)/.installed-test lint
	$(ACTIVATE) OMP_NUM_THREADS=1 pytest -q -n 3 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-test
	@$(MAKE) --no-print-directory -j 2 lint-types lint-workflow lint-imports lint-style

lint-style:
	$(ACTIVATE) ruff check .
	$(ACTIVATE) ruff format --check .

lint-imports:
	$(ACTIVATE) lint-imports

lint-types:
	$(ACTIVATE) mypy

lint-workflow:
	$(ACTIVATE) snakefmt --check Snakefile workflows
	$(ACTIVATE) snakemake --lint

# the committed results: their hashes, every table and page made again from the pooled runs, what the README links to
check-results: $(VENV)/.installed-test
	$(ACTIVATE) OMP_NUM_THREADS=1 pytest -q -n 2 -m results tests/end_to_end

# every committed table and figure, made again from the kept records of the runs, without training, and compared
figures: $(VENV)/.installed
	$(ACTIVATE) OMP_NUM_THREADS=1 python -m mat reference check

# the results of a scale become its reference: results/$(SCALE) to results/reference/$(SCALE), with the runs' records
reference: $(VENV)/.installed
	$(ACTIVATE) OMP_NUM_THREADS=1 python -m mat reference make $(SCALE)

# a pilot: one seed of vanilla on every task that is trained until it has converged, and its reference
pilots: $(VENV)/.installed
	$(ACTIVATE) snakemake --cores $(CORES) --config scale=subset only=converged,vanilla 'seeds=[0]'
	$(ACTIVATE) OMP_NUM_THREADS=1 python -m mat reference make subset/only/converged,vanilla,seeds-0

# the workflow through a SLURM of one node on this machine, what Kubernetes is sent, the image's steps; needs slurm-wlm,
# munge, rsync and debootstrap, and skips what it finds no tool for
test-slurm: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[slurm,kubernetes]"
	$(ACTIVATE) OMP_NUM_THREADS=1 tests/clusters/one_node.sh pytest -q -m "" tests/clusters

# the pages of README and docs as a site, strictly, without network: build/docs/index.html; and the tests of it
docs: $(VENV)/.installed-docs
	$(ACTIVATE) NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	$(ACTIVATE) pytest -q -m docs tests/docs

# a wheel, built and used in a clean environment
wheel: $(VENV)/.installed-test
	$(ACTIVATE) pytest -q -m wheel tests/test_wheel.py

# what the scale would cost, before anything is run
plan: $(VENV)/.installed
	@$(ACTIVATE) python -m mat plan --config $(SCALE)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[experiments]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

# what was trained, measured and fetched stays, with Snakemake's record of it; so does what is committed
clean:
	git clean -Xdfq $(foreach kept,runs agreement branches data,-e '!/results/*/$(kept)/') \
	  -- results paper_figures
	rm -rf $(VENV)

# hours of training go too
distclean: clean
	git clean -Xdfq -- results paper_figures
	rm -rf .snakemake .mat-cache
