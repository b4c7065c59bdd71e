# Each target sets up what it needs, then does it. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
CORES ?= 2
VENV ?= .venv
BIN := $(VENV)/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
BASELINES := published mofa scvi scmomat

.PHONY: demo test lint envs package baselines benchmark speed clean

# Snakemake 9.27 warns of a coroutine of its own when a report is made of jobs whose memory depends on their input.
demo: $(VENV)/.run-ready
	@# Live progress bars where a person watches; plain logs elsewhere.
	if [ -t 1 ]; then $(SNAKEMAKE) --logger rich; else $(SNAKEMAKE); fi
	PYTHONWARNINGS=ignore::RuntimeWarning $(SNAKEMAKE) --report results/report.html --quiet all
	@echo
	@echo "The report: results/report.html (open it in a browser)"
	@echo "The result: results/integrated.h5mu (open it with mudata.read_h5mu; its modalities are for scanpy)"

test: $(VENV)/.test-ready
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile

lint: $(VENV)/.test-ready
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=scripts $(BIN)/lint-imports --no-cache
	$(BIN)/snakemake --lint
	@# Of this workflow alone, as the baselines' environments may not be there.
	$(BIN)/snakemake -s workflow/benchmark/Snakefile --configfile config/benchmark.yaml --config 'methods=[spamosaic]' --lint

# Each file in envs/ as an environment of its own, in which the tests of what its scripts reach pass. Needs no $(VENV).
envs:
	$(PYTHON) envs/prove.py

# `pip install .` as a notebook's user does it, alone in an environment of its own, used from another folder.
package:
	$(PYTHON) envs/prove_package.py $(VENV)-package

# The environments of the baselines, methods of others that the config may list: config/README.md, "Baselines".
baselines: $(BASELINES:%=$(VENV)-%)

$(BASELINES:%=$(VENV)-%): $(VENV)-%: $(VENV)-%/.ready

# Data sets x methods x seeds x metrics: docs/benchmark.md. With DATA=folder also the published data sets that lie there.
benchmark: $(VENV)/.run-ready baselines
	$(SNAKEMAKE) -s workflow/benchmark/Snakefile --configfile config/benchmark.yaml $(if $(DATA),--config data=$(DATA))
	@echo
	@echo "The tables: results/benchmark/scores.tsv, summary.tsv, summary.md; the figures: overview.svg, time.svg"

# This implementation beside the published package, in under an hour; with QUICK=1 small sizes, in under five minutes.
speed: $(VENV)/.run-ready $(VENV)-published/.ready
	$(BIN)/python benchmarks/speed.py benchmarks/speed.tsv benchmarks/speed.svg \
	  --published $(VENV)-published/bin/python $(if $(QUICK),--quick)

clean:
	rm -rf $(VENV) $(VENV)-package $(BASELINES:%=$(VENV)-%) .snakemake results data

# torch comes first and alone: a later package would pull a build of its own choice.
$(VENV)/.run-ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	touch $@

$(VENV)-%/.ready: envs/%.yaml envs/make_venv.py
	$(PYTHON) envs/make_venv.py $< $(VENV)-$*
	touch $@

$(VENV)/.test-ready: $(VENV)/.run-ready requirements-test.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-test.lock
	touch $@
