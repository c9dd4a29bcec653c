# What a newcomer needs: `make demo` and `make test`. The rest are their parts.

# The first Python of 3.11 to 3.13 that runs and can make environments; set PYTHON to choose another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)

BIN := .venv/bin
ZOO := .venv-zoo/bin

.PHONY: demo test lint types unit zoo zoo-tests clean
.NOTPARALLEL:

demo: .venv/installed
	$(BIN)/python examples/demo.py

test: lint types zoo-tests
	$(BIN)/pytest

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# The built package and not the checkout: only there do the mapped folders have the names they are imported by, and a
# module that the wheel forgets is an error here. build/lib would bring deleted modules back.
types: .venv/installed
	rm -rf .typecheck build/lib build/bdist.*
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target .typecheck .
	$(BIN)/mypy .typecheck/edgevit

unit: .venv/installed
	$(BIN)/pytest tests/unit

# Shallow models of timm's, in an environment of their own: timm needs torchvision, which fixes another torch.
zoo-tests: .venv-zoo/installed
	$(ZOO)/pytest tests/zoo

# Every backbone and reduction at its full size, against its plain model: docs/zoo.md.
zoo: .venv-zoo/installed
	$(ZOO)/python benchmarks/suites/zoo.py

# Made afresh whenever what is to be installed has changed, so that nothing old stays behind.
.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: found no Python 3.11 to 3.13 with venv; install one or run: make PYTHON=..." >&2; exit 1; }
	rm -rf .venv
	$(PYTHON) -m venv .venv
	@echo "installing into .venv; torch is large, so the first time takes minutes"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[export,cpu,train,bench,tensorrt-rtx,dev]'
	touch $@

.venv-zoo/installed: pyproject.toml constraints-zoo.txt
	@test -n "$(PYTHON)" || { echo "make: found no Python 3.11 to 3.13 with venv; install one or run: make PYTHON=..." >&2; exit 1; }
	rm -rf .venv-zoo
	$(PYTHON) -m venv .venv-zoo
	@echo "installing into .venv-zoo; torch with its CUDA libraries takes several GB and minutes"
	$(ZOO)/pip install --quiet --disable-pip-version-check -c constraints-zoo.txt \
		-e '.[export,cpu,zoo,train,bench,tensorrt-rtx,dev]'
	touch $@

clean:
	rm -rf .venv .venv-zoo .typecheck build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
