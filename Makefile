# `make optcheck` and `make test` do everything on a fresh machine; the second time nothing is installed.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
READY := $(VENV)/.ready
RUN := $(VENV)/bin/python -m

.PHONY: optcheck test slow check coverage

optcheck: $(READY)  ## check every optimizer of torch.optim against the stored reference curves
	$(RUN) pytest --optcheck -n $(JOBS)

test: $(READY)  ## the fast tests
	$(RUN) pytest -n $(JOBS)

slow: $(READY)  ## the tests that take minutes
	$(RUN) pytest -m slow -n $(JOBS)

check: $(READY)  ## lint, format, types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

coverage: $(READY)  ## branch coverage of the judge, of goldens and of what reads specs must be whole
	$(RUN) pytest tests/unit -n $(JOBS) --cov --cov-report=
	$(RUN) coverage report --include='*/judge.py,*/goldens.py,*/format.py,*/specs.py,*/schedules.py,*/calls.py' --fail-under=100 --show-missing

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
