.DEFAULT_GOAL := help
.PHONY: help demo demo-python test test-rust test-python test-python-dev loom miri tsan soak mutants mutants-drivers \
	mutants-python histories \
	histories-python fuzz fuzz-check fmt clippy doc lint-python types-python wheel ci \
	bench bench-quick bench-rust bench-python bench-counts bench-report \
	bench-check clean cargo-present fuzz-present miri-present tsan-present always python-present

CARGO ?= cargo
PYTHON ?= python3

# Python's tools live in the tree. The stamp has the interpreter in its name: another PYTHON begins anew.
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
VENV_STAMP := $(VENV)/.made-by-$(subst /,-,$(PYTHON))
TEST_STAMP := $(VENV)/.requirements-dev
CHECK_STAMP := $(VENV)/.requirements-check
BENCH_VENV := bench/.venv
BENCH_PIP := $(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check
BENCH_STAMP := $(BENCH_VENV)/.requirements
# What `tests/conformance` plays beside the scenarios. Made anew each time: how many, and from which seed.
HISTORIES := $(VENV)/histories.jsonl
HISTORY_COUNT ?= 100
HISTORY_SEED ?= 1
# `maturin develop` puts the module beside the package's Python files.
MODULE := python/everbeat/_everbeat.abi3.so
MODULE_SOURCES := $(shell find crates/everbeat-core crates/everbeat crates/everbeat-python \
	-name Cargo.toml -o -name '*.rs' -path '*/src/*') \
	.cargo/config.toml Cargo.toml Cargo.lock python/pyproject.toml
# maturin refuses to choose between two environments.
MATURIN := env -u CONDA_PREFIX VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: cargo-present ## Build and start the demo service (Rust; `make demo-python` has one in Python)
	$(CARGO) run --release --locked -p everbeat-service

demo-python: $(MODULE) ## Build the Python package and start its demo service (FastAPI)
	$(BIN)/python python/examples/fastapi_cache.py

test: test-rust test-python ## Run every test of every language

test-rust: cargo-present ## Run every test in Rust, doc tests included
	$(CARGO) test --workspace --all-features --locked

test-python: $(MODULE) $(HISTORIES) ## Run every test in Python
	cd python && EVERBEAT_HISTORIES=$(CURDIR)/$(HISTORIES) $(BIN)/python -m pytest

test-python-dev: $(MODULE) ## Run the tests of timers in loops once more, in Python's development mode
	cd python && $(BIN)/python -X dev -m pytest tests/timer tests/test_*.py

# A directory of its own: the cfg changes what is built, and going back and forth would build it anew.
loom: export RUSTFLAGS := --cfg everbeat_loom
loom: cargo-present ## Check the hand-off between threads in every order
	$(CARGO) test --release -p everbeat --lib --no-default-features --features tokio --locked \
		--target-dir $${CARGO_TARGET_DIR:-target}/loom -- thread::models --nocapture

# Cut off from the machine: time is then what miri makes of it, a step at a time, and a sleep takes none. What is left
# out tries thousands of numbers or timers, for hours. Leaks are allowed: some tests make a timer hold itself.
MIRI_CORE := buffer:: failure:: missed:: queue::slab queue::tests::an_ queue::tests::a_removed queue::tests::what_is \
	queue::tests::the_next ratio:: schedule:: stats:: time:: timer::tests::lifecycle timer::tests::rest timer::tests::schedule
MIRI_NOT_CORE := memory_is_given_back s5_
MIRI_THREADS := thread_calls thread_endings thread_lean thread_restarts thread_stops scope:: delivery cancel_safety
MIRI_NOT_THREADS := many_runs_that_do_not_return whole_timers_in_tasks
MIRI_TEST = $(CARGO) +nightly miri test --locked --target-dir $(abspath $(or $(CARGO_TARGET_DIR),target))/miri
miri: export EVERBEAT_STRESS := 0.01
miri: export MIRIFLAGS := -Zmiri-env-forward=EVERBEAT_STRESS -Zmiri-isolation-error=warn-nobacktrace -Zmiri-ignore-leaks
miri: miri-present ## Run tests of the core, of handles and of engines in miri: a quarter of an hour
	$(MIRI_TEST) -p everbeat-core --lib -- $(MIRI_CORE) $(addprefix --skip ,$(MIRI_NOT_CORE))
	$(MIRI_TEST) -p everbeat --all-features --test it -- $(MIRI_THREADS) $(addprefix --skip ,$(MIRI_NOT_THREADS))

# A module is loaded by an interpreter that has no sanitizer: its runtime comes first then, and it is that of gcc, which
# knows fewer calls than LLVM makes. Left out is what a sanitizer cannot do: live in little memory, start threads after
# a fork, keep up with the clock. The fixtures are those of the tree, whether or not the package is installed.
TSAN := $(abspath $(or $(CARGO_TARGET_DIR),target))/tsan
TSAN_CARGO = --target-dir $(TSAN) -Zbuild-std --target $(TSAN_HOST) --locked
TSAN_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
TSAN_PYTHON = TSAN_OPTIONS="die_after_fork=0 suppressions=$(CURDIR)/python/tsan-suppressions.txt" \
	LD_PRELOAD=$$(gcc -print-file-name=libtsan.so) PYTHONPATH=$(TSAN)/python $(BIN)/python
TSAN_NOT_RUST := without_a_thread without_any_worker cannot_be_had
TSAN_NOT_PYTHON := in_the_child or real_time or memory_does_not_grow or process_that_is_stopped
TSAN_TESTS := tests/threading tests/timer/test_threads.py tests/timer/test_teardown.py tests/test_faults.py \
	tests/test_logging_threads.py
TSAN_SECONDS ?= 120
tsan: export RUSTFLAGS := -Zsanitizer=thread -Cllvm-args=-tsan-instrument-memintrinsics=0
tsan: export PYO3_BUILD_EXTENSION_MODULE := 1
tsan: export PYO3_PYTHON := $(BIN)/python
tsan: tsan-present $(TEST_STAMP) ## Look for data races, in Rust and in the Python module: a quarter of an hour
	$(CARGO) +nightly test $(TSAN_CARGO) -p everbeat --all-features --lib --test it -- \
		$(addprefix --skip ,$(TSAN_NOT_RUST))
	$(CARGO) +nightly build $(TSAN_CARGO) -p everbeat-python
	rm -rf $(TSAN)/python && cp -r python $(TSAN)
	cp $(TSAN)/$(TSAN_HOST)/debug/lib_everbeat.so $(TSAN)/$(MODULE)
	cd $(TSAN)/python && $(TSAN_PYTHON) -m pytest -p no:everbeat -p everbeat.pytest_plugin --capture=sys --timeout=300 \
		-k "not ($(TSAN_NOT_PYTHON))" $(TSAN_TESTS)
	$(TSAN_PYTHON) soak/soak.py --timers 300 --seconds $(TSAN_SECONDS)

# Each language has so long, one after the other.
soak: export SOAK_SECONDS ?= 600
soak: cargo-present $(MODULE) ## Run thousands of timers under random control: SOAK_SECONDS each in Rust and Python
	$(CARGO) run --release --locked -p everbeat-soak -- --seconds $$SOAK_SECONDS
	PYTHONPATH=python $(BIN)/python soak/soak.py --seconds $$SOAK_SECONDS

# A mutant is dead with the first test that fails: there is no point in looking for the shortest case.
mutants: export PROPTEST_MAX_SHRINK_ITERS := 0
mutants: export RUST_BACKTRACE := 0
mutants: cargo-present ## Check that each change to the core fails a test (needs cargo-mutants; an hour)
	env -u CARGO_TARGET_DIR $(CARGO) mutants -p everbeat-core --cargo-arg=--lib \
		--output $${CARGO_TARGET_DIR:-target} $$MUTANTS_ARGS

# Both crates have tests of the drivers. Left out is what the compiler checks, what is for tests, and the models, which
# other tests are. Not each mutant that survives is a gap: GUARANTEES.md says what kinds of them there are.
mutants-drivers: export PROPTEST_MAX_SHRINK_ITERS := 0
mutants-drivers: export RUST_BACKTRACE := 0
mutants-drivers: cargo-present ## The same for the drivers: days, or less of it by MUTANTS_ARGS='--file group.rs'
	env -u CARGO_TARGET_DIR $(CARGO) mutants -p everbeat --all-features --test-package everbeat,everbeat-conformance \
		--cargo-arg=--tests --exclude '**/target/*' --exclude '**/testing/*' --exclude '**/model*' --exclude '**/models/*' \
		--output $${CARGO_TARGET_DIR:-target} $$MUTANTS_ARGS

mutants-python: $(MODULE) ## The same for the Python files of the package: hours; MUTANTS_FILES='_group.py' for one
	cd python && $(BIN)/python -m tests.mutants $(MUTANTS_FILES)

histories: export PROPTEST_CASES ?= 100000
histories: cargo-present ## Play random histories and companies on every driver, and compare with the model: minutes
	$(CARGO) test --release -p everbeat-conformance --test histories --test companies --locked -- \
		--nocapture --test-threads=1

# Through a pipe: no more than a thousand of the histories are ever held.
histories-python: HISTORY_COUNT = 100000
histories-python: $(MODULE) ## The same on event loops and threads of Python: a quarter of an hour
	cd python && $(CARGO) run --quiet --release --locked -p everbeat-conformance --example histories -- \
		$(HISTORY_SEED) | $(BIN)/python -m tests.conformance.histories $(HISTORY_COUNT)

# New inputs go where they are not committed by accident; `cargo fuzz cmin` brings those that count into the corpus.
FUZZ_SECONDS ?= 600
fuzz: fuzz-present ## Look for bytes on which core and model, or queue and map, differ: minutes
	mkdir -p fuzz/artifacts/found-history fuzz/artifacts/found-queue
	cd fuzz && $(CARGO) +nightly fuzz run history artifacts/found-history corpus/history -- -max_total_time=$(FUZZ_SECONDS)
	cd fuzz && $(CARGO) +nightly fuzz run queue artifacts/found-queue corpus/queue -- -max_total_time=$(FUZZ_SECONDS)

# What is not linked needs no fuzzer, which is C++, and no nightly compiler.
fuzz-check: export CUSTOM_LIBFUZZER_PATH := /nowhere/libfuzzer.a
fuzz-check: cargo-present ## Lint the fuzz targets
	cd fuzz && $(CARGO) fmt --check && $(CARGO) clippy --locked -- -D warnings

fmt: cargo-present $(CHECK_STAMP) ## Format the code
	$(CARGO) fmt --all
	cd bench && $(CARGO) fmt
	cd fuzz && $(CARGO) fmt
	cd python && $(BIN)/ruff check --select I --fix . ../bench ../soak && $(BIN)/ruff format . ../bench ../soak

clippy: cargo-present ## Lint all Rust; a warning is an error
	$(CARGO) clippy --workspace --all-targets --all-features --locked -- -D warnings

doc: export RUSTDOCFLAGS := -D warnings
doc: cargo-present ## Build the API docs; a broken link is an error
	$(CARGO) doc --workspace --no-deps --all-features --locked

lint-python: $(CHECK_STAMP) ## Check the format of all Python, and lint it
	cd python && $(BIN)/ruff format --check . ../soak && $(BIN)/ruff check . ../soak

types-python: $(CHECK_STAMP) $(MODULE) ## Check the stubs against the package, and what type checkers make of them
	cd python && $(BIN)/python -m mypy.stubtest everbeat --mypy-config-file pyproject.toml --allowlist stubtest-allowlist.txt
	cd python && $(BIN)/mypy
	cd python && $(BIN)/pyright --pythonpath $(BIN)/python

# After the module, since two maturins at once get in each other's way.
wheel: $(MODULE) ## Build the Python package into dist/
	rm -f dist/everbeat-*.whl
	+cd python && $(MATURIN) build --release --locked --out ../dist

ci: cargo-present ## Run every check a change must pass
	.ci/run

# A workspace of its own, which no other target builds.
bench: bench-rust bench-python bench-report ## Measure everything, beside other libraries: hours
bench-quick: export BENCH_ARGS := --quick
bench-quick: bench-rust bench-python ## The same at a glance: five minutes once built

bench-rust: cargo-present
	cd bench && $(CARGO) run --release --locked -- $$BENCH_ARGS

bench-python: $(MODULE) $(BENCH_STAMP)
	PYTHONPATH=python $(BENCH_VENV)/bin/python bench/python/bench.py $$BENCH_ARGS

bench-counts: cargo-present python-present ## Count the instructions of single paths (needs valgrind)
	@command -v valgrind >/dev/null || { echo "valgrind is needed: apt-get install valgrind" >&2; exit 1; }
	cd bench && $(CARGO) build --release --locked --features counts --bin counts
	$(PYTHON) bench/counts.py $${CARGO_TARGET_DIR:-bench/target}/release/counts

bench-report: python-present ## Write docs/performance.md from the newest results
	$(PYTHON) bench/report.py

bench-check: cargo-present $(CHECK_STAMP) ## Lint what measures, and see that it runs
	cd bench && $(CARGO) fmt --check && $(CARGO) clippy --locked --all-features -- -D warnings
	cd bench && $(CARGO) run --quiet --locked -- --list >/dev/null
	$(BIN)/ruff format --check bench && $(BIN)/ruff check bench

clean: cargo-present ## Delete what was built
	$(CARGO) clean
	rm -rf $(VENV) dist $(MODULE) bench/target fuzz/target $(BENCH_VENV)

$(VENV_STAMP): | python-present
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(TEST_STAMP): python/requirements-dev.txt $(VENV_STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(CHECK_STAMP): python/requirements-check.txt $(TEST_STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(HISTORIES): $(VENV_STAMP) always | cargo-present
	$(CARGO) run --quiet --locked -p everbeat-conformance --example histories -- $(HISTORY_SEED) $(HISTORY_COUNT) > $@

$(BENCH_STAMP): $(wildcard bench/python/requirements*.txt) | python-present
	$(PYTHON) -m venv --clear $(BENCH_VENV)
	$(BENCH_PIP) -r bench/python/requirements.txt
	$(BENCH_PIP) -r bench/python/requirements-apscheduler4.txt --target $(BENCH_VENV)/apscheduler4
	touch $@

$(MODULE): $(MODULE_SOURCES) $(TEST_STAMP) | cargo-present
	+cd python && $(MATURIN) develop --release --locked
	touch $@

cargo-present:
	@command -v $(CARGO) >/dev/null 2>&1 || { \
		echo "cargo was not found. Install Rust from https://rustup.rs, open a new shell and try again." >&2; \
		exit 1; \
	}

fuzz-present: cargo-present
	@$(CARGO) +nightly fuzz --version >/dev/null 2>&1 || { \
		echo "Fuzzing needs a nightly compiler and cargo-fuzz:" \
			"rustup toolchain install nightly && cargo install --locked cargo-fuzz" >&2; \
		exit 1; \
	}

miri-present: cargo-present
	@$(CARGO) +nightly miri --version >/dev/null 2>&1 || { \
		echo "Miri needs a nightly compiler:" \
			"rustup toolchain install nightly --component miri,rust-src" >&2; \
		exit 1; \
	}

tsan-present: cargo-present
	@test -d "$$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library" -a \
			-e "$$(gcc -print-file-name=libtsan.so 2>/dev/null)" || { \
		echo "ThreadSanitizer needs a nightly compiler with its sources, and gcc with its libtsan:" \
			"rustup toolchain install nightly --component rust-src" >&2; \
		exit 1; \
	}

python-present:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "'$(PYTHON)' is no Python 3.11 or later. Install one, or name it: make PYTHON=python3.12 ..." >&2; \
		exit 1; \
	}
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make a virtual environment. Install its venv module" \
			"(Debian, Ubuntu: apt-get install python3-venv) and try again." >&2; \
		exit 1; \
	}
