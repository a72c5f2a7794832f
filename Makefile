# Each target does its own set-up: a machine with Python >= 3.10 and make is enough.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test check bench

demo: $(READY)  ## make clips, learn them, print the result
	rm -rf demo
	$(BIN)/python examples/make_clips.py demo/clips
	$(BIN)/videossp train demo/clips --backbone videomamba_nano --size 64 --epochs 15 --scale [0.8,1.0] --out demo/run
	$(BIN)/videossp eval demo/run demo/clips
	$(BIN)/videossp predict demo/run demo/clips/test/falling/00.mp4

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

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)
