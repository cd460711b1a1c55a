# One command a purpose; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
# The proxy, aliquot and the checkers are found as a hub would find them: on the path.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-kubernetes test lint bench cluster hub-suite kubespawner-suite screenshots gpu-check lock clean

help: ## List the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what a checkout needs into .venv (safe to repeat)
	@$(PYTHON) tools/bootstrap.py

demo: setup ## Run a hub on this machine; CHECK=1 makes the whole trip itself and ends
	@$(BIN)/aliquot demo $(if $(CHECK),--check) $(ARGS)

test: setup ## Lint, page tests, then pytest; ARGS="-k quota" narrows pytest
	@$(BIN)/python tools/run_checks.py $(ARGS)

lint: setup ## ruff, pyright, import contracts, tsc
	@$(BIN)/python tools/run_checks.py --only lint

bench: setup ## Measure what the speed promises say, as ratios in one run
	@$(BIN)/python -m bench $(ARGS)

cluster: setup ## Run a real Kubernetes control plane on loopback; prints its kubeconfig
	@exec $(BIN)/python -m tests.cluster $(ARGS)

demo-kubernetes: setup ## Run a hub on a real cluster of this machine (root); CHECK=1 makes the trip
	@exec $(BIN)/python -m tests.cluster.demo $(if $(CHECK),--check) $(ARGS)

hub-suite: setup ## JupyterHub's own tests, stock and with our spawner; ONLY=test_spawner narrows
	@$(BIN)/python -m tests.hub_suite $(if $(ONLY),--only $(ONLY)) $(if $(STOCK),--stock $(STOCK)) $(ARGS)

kubespawner-suite: setup ## KubeSpawner's own tests, stock and ours; SOURCE names a clone of it
	@$(BIN)/python -m tests.kubespawner_suite $(if $(SOURCE),--source $(SOURCE)) $(ARGS)

screenshots: setup ## Write pictures of the pages to .cache/screenshots
	@$(BIN)/python -m tests.browser.screenshots $(ARGS)

gpu-check: setup ## Only the tests that need a GPU
	@$(BIN)/python -m pytest -m gpu $(ARGS)

lock: ## Resolve requirements/*.in again into the lock files
	@$(PYTHON) tools/lock.py $(ARGS)

clean: ## Remove what make installed and built
	rm -rf .venv .cache build dist spawner/*.egg-info extension/*.egg-info *.egg-info \
	    tools/node/node_modules extension/ui/node_modules extension/ui/lib \
	    extension/aliquot_lab/labextension extension/aliquot_lab/static \
	    spawner/aliquot/spawners/static
