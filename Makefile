# make demo   build .venv, train net D with scale jitter along its lineage on the embedded data, evaluate it fused
# make bench  PHOTOS=FOLDER: the figures of the README's table of speeds; takes half an hour, on a quiet machine
# make test   lint and tests, in the same environment
VENV := .venv
PYTHON := $(VENV)/bin/python

demo: $(VENV)/installed
	$(PYTHON) train.py model=D train_scale=jitter
	$(PYTHON) evaluate.py eval=fused

test: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

bench: $(VENV)/installed
	$(PYTHON) benchmarks/input.py $(PHOTOS)
	$(PYTHON) benchmarks/step.py
	$(PYTHON) benchmarks/evaluation.py $(PHOTOS)
	$(PYTHON) benchmarks/crop_sharing.py
	$(PYTHON) benchmarks/memory.py $(PHOTOS)

$(VENV)/installed: requirements.txt pyproject.toml
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement requirements.txt
	touch $@

.PHONY: demo test bench
