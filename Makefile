# Each target does its own set-up: a virtual environment in .venv with everything from PyPI.

PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
CASES ?= 1000

.PHONY: help demo test lint fuzz conformance bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/demo ## compile a trained file-type model to a canister and ask it about a real file
	$(BIN)/python examples/file_type.py examples/file_type.py

test: .venv/test ## all tests: pytest, then lit
	$(BIN)/python -m pytest -n $(JOBS)
	$(BIN)/lit lit_tests -j $(JOBS)

lint: .venv/lint ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

fuzz: .venv/test ## the differential tests with many random cases; CASES=N: of each test
	HYPOTHESIS_PROFILE=fuzz FUZZ_CASES=$(CASES) $(BIN)/python -m pytest -n $(JOBS) tests/onnx_to_tosa tests/wasm tests/tensors

conformance: .venv/test ## Arm's conformance cases for TOSA, 200 an operator
	PYTHONPATH=tests $(BIN)/python tests/tosa_conformance/run.py --jobs $(JOBS)

bench: .venv/test ## the figures of the README; MODELS=DIR: of other models
	$(BIN)/python benchmarks/run.py $(if $(MODELS),--models $(MODELS)) $(if $(PRICES),--prices $(PRICES))

clean: ## remove the environment and what the demo wrote
	rm -rf .venv build

.venv/demo .venv/test .venv/lint: .venv/%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	touch $@
