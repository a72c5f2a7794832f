# Each target does its own set-up: a machine with Python >= 3.10 and make is enough.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test check bench bench-table

demo: $(READY)  ## the whole job on clips that come along; leaves demo/report.html
	rm -rf demo
	$(BIN)/videossp demo --out demo

test: $(READY)  ## the test suite
	$(BIN)/pytest -n 2

check: $(READY)  ## what a change must pass
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

bench: $(READY)  ## time scan, forward pass and training step beside their bounds and their peers
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/scan.py
	$(BIN)/python benchmarks/forward.py
	$(BIN)/python benchmarks/train_step.py

bench-table: $(READY)  ## the tables and plots of docs/benchmarks.md and docs/weights.md, from benchmarks/results
	$(BIN)/python benchmarks/page.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)
