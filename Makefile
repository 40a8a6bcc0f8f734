# The only entry point. `make demo` and `make test` do all set-up on a fresh clone.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMMA := ,
GIT_COMMIT = git.$(shell git describe --always --dirty 2>/dev/null | tr - .)
STAMPS := build/stamps
# Compiled crates are shared between clones; the directory is made again when it is missing.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/damocles-worker
export CARGO_TARGET_DIR ?= $(CACHE)/target
RUST_SOURCES := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock

.PHONY: help demo test test-rust test-python test-slow test-dist lint bench bench-pc1 bench-proving bench-dist docs \
	docs-pictures dist demo-dist launcher clean setup tools

help:  ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: setup  ## Seal two sectors on the embedded manager and verify their proofs.
	@$(BIN)/damocles-worker demo

test: test-rust test-python  ## Run the tests (slow the first time: parameters are generated).

test-rust: tools
	@echo "== Rust tests"
	cargo test --release --locked --workspace --exclude extension

test-python: setup launcher
	@echo "== Groth16 parameters for 2 KiB sectors (kept in the parameter cache)"
	@$(BIN)/damocles-worker params generate --size 2KiB --plan sealer --plan snapup --plan wdpost --plan winning
	@echo "== Python tests"
	$(BIN)/python -m pytest $(wildcard tests/unit tests/machine tests/processors tests/launcher tests/faults tests/e2e)

test-slow: setup  ## Random lives of the machine, large sectors and many hashes, the OpenCL build (an hour).
	RANDOM_LIVES=1 $(BIN)/python -m pytest tests/machine/test_stateful.py
	SDR_SLOW_TESTS=1 cargo test --release --locked -p sdr --test slow
	cargo test --release --locked -p poseidon --test against_neptune -- --ignored
	cargo test --release --locked -p proofs --test stages -- --ignored
	$(BIN)/python -m pytest tests/slow
	@if echo 'int main(void) { return 0; }' | cc -xc - -lOpenCL -o /dev/null 2>/dev/null; then \
		echo "== OpenCL build"; \
		cargo build --release --locked -p extension --features extension-module,opencl; \
	else \
		echo "skipped: the OpenCL build, for want of its library; apt-get install ocl-icd-opencl-dev"; \
	fi

lint: setup  ## Check formatting, types, stubs, imports and lints.
	$(BIN)/ruff check pyworker tests cython packaging
	$(BIN)/ruff format --check pyworker tests cython packaging
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest damocles_worker._native damocles_worker.affinity
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

bench: setup  ## Print the orchestrator's overhead and data throughput, as ratios.
	@$(BIN)/python -m tests.bench.run
	@$(BIN)/python -m tests.bench.data
	@$(BIN)/python -m tests.bench.processors
	@cargo run --release --locked --quiet -p proofs --example data_throughput -- add_pieces

# The proofs crate hashes fast only when it is built with these flags; the second build takes minutes the
# first time. `make bench-pc1 CRATE_WITH_FLAGS=no` leaves its line out.
CRATE_WITH_FLAGS ?= yes
SHA_FLAGS := -C target-feature=+sha,+ssse3,+sse4.1
BENCH_PC1 := release/examples/bench_pc1

bench-pc1: tools  ## Print labels per second per core of PC1: the proofs crate, this engine, the limit.
	@cargo build --release --locked --quiet -p sdr --example bench_pc1
	@options=; \
	if [ "$(CRATE_WITH_FLAGS)" = yes ] && grep -qw sha_ni /proc/cpuinfo; then \
		CARGO_TARGET_DIR=$(CACHE)/target-sha RUSTFLAGS="$(SHA_FLAGS)" \
			cargo build --release --locked --quiet -p sdr --example bench_pc1 \
			$$(pkg-config --exists hwloc 2>/dev/null && echo --features multicore); \
		options="--crate-with-flags $(CACHE)/target-sha/$(BENCH_PC1)"; \
	fi; \
	FIL_PROOFS_PARENT_CACHE=$(CACHE)/parents $(CARGO_TARGET_DIR)/$(BENCH_PC1) $$options

# PC2 of 512 MiB takes 8 GiB of memory and of disk, and some twenty minutes of CPU time: it is left out where there
# is less, and with `make bench-proving PC2_512_MIB=no`.
PC2_512_MIB ?= $(shell awk '/^MemAvailable/ {memory = $$2 >= 8388608} END {print memory ? "yes" : "no"}' \
	/proc/meminfo)

bench-proving: tools  ## Print Poseidon, PC2, tree_d and C2 beside the proofs crates, with and without AVX-512 IFMA.
	@large=; \
	if [ "$(PC2_512_MIB)" = yes ] && [ "$$(df --output=avail "$${TMPDIR:-/tmp}" | tail -1)" -ge 8388608 ]; then \
		large=--512mib; \
	else \
		echo "left out: PC2 of 512 MiB (PC2_512_MIB=$(PC2_512_MIB); 8 GiB of memory, and of disk in TMPDIR)"; \
	fi; \
	cargo run --release --locked --quiet -p pc2 --example bench_proving -- $$large
	@cargo run --release --locked --quiet -p proofs --example data_throughput -- tree_d
	@cargo run --release --locked --quiet -p proofs --example bench_c2

