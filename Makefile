# make demo   build .venv, train net D with scale jitter along its lineage on the embedded data, evaluate it fused
# make bench  PHOTOS=FOLDER: the figures of docs/performance.md; takes half an hour, on a quiet machine
# make test   lint and the tests of a contributor, in the same environment
# make docs   a site of docs/ with the reference of the Python parts, in docs/_build
# make test-long   the others: kills, full disks, clusters, whole notebooks, damaged images by the thousand
VENV := .venv
PYTHON := $(VENV)/bin/python
IN_TWO := --numprocesses 2 --dist loadfile --no-loadscope-reorder

demo: $(VENV)/installed
	$(PYTHON) train.py model=D train_scale=jitter
	$(PYTHON) evaluate.py eval=fused

test: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PYTHON) -m pytest $(IN_TWO) -m "not long"

test-long: $(VENV)/installed
	$(PYTHON) -m pytest $(IN_TWO) -m long

docs: $(VENV)/installed
	$(PYTHON) -m pip install --quiet --editable .[docs]
	$(PYTHON) -m sphinx -b html -W --keep-going -q docs docs/_build

bench: $(VENV)/installed
	$(PYTHON) benchmarks/input.py $(PHOTOS)
	$(PYTHON) benchmarks/step.py
	$(PYTHON) benchmarks/evaluation.py --photos $(PHOTOS)
	$(PYTHON) benchmarks/crop_sharing.py
	$(PYTHON) benchmarks/memory.py $(PHOTOS)

$(VENV)/installed: requirements.txt pyproject.toml
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement requirements.txt
	touch $@

.PHONY: demo test test-long docs bench
