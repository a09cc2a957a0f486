# Everything sets itself up in .venv: a machine needs Python 3.11 or newer, and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test integration soak kafka flink prism bench lint format schemas docs clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/run.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dev.stamp: .venv/run.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/run.stamp ## train continuously on simulated card transactions, no service needed
	$(BIN)/beam-ml demo

# Compiled here once; two workers that are traced for coverage would each do it, and take longer.
KERNELS := import importlib, pkgutil; from beam_ml import kernels; \
  [importlib.import_module(one.name) for one in pkgutil.walk_packages(kernels.__path__, 'beam_ml.kernels.')]

test: .venv/dev.stamp ## the whole suite, no service needed
	@echo "Every test that needs no service: 10 to 30 minutes on two cores; the first run compiles kernels, too."
	@begun=$$(date +%s); $(BIN)/python -c "$(KERNELS)"; $(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered; code=$$?; \
	  echo "make test: $$([ $$code = 0 ] && echo passed || echo FAILED) after $$(( ($$(date +%s) - begun + 59) / 60 )) minutes"; exit $$code

integration: .venv/dev.stamp ## real Kafka, Flink, Prism and object store; what Java, Maven or Go is missing for is skipped
	$(BIN)/python -m pytest integration -n 0 --timeout=1500

# Scripts import what stands beside them in integration/.
soak bench: export PYTHONPATH := $(CURDIR)/integration:$(CURDIR)/integration/bench

soak: .venv/dev.stamp ## the long versions: 200 kills, 200 times as many attacks, and ten minutes each of rounds and of streaming
	BEAM_ML_KILLS=200 $(BIN)/python -m pytest integration/test_crash_resume.py integration/test_faults_rounds.py -n 0 --timeout=7200
	BEAM_ML_ATTACKS=200 $(BIN)/python -m pytest tests/attacks -n 0 --timeout=7200
	$(BIN)/python integration/soak/rounds_soak.py
	$(BIN)/python integration/soak/checkpoint_growth.py --minutes 10

# A service for a person: fetched or built once into ~/.cache/beam_ml, run until Ctrl-C; it prints how to use it.
# make kafka listens on 9092, KAFKA="--port=19092" elsewhere; KAFKA="--nodes=3" runs three brokers, KAFKA="--sasl --tls" for a listener that asks for a password.
kafka: .venv/dev.stamp ## a Kafka broker (needs Java and Maven)
	cd integration && ../$(BIN)/python -m services.kafka $(KAFKA)

flink: .venv/dev.stamp ## Beam's job server with an embedded Flink (needs Java and Maven)
	cd integration && ../$(BIN)/python -m services.flink

prism: .venv/dev.stamp ## Beam's Prism runner (needs Go)
	cd integration && ../$(BIN)/python -m services.prism

bench: .venv/dev.stamp ## every claim beside its peer; the last line of each script is one JSON object
	for script in $(filter-out %/bench_support.py,$(wildcard integration/bench/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lint: .venv/dev.stamp ## ruff, mypy --strict, and whether schemas/ is up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m beam_ml.schemas --check

format: .venv/dev.stamp ## ruff writes what it can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: .venv/dev.stamp ## write the wire contracts, after a change of stored arrays or settings
	$(BIN)/python -m beam_ml.schemas

.venv/docs.stamp: .venv/dev.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: .venv/docs.stamp ## write the generated pages, run every example, build docs/ into build/site; a broken link fails
	$(BIN)/python docs/generate.py
	$(BIN)/python -m pytest -q tests/test_docs.py tests/docs
	$(BIN)/mkdocs build --strict

clean: ## remove .venv, demo/ and build/site
	rm -rf .venv demo build/site
