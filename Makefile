# Two commands: `make demo` shows a debit between two cities, `make test` runs every check. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test setup check format protos lock clean

demo:
	@deploy/setup.sh demo
	$(BIN)/yikatong demo

test: setup check
	@tests/run.sh

setup:
	@deploy/setup.sh

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos > /dev/null
	$(PYTHON) protos/generate.py --check

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write protos

protos:
	$(PYTHON) protos/generate.py

# Needs nothing but this: the resolver lives in an environment of its own. Look at the changes before you commit them.
LOCK := build/lock/bin/uv pip compile -q --upgrade --generate-hashes --no-header --no-annotate --python-version 3.11
lock:
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install -q uv
	$(LOCK) pyproject.toml --group development --group build -o deploy/lock/development.txt
	$(LOCK) pyproject.toml -o deploy/lock/runtime.txt
	$(LOCK) --group build -o deploy/lock/build.txt
	$(LOCK) --group protogen -o deploy/lock/protogen.txt
	$(LOCK) --group fuzzing -o deploy/lock/fuzzing.txt

clean:
	rm -rf build dist $(VENV)
