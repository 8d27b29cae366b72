.DEFAULT_GOAL := help
.PHONY: help demo test loom fmt clippy doc ci clean cargo-present

CARGO ?= cargo

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: cargo-present ## Build and start the demo service
	$(CARGO) run --release --locked -p everbeat-service

test: cargo-present ## Run every test, doc tests included
	$(CARGO) test --workspace --all-features --locked

# A directory of its own: the cfg changes what is built, and going back and forth would build it anew.
loom: export RUSTFLAGS := --cfg everbeat_loom
loom: cargo-present ## Check the hand-off between threads in every order
	$(CARGO) test --release -p everbeat --lib --no-default-features --locked \
		--target-dir $${CARGO_TARGET_DIR:-target}/loom -- thread::models --nocapture

fmt: cargo-present ## Format the code
	$(CARGO) fmt --all

clippy: cargo-present ## Lint everything; a warning is an error
	$(CARGO) clippy --workspace --all-targets --all-features --locked -- -D warnings

doc: export RUSTDOCFLAGS := -D warnings
doc: cargo-present ## Build the API docs; a broken link is an error
	$(CARGO) doc --workspace --no-deps --all-features --locked

ci: cargo-present ## Run every check a change must pass
	.ci/run

clean: cargo-present ## Delete what was built
	$(CARGO) clean

cargo-present:
	@command -v $(CARGO) >/dev/null 2>&1 || { \
		echo "cargo was not found. Install Rust from https://rustup.rs, open a new shell and try again." >&2; \
		exit 1; \
	}
