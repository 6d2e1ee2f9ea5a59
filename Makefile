# One door to everything: `make` explains. Every target works on a fresh machine with Rust, git and
# a C++ compiler: it installs what is missing (saying so), and builds RocksDB once into a cache.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

export CARGO_TARGET_DIR ?= $(CURDIR)/target
# Tests and the demo look for the binary here.
debug_binary := $(CARGO_TARGET_DIR)/debug/tidemill
release_binary := $(CARGO_TARGET_DIR)/release/tidemill

# Tests run in the dev profile: our code is checked with debug assertions on (openraft has valuable
# ones), dependencies are optimised. The demo and the benches measure, so they build for release.
# Every cargo call finds RocksDB by .cargo/config.toml, so `make` and a bare `cargo` share one build.

.PHONY: help
help: ## Explain the targets (this text)
	@echo "Tidemill: a durable flow engine. Targets:"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 14
	@echo
	@echo "First use: make demo (a three-node cluster that loses its leader), or make test."
	@echo "RocksDB is built once into $${TIDEMILL_CACHE:-~/.cache/tidemill} (13 minutes on 2 cores)."

.PHONY: deps
deps: ## Install what a build needs and is missing (apt), then build RocksDB once
	@.ci/deps.sh
	@.ci/rocksdb.sh > /dev/null

.PHONY: build
build: deps ## Build everything for development
	@echo "== build (dev profile) into $(CARGO_TARGET_DIR)"
	@cargo build --workspace --bins --examples

.PHONY: release
release: deps ## Build the tidemill binary for release
	@echo "== build (release profile) into $(CARGO_TARGET_DIR)"
	@cargo build --release -p tidemill
	@echo "built $(release_binary)"

.PHONY: dist
dist: deps ## Build the tidemill binary as it is shipped: some percent faster, twice as long to build
	@echo "== build (dist profile) into $(CARGO_TARGET_DIR)"
	@cargo build --profile dist -p tidemill
	@echo "built $(CARGO_TARGET_DIR)/dist/tidemill"

.PHONY: test
test: deps ## Build and run all tests and doctests (PACKAGE=tidemill-core for one crate)
	@.ci/deps.sh test
	@echo "== build for tests into $(CARGO_TARGET_DIR)"
	@# Bins and tests in one call: the black-box tests start the binary, and one call unifies
	@# the dependencies' features, so that nothing is compiled twice.
	@cargo build --workspace --bins --tests --examples
	@echo "== tests"
	@TIDEMILL_BIN=$(debug_binary) .ci/test.sh $(if $(PACKAGE),-p $(PACKAGE))

.PHONY: lint
lint: deps ## Check formatting, clippy, docs, licences and scripts; changes nothing
	@.ci/lint.sh

.PHONY: verify
verify: lint test ## Everything that CI checks; changes nothing

.PHONY: fix
fix: deps ## Format, and apply what clippy can fix (writes to your files)
	@cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged --quiet
	@cargo fmt --all

.PHONY: demo
demo: release ## Three local nodes, the sample flows, 1,000 executions, a killed leader, a verified journal
	@TIDEMILL_BIN=$(release_binary) cluster/demo.sh

.PHONY: bench
bench: release ## The standard table of the load test, under 15 minutes (ARGS="bench --repeat 3", ARGS="run steps1 ...")
	@cargo build --release -p tidemill-loadtest
	@TIDEMILL_BIN=$(release_binary) $(CARGO_TARGET_DIR)/release/tidemill-loadtest $(if $(ARGS),$(ARGS),bench)

.PHONY: bench-peers
bench-peers: release ## Measure Restate and etcd in turn with Tidemill (ARGS=--install gets them; loadtest/peers)
	@cargo build --release -p tidemill-loadtest
	@TIDEMILL_BIN=$(release_binary) TIDEMILL_LOADTEST=$(CARGO_TARGET_DIR)/release/tidemill-loadtest \
		loadtest/peers/run.sh $(ARGS)

# MINUTES in all, SECONDS of faults for each seed; SEED runs one seed once; NODES is 3 or 5.
.PHONY: torture
torture: ## Fault campaigns: kills, pauses, cut and slow links, clocks, disks (MINUTES=5 NODES=3 SEED=)
	@.ci/deps.sh campaign
	@.ci/rocksdb.sh > /dev/null
	@cargo build -p tidemill -p tidemill-tests --bins
	@TIDEMILL_BIN=$${TIDEMILL_BIN:-$(debug_binary)} $(CARGO_TARGET_DIR)/debug/torture --minutes $(or $(MINUTES),5) \
		--seconds $(or $(SECONDS),60) --nodes $(or $(NODES),3) $(if $(SEED),--seed $(SEED)) $(if $(FROM),--from $(FROM))

# SEEDS is a range, such as 0..1000; open at its end (0..) it runs until a seed fails.
.PHONY: simulate
simulate: deps ## Whole nodes in simulated time, until a seed fails (SEEDS=0.. NODES=3)
	@cargo run -p tidemill-simulation --bin simulate-nodes -- --seeds $(or $(SEEDS),0..) --nodes $(or $(NODES),3)

.PHONY: fuzz
fuzz: deps ## Fuzz what comes from outside and from the disk, a minute each (FUZZ_SECONDS=n)
	@.ci/fuzz.sh

.PHONY: overload
overload: release ## What a node does at five times the rate that it can take: shedding, goodput, fairness, recovery
	@cargo build --release -p tidemill-tests --bin overload
	@TIDEMILL_BIN=$${TIDEMILL_BIN:-$(release_binary)} $(CARGO_TARGET_DIR)/release/overload $(ARGS)

.PHONY: clean
clean: ## Remove what was built and local clusters' data (RocksDB's cache stays)
	@cargo clean
	@if [ -x cluster/cluster.sh ]; then cluster/cluster.sh wipe; fi
	@rm -f .rocksdb
