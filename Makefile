# `make demo` and `make test` set up everything they need. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3.11
PY := .venv/bin/python
STAMP := .venv/.installed
export PYANNOTE_METRICS_ENABLED := 0
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help setup models demo quality test lint bench fuzz lock clean
help:
	@echo "make demo    compose a conversation with known truth, build a dataset from it, score it"
	@echo "make quality how right it is, on people no model saw (out/quality.json, out/quality.md)"
	@echo "make test    lint, types and tests"
	@echo "make bench   speed ratios, measured in one run (out/bench.json)"
	@echo "make fuzz    every reader against damaged and hostile files, a minute each (out/fuzz.json; FUZZ_SECONDS=600)"
	@echo "make faults  break things on purpose: kills, disks, storage, hangs (out/faults.json)"
	@echo "make setup   only the environment and the default models"
	@echo "make lock    resolve the dependencies anew into requirements.lock"
	@echo "make clean   remove out/ (the environment stays)"

$(STAMP): requirements.lock pyproject.toml pipelines/setup.sh
	@PYTHON=$(PYTHON) bash pipelines/setup.sh
	@touch $@

setup: $(STAMP)

demo: $(STAMP)
	@$(PY) -m pipelines.run_demo --out out/demo

quality: $(STAMP)
	@$(PY) -m pipelines.quality --out out/quality

test: $(STAMP) lint
	@$(PY) -m pytest -n 2 --dist loadfile

lint: $(STAMP)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

bench: $(STAMP)
	@$(PY) -m tests.bench.run --out out/bench.json

FUZZ_SECONDS ?= 60
fuzz: $(STAMP)
	@$(PY) -m tests.fuzz.run --seconds $(FUZZ_SECONDS) --out out/fuzz.json

faults: $(STAMP)
	@$(PY) -m tests.faults.run --out out/faults.json

lock:
	@bash pipelines/lock.sh

clean:
	rm -rf out