docs: setup  ## Write the generated pages of docs/.
	@$(BIN)/python -m damocles_worker.metrics.reference > docs/metrics.md
	@$(BIN)/python -m damocles_worker.config.reference > docs/configuration.md

docs-pictures: setup  ## Take the pictures of docs/ from a busy worker (needs Chromium).
	@$(BIN)/python -m tests.pictures docs/pictures

# GPU=cuda or GPU=opencl compiles the proofs crates' code for GPUs in; it needs the CUDA compiler (nvcc), or
# the OpenCL library to link with.
GPU ?=
DIST := build/dist$(addprefix -,$(GPU))
LAUNCHER := build/launcher
HOST_TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
EXECUTABLE := dist/damocles-worker

dist: tools launcher $(STAMPS)/venv  ## Build the single executable dist/damocles-worker (GPU=cuda|opencl).
	@echo "== Package with its extension modules (GPU: $(or $(GPU),none))"
	@rm -rf $(DIST) && mkdir -p $(DIST)
	@GIT_COMMIT="$(GIT_COMMIT)" $(BIN)/maturin build --release --locked --quiet --auditwheel skip \
		--features extension-module$(addprefix $(COMMA),$(GPU)) --out $(DIST)
	@$(BIN)/python -m zipfile --extract $(DIST)/*.whl $(DIST)/package
	@$(BIN)/python cython/setup.py --quiet build_ext --build-lib $(DIST)/package --build-temp build/cython
	@echo "== Program with everything it needs"
	@PYTHONPATH=$(DIST)/package $(BIN)/python -m PyInstaller --noconfirm --log-level WARN --workpath $(DIST)/work \
		--distpath $(DIST) packaging/executable.spec
	@echo "== One file"
	@$(BIN)/python packaging/bundle.py $(DIST)/tree $(LAUNCHER) $(EXECUTABLE)
	@DAMOCLES_WORKER_RUNTIME_DIR=$(abspath $(DIST))/runtime $(EXECUTABLE) --version

# Static: it runs before anything that it brings along is there.
launcher: tools
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --quiet -p launcher --target $(HOST_TRIPLE)
	@install -D $(CARGO_TARGET_DIR)/$(HOST_TRIPLE)/release/launcher $(LAUNCHER)

demo-dist: dist  ## Run the demonstration with nothing but the executable: no Python, an empty environment.
	@env -i PATH=/nowhere HOME="$(HOME)" $${FIL_PROOFS_PARAMETER_CACHE:+FIL_PROOFS_PARAMETER_CACHE="$$FIL_PROOFS_PARAMETER_CACHE"} \
		DAMOCLES_WORKER_RUNTIME_DIR="$(abspath $(DIST))/runtime" $(EXECUTABLE) demo

test-dist: setup  ## Test the executable of `make dist`.
	$(BIN)/python -m pytest tests/dist

bench-dist: setup  ## Print size, start-up time and memory of the executable, as ratios.
	@$(BIN)/python -m tests.bench.executable

clean:  ## Remove what was built in this clone (caches outside stay).
	rm -rf build dist $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f pyworker/damocles_worker/*.so

setup: tools $(STAMPS)/native $(STAMPS)/affinity  ## Virtual environment, extension modules.

# Each missing tool is one line with the command that installs it.
RUST_NEEDED := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
INSTALL_RUST := curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh
tools:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "missing: Python 3.11 or newer as '$(PYTHON)'; install it with: apt-get install python3 python3-venv python3-dev (or make PYTHON=python3.12 ...)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "missing: Python's venv module; install it with: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || { echo "missing: Python's header files (Python.h); install them with: apt-get install python3-dev" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "missing: a C compiler; install it with: apt-get install build-essential" >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "missing: Rust $(RUST_NEEDED) or newer (cargo); install it with: $(INSTALL_RUST)" >&2; exit 1; }
	@printf '%s\n%s\n' "$(RUST_NEEDED)" "$$(cargo --version | cut -d' ' -f2)" | sort -CV || { echo "missing: Rust $(RUST_NEEDED) or newer, found $$(cargo --version); update it with: rustup update stable" >&2; exit 1; }

$(STAMPS)/venv: requirements/dev.txt
	@echo "== Python environment in $(VENV)"
	@mkdir -p $(STAMPS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(STAMPS)/native: $(STAMPS)/venv pyproject.toml $(RUST_SOURCES)
	@echo "== Rust extension (about 5 minutes on two cores the first time on a machine, seconds later)"
	@GIT_COMMIT="$(GIT_COMMIT)" $(BIN)/maturin develop --release --locked --quiet
	@touch $@

$(STAMPS)/affinity: $(STAMPS)/venv cython/affinity.pyx cython/setup.py
	@echo "== Cython extension"
	@$(BIN)/python cython/setup.py --quiet build_ext --build-lib pyworker --build-temp build/cython
	@touch $@
