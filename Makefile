# Two commands need nothing before them but Python 3.11 to 3.13, git and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test lint bench lock clean

demo: $(STAMP)  ## a catalogue, a model and a tagged snapshot under ./demo
	$(BIN)/tagfleet demo --out demo $(DEMO_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks.bytes_to_tags $(BENCH_ARGS)

lock: $(STAMP)  ## re-pin every dependency, with hashes and without registry addresses
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url \
	  --no-annotate --custom-compile-command "make lock" --upgrade -q -o cluster/constraints.txt pyproject.toml

$(STAMP): pyproject.toml cluster/constraints.txt
	@echo "Installing the pinned dependencies into .venv (torch is large: several minutes the first time) ..." >&2
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and "tagfleet needs Python 3.11 to 3.13: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r cluster/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv demo
