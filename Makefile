# `make demo` and `make test` set up what they need in .venv first. Everything that is installed is in requirements.lock; the one choice
# left is the build of torch: on a machine with a GPU, `make TORCH=torch` or any other build.
PYTHON ?= python3.11
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
UV ?= uv
PYTEST := $(BIN)/pytest -n $(JOBS) $(if $(CI),--durations=20)
# Other code paths of the libraries that compute: those that a processor without vector units takes.
PLAIN := ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41 OMP_NUM_THREADS=1

.PHONY: help setup test check demo lock test-newest test-oldest test-arithmetic test-wheel
help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv --clear $(VENV) || python3 -m venv --clear $(VENV)
	grep -v '^torch==' requirements.lock > $(VENV)/others.lock
	$(BIN)/pip install --quiet "$(TORCH)" --requirement $(VENV)/others.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

setup: $(VENV)/.ready ## a virtual environment with everything in it

test: setup ## all tests, types and style
	$(BIN)/ruff check peftref benchmarks tests
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(PYTEST)

demo: setup ## pretrain a small host of its own and compare the founding techniques on it
	$(BIN)/peftref demo

lock: ## resolve everything anew, as new as it may be, into requirements.lock (needs uv)
	echo "$(TORCH)" | $(UV) pip compile pyproject.toml - --extra dev --universal --python-version 3.11 --upgrade \
		--no-header --no-annotate --quiet --output-file requirements.lock

# The release checks: see CONTRIBUTING.md. Each has an environment of its own, and PEFTREF_UNLOCKED tells the test of the lock.
test-newest: ## all tests with the newest of everything but torch
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/pip install --quiet --upgrade --upgrade-strategy eager "$(TORCH)" --editable ".[dev]"
	PEFTREF_UNLOCKED=1 OMP_NUM_THREADS=1 .venv-newest/bin/pytest -n $(JOBS)

test-oldest: ## all tests with the oldest that pyproject.toml allows, torch too (needs uv)
	$(PYTHON) -m venv --clear .venv-oldest
	$(UV) pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct --editable ".[dev]"
	PEFTREF_UNLOCKED=1 OMP_NUM_THREADS=1 .venv-oldest/bin/pytest -n $(JOBS)

test-arithmetic: setup ## all tests on other code paths of the math libraries, and on one and two threads
	$(PLAIN) $(BIN)/pytest -n $(JOBS)
	ATEN_CPU_CAPABILITY=avx2 OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS)
	OMP_NUM_THREADS=2 $(BIN)/pytest -n 1

test-wheel: ## the README's commands with a wheel and no extras
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/bin/pip install --quiet "$(TORCH)" .
	.venv-wheel/bin/python tests/wheel.py
