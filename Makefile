# Everything one runs here; `make help` lists it. Each target brings its own virtual environment where that is missing.
# Works with GNU make 3.81, which macOS has.
#
#   PYTHON  the interpreter that a new environment is made of      make test PYTHON=python3.12
#   VENV    where the environment is                               make test VENV=.venv312 PYTHON=python3.12
#   ARGS    passed on to the command behind the target             make test ARGS="tests/policies -k breaker"
#   UV      the uv to install with; found on PATH                  make test UV=          (with pip)

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
UV     ?= $(shell command -v uv 2>/dev/null)

PY      := $(VENV)/bin/python
# An environment of our own, whatever the caller's is.
RUN     := env -u PYTHONHOME -u PYTHONPATH $(PY)
INSTALL := $(if $(UV),"$(UV)" pip install --quiet --python $(PY),$(RUN) -m pip install --quiet --disable-pip-version-check)

QUICK   := not realtime and not system and not peers and not soak
# What mypy reads beside the library, as far as it is there.
TYPED   := resilient $(wildcard examples tests/typing)
TYPING  := $(wildcard tests/typing)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-system soak lint bench mutants docs clean

help: ## show this list
	@awk 'BEGIN { FS = ":[^#]*## " } /^[a-z-]+:[^#]*## / { printf "  make %-13s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@sed -n 's/^#   /  /p' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-demo ## see what it does, in two minutes
	$(RUN) -m examples.demo $(ARGS)

test: $(VENV)/.installed-dev ## all tests that need nothing but pip, on all cores
	$(RUN) -m pytest -n auto --dist worksteal -m "$(QUICK)" $(ARGS)

test-system: $(VENV)/.installed-dev $(VENV)/.installed-bench ## tests in real time, against real parts and peers, one by one
	$(RUN) -m pytest -m "system or realtime or peers" $(ARGS)

soak: $(VENV)/.installed-dev ## tests that run for minutes, to find what grows and what happens once in ten thousand
	$(RUN) -m pytest -m soak $(ARGS)

lint: $(VENV)/.installed-dev ## style, format, types, and who may import whom
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy $(TYPED)
	$(if $(TYPING),$(RUN) -m pyright --pythonpath $(PY))
	$(RUN) $(VENV)/bin/lint-imports

bench: $(VENV)/.installed-bench ## what it costs, side by side with its peers
	$(RUN) -m benchmarks $(ARGS)

mutants: $(VENV)/.installed-dev ## whether the tests notice when the pure part of the code is changed
	$(RUN) -m mutmut run $(ARGS)
	@$(RUN) -m mutmut results | awk '!/: not checked$$/'

docs: $(VENV)/.installed-dev ## run every example of the docs and docstrings
	$(RUN) -m pytest resilient $(wildcard tests/docs) $(ARGS)

clean: ## remove the environment and all that was made
	rm -rf build dist mutants .hypothesis .import_linter_cache .grimp_cache .mypy_cache .pytest_cache .ruff_cache
	find . \( -path ./.git -o -path './$(VENV)' \) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
	if [ -f "$(VENV)/pyvenv.cfg" ]; then rm -rf "$(VENV)"; fi

# The stamp is newer than pyproject.toml: what that asks for is installed.
$(VENV)/.installed-%: pyproject.toml $(PY)
	$(INSTALL) -e ".[$*]"
	@touch $@

$(PY):
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "There is no $(PYTHON) on the PATH. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else \
	  "resilient needs Python 3.11 or newer, and $(PYTHON) is %d.%d.%d. Name a newer one: make PYTHON=python3.12" % v[:3])'
	$(if $(UV),"$(UV)" venv --quiet --seed --allow-existing --python "$$(command -v "$(PYTHON)")" $(VENV),"$(PYTHON)" -m venv $(VENV)) || { rm -f $(PY); exit 1; }
