# `make demo` and `make test` install what they need the first time, into this folder and the tools' cache folders.
PYTHON ?= python3
PY := .venv/bin/python
# Without cached bytecode, each of the hundreds of processes that the tests start would compile all sources again.
unexport PYTHONDONTWRITEBYTECODE
# The tests of structure, scripts, compiler and gas; make check runs them.
CHECKS := tests/test_architecture.py tests/scripts $(wildcard tests/contracts/test_*gas.py) \
  $(addprefix tests/contracts/,test_artifacts.py test_compiler.py test_forge.py)
define BOOTSTRAP
{ command -v $(PYTHON) >/dev/null || { echo "Python is missing: install Python 3.11 or newer (python.org, or your system's packages)." >&2; exit 1; }; } && $(PYTHON) scripts/bootstrap.py
endef

.DEFAULT_GOAL := help
.PHONY: help demo demo-city test peers check docs city kubo clique witness cometbft nats slither halmos clear-signing mutants coverage fuzz deep bench bench-flash bench-gateway device power gas format artifacts lock clean runtime tests

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

demo: runtime ## Publish and sign a release, flash a simulated board, and refuse a tampered image
	@$(PY) -m blockota demo

demo-city: tests ## Update 1,000 simulated devices (or SIZE), and show the operations page until Ctrl-C
	@$(PY) -m blockota demo --city $(or $(SIZE),1000)

test: tests ## Run all tests that need only Python and Node
	@$(PY) -m pytest -q -n 8 --dist loadgroup --no-loadscope-reorder --ignore tests/peers $(CHECKS:%=--ignore %) tests

peers: ## Run the tests with third-party programs; lists missing programs (ONLY=kubo,nginx runs some)
	@$(BOOTSTRAP) peers
	@$(PY) -m scripts.peers --only "$(ONLY)"

check: tests slither clear-signing docs ## Check style, types, generated files, structure, contracts, wallet texts and docs
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@$(PY) -m scripts.build_artifacts --check
	@$(PY) -m benchmarks.gas --check
	@$(PY) -m pytest -q $(CHECKS)

docs: ## Build the site from docs/ and the library's docstrings into .build/site; every link is checked
	@$(BOOTSTRAP) docs
	@NO_MKDOCS_2_WARNING=1 .build/docs/bin/mkdocs build # --quiet would also ignore the warnings about broken links

city: tests ## Run a city in network namespaces: SIZE sensors, gateways and validators, 20 by default (needs root and make clique)
	@$(PY) -m tests.peers.city --size $(or $(SIZE),20)

kubo: ## Build Kubo, the IPFS node for some tests, if none is installed (needs Go; takes some minutes once)
	@$(PYTHON) -m scripts.install_kubo

clique: ## Build geth for the Clique test networks (needs Go; takes some minutes once)
	@$(PYTHON) -m scripts.install_geth

witness: ## Build the witness and the log checker for some tests (needs Go; takes some minutes once)
	@$(PYTHON) -m scripts.install_witness

cometbft: ## Build the validators of a CometBFT network, for make deep (needs Go; takes some minutes once)
	@$(PYTHON) -m scripts.install_cometbft

nats: ## Build the NATS server for a cluster of message brokers, for make deep (needs Go; takes some minutes once)
	@$(PYTHON) -m scripts.install_nats

slither: ## Analyse the contracts statically
	@$(BOOTSTRAP) slither
	@$(PY) -m scripts.run_slither

halmos: ## Prove the contracts' checks for all inputs
	@$(BOOTSTRAP) halmos
	@$(PY) -m scripts.run_halmos

clear-signing: ## Check the wallet descriptions of transactions with the ERC-7730 linter (needs Python 3.12)
	@$(BOOTSTRAP) clear-signing
	@$(PY) -m scripts.lint_clear_signing

mutants: tests ## Change the contracts in one place at a time, and check that a test fails; takes half an hour
	@$(PY) -m scripts.mutants

coverage: tests ## List the lines and branches of the contracts that no test reaches
	@$(PY) -m scripts.run_coverage

fuzz: ## Fuzz the CAR reader for a minute
	@$(BOOTSTRAP) fuzz
	@.build/fuzz/bin/python -m scripts.fuzz_car 60

