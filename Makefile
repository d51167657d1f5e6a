# corum: `make run` starts a member, `make test` passes the tests; `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

RUST_SOURCES := rust/Cargo.toml $(wildcard rust/Cargo.lock) $(wildcard rust/src/*.rs)

help: ## this list
	@grep -E '^[a-z_-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.venv/.deps: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'maturin>=1.7,<2'
	@$(BIN)/python tools/dev_deps.py | xargs -d '\n' $(BIN)/python -m pip install -q --disable-pip-version-check
	@touch $@

.venv/.built: .venv/.deps $(RUST_SOURCES)
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --release -q
	@touch $@

# Byte code too: a daemon that compiles itself at each start takes three times as long to be ready,
# and where PYTHONDONTWRITEBYTECODE is set, it would.
build: .venv/.built ## everything into .venv
	@$(BIN)/python -m compileall -q src

run: build ## start a member on 127.0.0.1:2379 / 2380, data in default.etcd
	@exec $(BIN)/etcd

lint: build ## format, lint, types, import rules, clippy
	$(BIN)/ruff format --check src tests tools benchmarks
	$(BIN)/ruff check src tests tools benchmarks
	$(BIN)/lint-imports
	$(BIN)/pyright
	cargo fmt --manifest-path rust/Cargo.toml --check
	cargo clippy --manifest-path rust/Cargo.toml --all-targets -q -- -D warnings -D clippy::undocumented_unsafe_blocks

test: lint ## lint, Rust's tests, all Python tests
	cargo test --manifest-path rust/Cargo.toml -q
	$(BIN)/python -m pytest

.build/.go: benchmarks/go/go.mod $(wildcard benchmarks/go/*/*.go)
	@mkdir -p .build/bin
	@for tool in server:etcd etcdctl:etcdctl etcdutl:etcdutl; do \
	  nice -n 5 go build -C benchmarks/go -trimpath -o $(CURDIR)/.build/bin/$${tool#*:} go.etcd.io/etcd/$${tool%:*}/v3 || exit 1; done
	@nice -n 5 go build -C benchmarks/go -trimpath -o $(CURDIR)/.build/bin/loadgen ./loadgen
	@nice -n 5 go build -C benchmarks/go -trimpath -o $(CURDIR)/.build/bin/recipes ./recipes
	@touch $@

bench: build .build/.go ## Go etcd and ours side by side (needs Go); BENCH="--quick" etc.
	@$(BIN)/python benchmarks/run.py $(BENCH)

bench-client: build ## our Python clients beside etcd3 and aetcd; BENCH="--quick" etc.
	@$(BIN)/python benchmarks/clients.py $(BENCH)

profile: build .build/.go ## CPU per put by stage; PROFILE="'-load txn'" for another load
	@$(BIN)/python benchmarks/profile_put.py $(PROFILE)

sim: build ## the simulator, one member and three; SEEDS=1-1000 JOBS=2
	@$(BIN)/python -m corum.sim --seeds $(or $(SEEDS),1-200) --jobs $(or $(JOBS),2)
	@$(BIN)/python -m corum.sim --seeds $(or $(SEEDS),1-100) --jobs $(or $(JOBS),2) --members 3

compat: build $(if $(shell command -v go),.build/.go) ## the long differential and process tests
	@$(BIN)/python -m pytest tests/compat tests/process tests/process_cluster tests/recipes tests/acceptance tests/neighbours \
	  tests/api_v2 tests/docs tests/etcdutl tests/sim --long

wheel: .venv/.deps ## one wheel that installs where there is no Rust
	@$(BIN)/maturin build --release -q --out dist && ls dist

clean: ## forget what was built
	rm -rf .venv rust/target dist

.PHONY: help build run lint test bench bench-client sim compat profile wheel clean
