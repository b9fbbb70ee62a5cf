# Two commands need nothing before them but Python 3.11 to 3.13, git and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test chaos lint bench lock image clean

demo: $(STAMP)  ## a catalogue, a model and a tagged snapshot under ./demo
	$(BIN)/tagfleet demo --out demo $(DEMO_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)  # tests/conftest.py says which together

chaos: $(STAMP)  ## all that can go wrong with a re-tag, five times each: CHAOS_ARGS="--fault commit --seeds 1 --tracks 60"
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks.bytes_to_tags $(BENCH_ARGS)

lock: $(STAMP)  ## re-pin every dependency, with hashes and without registry addresses
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url \
	  --no-annotate --custom-compile-command "make lock" --upgrade -q -o cluster/constraints.txt pyproject.toml

# The image's tag tells what must agree with the cluster's manifests: tagfleet, Ray, and what it runs on (cpu or cuda).
# BUILDAH_FORMAT: podman's own format has no place for a health check.
ENGINE ?= $(or $(shell command -v docker),$(shell command -v podman),docker)
VARIANT ?= cpu
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git describe --always --abbrev=40 --dirty 2>/dev/null || echo unknown)
IMAGE = tagfleet:$(VERSION)-ray$(shell sed -n 's/^ray==\([0-9.]*\).*/\1/p' cluster/constraints.txt)-$(VARIANT)

image:  ## VARIANT=cpu|cuda, ENGINE=docker|podman, PYTHON_IMAGE=python:3.11.15-slim-bookworm@sha256:... pins the base
	@$(ENGINE) info >/dev/null 2>&1 || { \
	  echo "$(ENGINE) does not answer: start it, or name an engine that runs (make image ENGINE=podman)" >&2; exit 1; }
	BUILDAH_FORMAT=docker $(ENGINE) build --file cluster/Dockerfile --tag $(IMAGE) --build-arg VARIANT=$(VARIANT) \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
	  $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) .

$(STAMP): pyproject.toml cluster/constraints.txt
	@echo "Installing the pinned dependencies into .venv (torch is large: several minutes the first time) ..." >&2
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and "tagfleet needs Python 3.11 to 3.13: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' cluster/constraints.txt > .venv/uv.txt  # the lock's own entry, with its hashes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv --require-hashes --no-deps -r cluster/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv demo
