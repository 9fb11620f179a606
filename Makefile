# Everything that people and CI run. `make demo` and `make test` set themselves up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROTOS := proto/grapevine_proto/wire.proto proto/grapevine_proto/program.proto proto/grapevine_proto/manifest.proto proto/grapevine_proto/application.proto

# Where nothing may be compiled into __pycache__, each of the many processes of the tests compiles all of it again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit test-e2e check proto bench bench-compare bench-table bench-simulator bench-peers deb images testbed clean

help: ## show this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/.setup-done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@# What an earlier setup installed under its old name would stand beside the new one.
	$(BIN)/python -m pip uninstall --quiet --quiet --yes grapevine
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lab]' --group dev
	@touch $@

setup: $(VENV)/.setup-done ## install everything into .venv

demo: setup ## five agents learn together, with and without a server (2 minutes)
	$(BIN)/grapevine demo $(ARGS)

test: test-unit test-e2e ## all tests

# Two at a time starve each other on a small machine now and then: what failed is tried once more, by itself.
AGAIN := --last-failed --last-failed-no-failures none -q
E2E := tests/e2e tests/testbed tests/browser

test-unit: setup ## unit and swarm tests, in parallel
	$(BIN)/python -m pytest tests/unit tests/swarm -n 2 --dist worksteal -q || \
	$(BIN)/python -m pytest tests/unit tests/swarm $(AGAIN)

test-e2e: setup ## tests with real brokers, processes, containers and a browser
	$(BIN)/python -m pytest $(E2E) -n 2 --dist loadfile -q || $(BIN)/python -m pytest $(E2E) $(AGAIN)

check: setup ## style, types, import rules, generated code in sync
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check

proto: setup ## generate the protobuf code again
	$(BIN)/python proto/generate.py

bench: setup ## measure speed and memory (needs Mosquitto)
	$(BIN)/python -m grapevine_lab.bench $(ARGS)

bench-compare: setup ## measure the commit BASE beside what is checked out, in turns (ARGS='--only updates --turns 7')
	$(BIN)/python -m grapevine_lab.bench_compare $(ARGS) -- '$(BASE)'

bench-table: setup ## write README.md's table from docs/results/bench.json (ARGS=--measure: measure it first)
	$(BIN)/python -m grapevine_lab.bench.readme $(ARGS)

bench-simulator: setup ## measure the simulator, beside others (installs them apart)
	$(BIN)/python -m grapevine_lab.bench --only training_throughput --only evaluation_throughput
	$(BIN)/python -m grapevine_lab.bench_simulator
	$(BIN)/python -m grapevine_lab.bench_simulator.growth

bench-peers: setup ## measure Grapevine beside its peers of today (installs each apart: 10 GB; two hours); PEERS_ARGS="--quick --only p2pfl"
	$(BIN)/python -m grapevine_lab.bench_peers $(PEERS_ARGS)

# Debian's own Python, not that of the environment: the package runs with it. TORCH_INDEX: where PyTorch is for the CPU alone.
DEB_PYTHON ?= /usr/bin/python3
ARCH ?= $(shell dpkg --print-architecture)
TORCH_INDEX ?=

deb: ## Debian packages in dist/, for ARCH=amd64 or arm64 (DEB_ARGS=--no-train: without PyTorch)
	$(DEB_PYTHON) agent/packaging/debian/build.py --arch $(ARCH) --torch-index '$(TORCH_INDEX)' $(DEB_ARGS)

# In IMAGES, --wheels where pip reaches no index from a container, --base NAME for another base (agent/packaging/docker/Dockerfile).
images: setup ## images of agents, relays and servers, by Docker
	$(BIN)/python -m grapevine_lab.testbed.images $(IMAGES)

testbed: images ## the classic testbed in containers: learning through a partition, its heal and the loss of the server; a report
	$(BIN)/grapevine lab run classic-testbed --engine docker $(ARGS)

clean: ## remove what was set up
	rm -rf $(VENV) demo-report .mypy_cache .ruff_cache .pytest_cache .hypothesis
