# The verbs of the project. Each sets up what it needs; nothing has to be installed by hand but Python 3.11 and make.
PY := .venv/bin/python
STAMP := .venv/.synced
JOBS ?= 2

.PHONY: setup demo serve test mutants conformance soak fmt lint type bench bench-peers guard quality docs clean
setup: $(STAMP)
$(STAMP): pyproject.toml uv.lock scripts/setup.sh
	sh scripts/setup.sh
	@touch $(STAMP)

demo: setup
	.venv/bin/headgate demo

serve: setup
	.venv/bin/headgate serve

test: setup lint type
	sh scripts/browser.sh
	sh scripts/database.sh
	sh scripts/shared.sh
	sh scripts/node.sh
	$(PY) -m pytest -n $(JOBS) --dist loadgroup -m "not slow"

# Can the tests fail? Defects written on purpose, each of which a named test must catch: once per release.
mutants: setup
	$(PY) scripts/mutants.py

# All of the recorded traffic through every door, by the official SDKs; docs/translation.md says what was found. `make test`
# takes a sample.
conformance: setup
	sh scripts/node.sh
	rm -rf .tools/conformance
	HEADGATE_CONFORMANCE=all $(PY) -m pytest -n $(JOBS) --timeout 2400 tests/conformance --deselect tests/conformance/test_grid.py
	PYTHONPATH=tests $(PY) -m conformance.grid
	$(PY) -m pytest tests/conformance/test_grid.py

# Memory and stability over many requests; then the invariants of the ledger over 1,000 kills on each store,
# and over 200 among replicas.
soak: setup
	$(PY) bench/soak.py
	sh scripts/database.sh
	sh scripts/shared.sh
	$(PY) -m pytest -m slow -s tests/invariants

lint: setup
	.venv/bin/ruff check src tests scripts bench
	.venv/bin/ruff format --check src tests scripts bench
	.venv/bin/lint-imports

type: setup
	.venv/bin/pyright

fmt: setup
	.venv/bin/ruff check --fix src tests scripts bench
	.venv/bin/ruff format src tests scripts bench

# Ours beside nginx; `bench-peers` installs and adds everybody else that the registries have.
bench: setup
	sh bench/run.sh

bench-peers: setup
	sh bench/peers.sh
	sh bench/run.sh --targets headgate,uvicorn,nginx,haproxy,caddy,sglang-router,portkey,litellm --out .tools/peers.json

# Has the hot path become heavier since the last release? Ratios, never times.
guard: setup
	$(PY) bench/guard.py

# What ensembles gain, by replay of recorded answers: writes the tables of docs/quality-ensembles.md.
quality: setup
	$(PY) scripts/replay_ensembles.py

docs: setup
	$(PY) scripts/docs.py

clean:
	rm -rf .venv .tools node_modules