deep: tests coverage ## Run all long campaigns, proofs and mutants, and process an image of 1 GiB; takes more than an hour
	@FOUNDRY_PROFILE=deep $(PY) scripts/forge.py test
	@$(PY) -m pytest -q tests/deep/artifacts_elsewhere.py tests/deep/one_gibibyte.py tests/deep/gateway_kills.py
	@$(MAKE) --no-print-directory cometbft
	@$(PY) -m pytest -q tests/deep/cometbft/validators_stop.py
	@$(MAKE) --no-print-directory nats
	@$(PY) -m pytest -q tests/deep/nats/nodes_killed.py
	@BLOCKOTA_EXHAUSTIVE=1 $(PY) -m pytest -q -n 2 -m sampled --ignore tests/peers tests
	@if [ -n "$$($(PY) -m scripts.install_kubo --find)" ]; then BLOCKOTA_EXHAUSTIVE=1 $(PY) -m pytest -q -m sampled tests/peers/kubo; else echo "Kubo is missing, so its exhaustive tests are skipped; \`make kubo\` builds it." >&2; fi
	@$(PY) -m benchmarks.faults
	@$(MAKE) --no-print-directory fuzz halmos mutants

bench: tests ## Measure the figures of docs/figures.md, except those of flashing and of the gateway
	@$(PY) -m benchmarks

bench-flash: tests ## Measure flashing beside stm32flash and stm32loader, and inject 10,000 faults; takes half an hour
	@$(PY) -m benchmarks.flashing

bench-gateway: tests ## Measure the gateway, also beside nginx and libcoap, and inject 10,000 faults; takes half an hour
	@$(BOOTSTRAP) peers
	@$(PY) -m benchmarks.planning
	@$(PY) -m benchmarks.fleet_ddi
	@$(PY) -m benchmarks.fleet_mqtt
	@$(PY) -m benchmarks.fleet_lwm2m
	@$(PY) -m benchmarks.fleet

device: tests ## Build the programs of device/ into device/images (needs gcc-arm-none-eabi)
	@$(BOOTSTRAP) peers
	@$(PY) -m scripts.build_device

power: tests ## Cut the power of updating devices at thousands of instants, and check what they run (needs gcc, qemu-system-arm)
	@$(BOOTSTRAP) peers
	@$(PY) -m benchmarks.power

gas: tests ## Measure the gas of the contracts; write the tables and the snapshot
	@$(PY) -m benchmarks.gas --write

format: tests ## Format the Python sources
	@$(PY) -m ruff format

artifacts: tests ## Write the contracts' ABIs and bytecode into the package
	@$(PY) -m scripts.build_artifacts

lock: ## Update the lock files after a change of pyproject.toml (needs uv)
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra gateway --extra access --extra operations --extra hardware --extra dev pyproject.toml -o requirements-dev.lock
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -c requirements-dev.lock pyproject.toml -o requirements.lock
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra delta --extra dtls -c requirements-dev.lock pyproject.toml -o requirements-compiled.lock
	echo slither-analyzer==0.11.6 | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header - -o requirements-slither.lock
	echo halmos==0.3.3 | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header - -o requirements-halmos.lock
	printf 'mkdocs==1.6.1\nmkdocs-material==9.8.2\nmkdocstrings[python]==1.0.8\nruff==0.17.5\n' | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header - -o requirements-docs.lock
	printf 'awsiotsdk==1.31.0\nsmpmgr==0.19.1\nimgtool==2.5.0\ngoosebit==0.2.12\nplaywright==1.65.2\n' | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header - -o requirements-peers.lock
	echo cryptoauthlib==20260505 | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header - -o requirements-oracle.lock
	sed -i '1i # Development only, never shipped: Microchip licenses cryptoauthlib "exclusively with Microchip products" (its LICENSE.txt).' requirements-oracle.lock
	echo atheris==3.0.0 | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header - -o requirements-fuzz.lock
	echo erc7730==1.0.12 | uv pip compile -q --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header - -o requirements-clear-signing.lock

clean: ## Remove everything that was installed or built here
	rm -rf .venv node_modules .build dist .mypy_cache .ruff_cache .pytest_cache

runtime:
	@$(BOOTSTRAP) runtime

tests:
	@$(BOOTSTRAP) tests
