# `make` alone prints the targets. Everything that a target starts listens on 127.0.0.1 only.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run release test check lint scripts-check diff fuzz soak crash chaos sim clients apps observe lab \
    scale cluster sentinel bench bench-quick size install package-check clean

# Options for the program that a target runs: make run ARGS='--port 7000 --loglevel debug'
ARGS ?=
# Options for the test runner: make test TESTFLAGS='--no-fail-fast'
TESTFLAGS ?=
DIFF_COMMANDS ?= 200000
FUZZ_CASES ?= 2000000
# Steps of the simulator, and its first seed: make sim STEPS=100000000 SEED=7000
STEPS ?= 1000000000
SEED ?= 1
# Rounds of each workload of the benchmark: make bench ROUNDS=3
ROUNDS ?= 5
# Where `make install` puts things; DESTDIR stands before all paths, for the makers of packages.
PREFIX ?= /usr/local
DESTDIR ?=
ROOT = $(DESTDIR)$(PREFIX)
# The program to install, if not the one that is built from here.
KVSTORE ?=
PROGRAM = $(or $(KVSTORE),target/release/kvstore)
# Number of a lab: make lab N=3
N ?=

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

run: release ## build in release mode and start the server on 127.0.0.1:8080 (ARGS='--port 7000')
	@exec target/release/kvstore serve $(ARGS)

release:
	@cargo build --release --quiet

test: ## all tests; needs Rust, make and bash, and prints which tests it skips
	cargo test $(TESTFLAGS)

# The tests come last, so that the output ends with their result.
check: lint scripts-check test ## format, lints, docs, scripts, sizes, links, tests; must pass before a commit

lint:
	cargo fmt --check
	cargo fmt --check --manifest-path examples/Cargo.toml
	cargo clippy --all-targets -- -D warnings
	cargo clippy --lib --no-default-features --features client -- -D warnings
	cargo build
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

scripts-check:
	@if command -v shellcheck >/dev/null; then \
	    echo "shellcheck .ci/run scripts/*.sh scripts/package/*.sh"; \
	    shellcheck .ci/run scripts/*.sh scripts/package/*.sh; \
	else \
	    echo "skipped shellcheck: not installed (apt-get install shellcheck)"; \
	fi
	@if command -v python3 >/dev/null; then \
	    echo "python3 -m py_compile of scripts/**/*.py"; \
	    caches=$$(mktemp -d); trap 'rm -rf "$$caches"' EXIT; \
	    find scripts -name '*.py' -print0 | \
	        PYTHONPYCACHEPREFIX=$$caches xargs -0 python3 -m py_compile; \
	    python3 scripts/house.py --check; \
	else \
	    echo "skipped the Python scripts: no python3 (apt-get install python3)"; \
	fi
	@if command -v node >/dev/null; then \
	    echo "node --check of scripts/**/*.js"; \
	    find scripts -name '*.js' -print0 | xargs -0 -n 1 node --check; \
	fi

diff: ## long comparison with redis-server: random commands, same replies (DIFF_COMMANDS=200000)
	@if command -v redis-server >/dev/null; then \
	    KVSTORE_DIFF_COMMANDS=$(DIFF_COMMANDS) \
	        cargo test --release --test differential -- --nocapture; \
	else \
	    echo "skipped: no redis-server to compare with (apt-get install redis-server)"; \
	fi

fuzz: ## long fuzz tests of the parser and of whole sessions (FUZZ_CASES=2000000)
	CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true KVSTORE_FUZZ_CASES=$(FUZZ_CASES) \
	    cargo test --release --test fuzz

crash: ## 220 times kill -9 under load, in all fsync policies; long tests of power cuts and transactions
	KVSTORE_LONG=1 cargo test --release --test crash --test power_loss --test transfers -- --nocapture

chaos: ## long tests of replication, failover and linearizability: network faults, crashes, lost files, promotions
	KVSTORE_LONG=1 cargo test --release --test replication --test linearizable \
	    --test cluster -- --nocapture

