# make run | test | check | bench. Each works in a fresh clone with nothing but Python 3.11 or newer: it makes .venv itself.
PYTHON ?= python3
VENV   ?= .venv
# The demo model runs on the CPU; the newest build from the index may bring gigabytes of GPU libraries, so name your own:
#   make run TORCH="torch==2.13.0+cpu"
TORCH  ?= torch==2.13.0
BIN    := $(VENV)/bin
export HF_HUB_OFFLINE = 1

.PHONY: run test check format bench clean

run: $(VENV)/.run ## Start the demo model behind the gateway, ask it a question, go on serving on port 8080
	$(BIN)/penstock up --ask "What is Penstock?"

test: $(VENV)/.dev ## The whole gate: check, then every test
	$(MAKE) check
	$(BIN)/pytest --cov --cov-report=term:skip-covered
	$(BIN)/python -m tests.pure_coverage

check: $(VENV)/.dev ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Put the code in shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## The gateway beside its peers; those that are not installed are left out
	$(BIN)/python -m loadtests.gateway.run $(BENCH)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet --editable ".[huggingface]"
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.run | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[dev,huggingface]"
	@touch $@
