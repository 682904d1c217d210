# The verbs of the project. Each sets up what it needs; nothing has to be installed by hand but Python 3.11 and make.
PY := .venv/bin/python
STAMP := .venv/.synced

.PHONY: setup demo serve test conformance soak fmt lint type bench docs clean
setup: $(STAMP)
$(STAMP): pyproject.toml uv.lock scripts/setup.sh
	sh scripts/setup.sh
	@touch $(STAMP)

demo: setup
	.venv/bin/headgate demo

serve: setup
	.venv/bin/headgate serve

lint: setup
	.venv/bin/ruff check src tests scripts
	.venv/bin/ruff format --check src tests scripts
	.venv/bin/lint-imports

type: setup
	.venv/bin/pyright

fmt: setup
	.venv/bin/ruff check --fix src tests scripts
	.venv/bin/ruff format src tests scripts

test: setup lint type
	$(PY) -m pytest -n 2 -m "not slow"

clean:
	rm -rf .venv .tools node_modules
