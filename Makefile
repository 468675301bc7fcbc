# Two commands: `make demo` and `make test`; each sets up what it needs in .venv first.
PYTHON ?= python3.11
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: help setup test check demo accept schemas
help: ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt "$(TORCH)" --editable ".[dev]"
	touch $@

setup: $(VENV)/.ready ## a virtual environment with everything in it

test: setup ## all tests, types and style
	$(BIN)/ruff check peftref benchmarks tests
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS)

demo: setup ## pretrain a small host of its own and compare the founding techniques on it
	$(BIN)/peftref demo
