# Each target does its own set-up: a machine with Python >= 3.11 and make is enough.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test test-all test-web test-lowest check bench bench-table

demo: $(READY)  ## end-to-end demo on bundled clips and weights; writes demo/report.html
	rm -rf demo
	$(BIN)/videossp demo --out demo

test: $(READY)  ## the tests that are not slow: five to ten minutes on two cores
	$(BIN)/pytest -n 3 --dist worksteal  # three: many tests wait for processes that they start

test-all: $(READY)  ## all tests
	$(BIN)/pytest -n 2 --dist worksteal -m ""

test-web: $(READY)  ## the page of `videossp serve` and an exported model in Chromium, and thousands of random requests to the API
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,web]"
	$(BIN)/pytest tests/serving/test_web_page.py tests/serving/test_random_requests.py tests/exporting/test_browser_page.py -m "" -rs

test-lowest:  ## all tests with the lowest versions that pyproject.toml allows, in .venv-lowest (a torch of several GB)
	$(PYTHON) -m venv .venv-lowest
	sed -n '/^dependencies/,/^]/s/^ *"\([a-z_]*\)[^>]*>=\([0-9.]*\).*/\1==\2/p' pyproject.toml > .venv-lowest/lowest.txt
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check -c .venv-lowest/lowest.txt -e ".[dev]"
	.venv-lowest/bin/pytest -n 2 --dist worksteal -m "" -W ignore::DeprecationWarning  # of old libraries, by newer ones

check: $(READY)  ## what a change must pass: formatting, types, all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist worksteal -m ""

bench: $(READY)  ## time scan, forward pass and training step against lower bounds and other libraries
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/scan.py
	$(BIN)/python benchmarks/forward.py
	$(BIN)/python benchmarks/train_step.py

bench-table: $(READY)  ## the tables and plots of the pages in docs/, from benchmarks/results
	$(BIN)/python benchmarks/page.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)