sim: ## elections in a simulator: a billion steps without a violation; each broken rule is noticed (STEPS=, SEED=)
	CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true KVSTORE_SIM_STEPS=$(STEPS) KVSTORE_SIM_SEED=$(SEED) \
	    cargo test --release --test cluster_sim -- --nocapture --test-threads 1

soak: ## long tests of hostile clients, concurrency, the memory limit, Pub/Sub and the client library
	KVSTORE_LONG=1 cargo test --release --test hostile --test concurrency --test memory_limit --test pubsub \
	    --test client

clients: release ## real clients: redis-cli, redis-benchmark, redis-py, node (first: ARGS=--install)
	@scripts/clients.sh $(ARGS)

apps: release ## real applications: Django, Celery, socket.io, …, and what to use where one does not work (ARGS=--short)
	@if command -v python3 >/dev/null; then python3 scripts/apps.py $(ARGS); \
	else echo "skipped: no python3 (apt-get install python3)"; fi

observe: release ## check metrics and status page with Prometheus, promtool and Chromium, 90 s (ARGS=--short)
	@if command -v python3 >/dev/null; then python3 scripts/observe.py $(ARGS); \
	else echo "skipped: no python3 (apt-get install python3)"; fi

lab: $(if $(N)$(ARGS),release) ## list the labs: crashes, lost writes, split brain, live; make lab N=3 runs one (ARGS=--step)
	@if command -v python3 >/dev/null; then python3 scripts/lab.py $(N) $(ARGS); \
	else echo "skipped: no python3 (apt-get install python3)"; fi

scale: release ## more reads, more data, more safety: followers, nutcracker, haproxy, tried (ARGS='reads --stay')
	@if command -v python3 >/dev/null; then python3 scripts/scale.py $(ARGS); \
	else echo "skipped: no python3 (apt-get install python3)"; fi

cluster: release ## three nodes that elect their leader, and what to type (ARGS=--demo types it; ARGS=--by-hand)
	@scripts/cluster.sh $(ARGS)

sentinel: release ## a leader and two followers under three Redis Sentinels, which promote one (ARGS=--demo)
	@scripts/sentinel.sh $(ARGS)

bench: release ## benchmark beside Redis, half an hour (ROUNDS=3: 20 min; ARGS=--write, '--group log', '--old BINARY')
	@python3 scripts/bench.py --rounds $(ROUNDS) $(ARGS)

bench-quick: release ## smoke run of the benchmark; the figures mean nothing
	@python3 scripts/bench.py --quick $(ARGS)

size: ## lines of code by block and folder (ARGS=--circles, --longest)
	@python3 scripts/house.py $(ARGS)

install: $(if $(KVSTORE),,release) ## program, manual page, completions, systemd unit (PREFIX=/usr/local DESTDIR=)
	install -D -m 755 $(PROGRAM) $(ROOT)/bin/kvstore
	install -d $(ROOT)/share/man/man1 $(ROOT)/share/bash-completion/completions \
	    $(ROOT)/share/zsh/site-functions $(ROOT)/share/fish/vendor_completions.d $(ROOT)/lib/systemd/system
	$(PROGRAM) man >$(ROOT)/share/man/man1/kvstore.1
	$(PROGRAM) completions bash >$(ROOT)/share/bash-completion/completions/kvstore
	$(PROGRAM) completions zsh >$(ROOT)/share/zsh/site-functions/_kvstore
	$(PROGRAM) completions fish >$(ROOT)/share/fish/vendor_completions.d/kvstore.fish
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' scripts/package/kvstore.service \
	    >$(ROOT)/lib/systemd/system/kvstore.service
	[ -e $(DESTDIR)/etc/kvstore/kvstore.conf ] || \
	    install -D -m 644 scripts/package/kvstore.conf $(DESTDIR)/etc/kvstore/kvstore.conf

package-check: release ## check the manual page, completions, the systemd unit, an installation, TLS in front
	@scripts/package/check.sh

clean: ## remove target/; the server's data stays
	cargo clean
