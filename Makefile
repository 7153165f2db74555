# The commands of a checkout. Everything that they install lands in .venv or comes from apt-get.
# Paths are relative on purpose: the folder may have any name, spaces too.

.DEFAULT_GOAL := help
.PHONY: help demo run test check bench chaos soak fmt install
MAKEFLAGS += --no-print-directory

# The first Python that is new enough: the one that .venv was made with, else one on the PATH.
# It is asked, since a name on the PATH may be an empty shim.
# Another one: make demo PYTHON=/path/to/python3.12
PYTHON ?= $(shell for name in .venv/bin/python python3 python3.13 python3.12 python3.11 python3.14; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)

define bootstrap
	@if [ -z "$(PYTHON)" ]; then \
		echo "Chimera needs Python 3.11 or newer; found: $$(python3 --version 2>&1 | head -n 1)."; \
		echo "Install one, or name one: make $@ PYTHON=/path/to/python3.12"; \
		exit 1; \
	fi
	@if ! command -v git >/dev/null; then echo "Chimera needs git; install it first."; exit 1; fi
	@"$(PYTHON)" -m scripts.bootstrap
endef

help: ## list these commands
	@echo "Chimera: a feature request in, a validated staging deployment out."
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-14s %s\n' "$$name" "$$text"; done

demo: ## set everything up and watch one feature go through all seven phases
	$(bootstrap) --programs needed
	@.venv/bin/python manage.py demo $(if $(filter-out 0,$(DEMO_ONCE)),--once)

run: ## start the factory in the foreground, on http://localhost:8000
	$(bootstrap)
	@.venv/bin/chimera-daemon start $(ARGS)

# Three at a time, since they mostly wait; each process has a home and a database of its own, and a
# file's tests stay together. What touches rows then runs again on PostgreSQL (code 5: with these
# ARGS there was nothing to run).
PYTEST = .venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
test: ## run every test, what touches rows on both databases
	$(bootstrap) --dev --programs needed
	@$(PYTEST) $(ARGS)
	@CHIMERA_TEST_DATABASE=postgresql $(PYTEST) $(ARGS) || [ $$? -eq 5 ]

check: ## formatting, lint, types, import floors, missing migrations
	$(bootstrap) --dev --programs no
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -q tests/test_floors.py
	.venv/bin/python manage.py makemigrations --check --dry-run --settings tests.settings
	.venv/bin/python manage.py check --settings tests.settings

bench: ## measure the demo task, the time to the first phase, and the engine on both databases
	$(bootstrap) --dev --programs needed
	@.venv/bin/python -m benchmarks.bench $(ARGS)
	@.venv/bin/python -m benchmarks.databases
	@.venv/bin/python -m benchmarks.recovery

chaos: ## attack a real factory by a plan and check what was seen (ROUNDS=20 SEED=7)
	$(bootstrap) --dev --programs needed
	@.venv/bin/python -m tests.chaos --rounds $(or $(ROUNDS),3) $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: ## keep a factory busy and watch what it holds (MINUTES=30)
	$(bootstrap) --dev --programs needed
	@.venv/bin/python -m tests.chaos.soak --minutes $(or $(MINUTES),30) $(ARGS)

fmt: ## format the code and sort its imports
	$(bootstrap) --dev --programs no
	.venv/bin/ruff check --fix --select I .
	.venv/bin/ruff format .

install: ## only set up .venv and the programs that proofs need
	$(bootstrap)
