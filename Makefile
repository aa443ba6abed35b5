# The front door. `make help` lists what there is; anything longer than a line is in scripts/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

export PATH := $(PATH):$(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)/bin:/usr/sbin:/sbin
CARGO := scripts/as.sh user cargo
VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
REVISION := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
AGENT := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)/release/tarsier

# Yours to set: ARGS for `make run`, TESTS for `make test` (names or parts of names), RUNS, TARGETS and SEED for `make fuzz`,
# those of `make bench`, the rest for install and image.
ARGS ?=
TESTS ?=
RUNS ?= 1000000
TARGETS ?=
SEED ?= 1
ROUNDS ?= 5
SECONDS ?= 3
BENCH ?=
BENCH_CONFIG ?=
BENCH_OTHER ?=
BENCH_OTHER_METRICS ?=
BENCH_JSON ?= $(dir $(AGENT))bench.json
export RUNS TARGETS SEED ROUNDS SECONDS BENCH BENCH_CONFIG BENCH_OTHER BENCH_OTHER_METRICS BENCH_JSON
DESTDIR ?=
DOCKER ?= docker
IMAGE ?= tarsier:$(VERSION)
IMAGE_ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## install what building needs, and only what is missing
	@scripts/setup.sh

.PHONY: build
build: ## build the agent, eBPF programs included: target/release/tarsier
	TARSIER_BPF=require TARSIER_REVISION=$(REVISION) $(CARGO) build --release

.PHONY: cross
cross: ## the same for aarch64: target/aarch64-unknown-linux-gnu/release/tarsier
	@scripts/setup.sh --cross
	TARSIER_BPF=require TARSIER_REVISION=$(REVISION) scripts/as.sh user scripts/cross.sh build --release

.PHONY: run
run: setup build ## set up, build, and run the agent here as root: metrics on port 10300, Ctrl-C ends it
	scripts/as.sh root install -d -m 0700 /run/tarsier
	scripts/as.sh root $(AGENT) run --config configs/tarsier.yaml $(ARGS)

# The unit tests need neither root nor kernel; the integration tests run one by one, as root, on this kernel. Always the same
# packages and features: with others cargo would compile the agent again.
TESTED := -p tarsier -p tarsier-common -p tarsier-integration --features tarsier/test-hooks

.PHONY: test
test: ## set up, then unit and integration tests (TESTS=name for some)
	@scripts/setup.sh --test
	TARSIER_BPF=require $(CARGO) build $(TESTED)
	TARSIER_BPF=require $(CARGO) test $(TESTED) --lib --bins -- $(TESTS)
	TARSIER_BPF=require $(CARGO) test $(TESTED) --test '*' --no-fail-fast \
	  --config "target.'cfg(unix)'.runner=['$(CURDIR)/scripts/as.sh','root']" -- --test-threads=1 $(TESTS)

.PHONY: fuzz
fuzz: ## run every fuzz target RUNS times (RUNS=1000000, TARGETS="http sql" for some, SEED=7 for other inputs)
	@scripts/setup.sh --fuzz
	@scripts/as.sh user scripts/fuzz.sh

.PHONY: lint
lint: ## formatting, clippy (userland and eBPF), licences, scripts
	@scripts/setup.sh --lint
	@scripts/as.sh user scripts/lint.sh

# Only ratios within a round mean something. What may be set besides is in integration/bench/main.rs.
.PHONY: bench
bench: build ## measure what the agent costs whom it watches, and itself (as root; ROUNDS, SECONDS, BENCH="nginx redis")
	@scripts/setup.sh --bench
	$(CARGO) build --release -p tarsier-integration --bins
	TARSIER_IT_AGENT=$(AGENT) BENCH_COMMIT=$(REVISION) scripts/as.sh root $(dir $(AGENT))bench

.PHONY: install
install: ## install what `make build` built, with its unit and configuration (as root; DESTDIR is heeded)
	@test -x $(AGENT) || { echo "$(AGENT) is not there: make build"; exit 1; }
	install -D -m 0755 $(AGENT) $(DESTDIR)/usr/bin/tarsier
	install -D -m 0644 systemd/tarsier.service $(DESTDIR)/usr/lib/systemd/system/tarsier.service
	install -D -m 0644 systemd/sysusers.conf $(DESTDIR)/usr/lib/sysusers.d/tarsier.conf
	test -e $(DESTDIR)/etc/tarsier/tarsier.yaml || install -D -m 0644 configs/tarsier.yaml $(DESTDIR)/etc/tarsier/tarsier.yaml
	@echo "now: systemd-sysusers && systemctl daemon-reload && systemctl enable --now tarsier"

.PHONY: image
image: ## build the container image (DOCKER, IMAGE, IMAGE_ARGS)
	$(DOCKER) build -t $(IMAGE) --build-arg REVISION=$(REVISION) $(IMAGE_ARGS) .

.PHONY: clean
clean: ## remove what was built
	$(CARGO) clean
