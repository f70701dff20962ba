# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

STATE := $(or $(BATCH_OPERATOR_HOME),$(or $(XDG_STATE_HOME),$(HOME)/.local/state)/batch-operator)
ifneq ($(words $(STATE)),1)
$(error the state folder "$(STATE)" has a space in its path: set BATCH_OPERATOR_HOME to another folder)
endif
UV := $(or $(shell command -v uv 2>/dev/null),$(STATE)/uv/bin/uv)
UV_VERSION := 0.13.9
RUN := PYTHONPATH=hack .venv/bin
E2E_CONTEXT ?=
E2E_CLUSTER := e2e$(if $(E2E_CONTEXT),-context)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: setup ## run the examples on real containers: brings a cluster up, leaves it running
	@$(RUN)/python -m demo $(if $(CONTEXT),--context $(CONTEXT))

.PHONY: test
test: lint types contracts fresh unit simulation e2e ## everything that CI runs

.PHONY: clean-demo
clean-demo: ## remove every trace: clusters, built programs, the virtual environment
	@hack/cluster remove
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: setup
setup: .venv/.ready ## the virtual environment, as the lock file has it

.venv/.ready: pyproject.toml uv.lock
	@if [ ! -x "$$(command -v $(UV))" ]; then \
	  echo "Installing uv into $(STATE)/uv …"; \
	  python3 -m venv $(STATE)/uv && $(STATE)/uv/bin/pip install --quiet uv==$(UV_VERSION); \
	fi
	@echo "Installing the Python packages of uv.lock into .venv …"
	@$(UV) sync --quiet --frozen
	@touch $@

.PHONY: format
format: setup ## format the code
	@.venv/bin/ruff format
	@.venv/bin/ruff check --fix

.PHONY: lint
lint: setup ## ruff: format and rules
	@.venv/bin/ruff format --check
	@.venv/bin/ruff check

.PHONY: types
types: setup ## mypy, strict
	@.venv/bin/mypy

.PHONY: contracts
contracts: setup ## the import contracts that keep the core pure
	@.venv/bin/lint-imports --no-cache

.PHONY: generate
generate: setup ## write what is generated: CRDs, plain manifest, chart, docs/conformance.md
	@.venv/bin/python hack/generate

.PHONY: fresh
fresh: setup ## check that what is generated is what the models say
	@.venv/bin/python hack/generate --check

.PHONY: unit
unit: setup ## unit tests, and AWS's rules one by one: no cluster, a few seconds
	@.venv/bin/pytest tests/unit tests/conformance

.PHONY: mutate
mutate: setup ## change the rules of lifecycle/ one at a time: do the tests notice? SAMPLE=n
	@.venv/bin/python hack/mutate $(if $(SAMPLE),--sample $(SAMPLE))

.PHONY: simulation
simulation: setup ## the operator in virtual time: scenarios, crashes, faults; BATCH_OPERATOR_SEEDS=n
	@.venv/bin/pytest tests/simulation

.PHONY: bench
bench: setup ## measure writes, CPU and time per job on fake nodes, beside an Indexed Job
	@$(RUN)/python -m bench $(BENCH)

.PHONY: bench-nodes
bench-nodes: setup ## nodes that follow demand: 0 to 100 and back for an array of 2,000, as a picture
	@$(RUN)/python -m bench.nodes $(BENCH)

.PHONY: bench-week
bench-week: setup ## a simulated week under spot interruptions: jobs lost, cost and makespan; minutes
	@$(RUN)/python -m bench.week $(BENCH)

.PHONY: bench-core
bench-core: setup ## measure the scheduling core alone, up to a million waiting; no cluster, minutes
	@$(RUN)/python -m bench.core $(BENCH)

.PHONY: e2e
e2e: setup ## end-to-end tests on a local cluster; E2E_CONTEXT=name uses a cluster of yours
	@hack/cluster up --name $(E2E_CLUSTER) --fake-nodes 10 $(if $(E2E_CONTEXT),--context $(E2E_CONTEXT))
	@$(RUN)/python -m pytest tests/e2e --timeout=1200 --e2e-cluster $(E2E_CLUSTER)
