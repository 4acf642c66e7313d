# `make demo` and `make test` set everything up by themselves; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
DEMO := output/demo

.PHONY: help install demo test lint kills fuzz clean-demo

help:
	@echo "make install     create $(VENV) with all pinned packages (PYTHON=python3.11 chooses one)"
	@echo "make demo        run the whole experiment on synthetic images, in minutes"
	@echo "make test        run lint, then all tests"
	@echo "make lint        check style, format and types, as the pre-commit hooks do"
	@echo "make kills       kill the tools at random moments and check what follows, about an hour"
	@echo "make fuzz        read files that are damaged at random, for an hour (MINUTES=60)"
	@echo "make clean-demo  remove what the demo made"

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock requirements-detectron2.lock setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else "error: Python %d.%d is not supported: choose 3.10, 3.11 or 3.12 with `make PYTHON=python3.11 ...`" % v)'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -r requirements.lock
	site=$$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	&& $(BIN)/pip install --disable-pip-version-check --upgrade --no-deps --require-hashes \
	    --only-binary=:all: --python-version 3.10 --target "$$site" -r requirements-detectron2.lock \
	&& rm -f "$$site"/detectron2/_C.*.so
	$(BIN)/pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: install
	@echo "Step 1 of 5: draw 400 synthetic photographs and their masks, laid out as the ISIC archives."
	$(RUN) tools/make_synthetic.py --output $(DEMO)/archive --count 400
	@echo "Step 2 of 5: check each pair, make large images smaller, split into train, val and test."
	$(RUN) tools/convert_isic.py --output datasets/demo --overwrite \
	    --images $(DEMO)/archive/ISIC2018_Task1-2_Training_Input \
	    --masks $(DEMO)/archive/ISIC2018_Task1_Training_GroundTruth
	@echo "Step 3 of 5: train a small Mask R-CNN in two stages, 5 epochs; a second call continues it."
	$(RUN) tools/train_net.py --config-file configs/demo.yaml --resume
	@echo "Step 4 of 5: draw the data, the augmentations and the losses."
	$(RUN) tools/plot.py all --run $(DEMO) --dataset datasets/demo
	@echo "Step 5 of 5: outline the test images with the best model, score them, write the report."
	$(RUN) tools/eval.py --eval-only --config-file configs/demo.yaml \
	    MODEL.WEIGHTS $(DEMO)/model_best.pth

test: install lint
	$(RUN) -m pytest

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

kills: install
	$(RUN) tests/kills.py

MINUTES ?= 60

fuzz: install
	$(RUN) tests/fuzz.py --minutes $(MINUTES)

clean-demo:
	rm -rf $(DEMO) datasets/demo
