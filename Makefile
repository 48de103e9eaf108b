# Two commands do all their own set-up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# How many processes share the tests; each loads TensorFlow.
WORKERS ?= 2
# glibc gives large buffers back at every training step otherwise: about 30 % of CPU training time.
export MALLOC_TRIM_THRESHOLD_ = 4294967296
export MALLOC_MMAP_THRESHOLD_ = 4294967296
export MALLOC_TOP_PAD_ = 268435456
export TF_CPP_MIN_LOG_LEVEL = 3
# Without AVX-512, TensorFlow leaves oneDNN alone, which trains up to twice as fast.
export TF_ENABLE_ONEDNN_OPTS = 1
ifneq ($(wildcard ../shared/data),)
export TFDEFENSE_DATA ?= $(abspath ../shared/data)
endif

.PHONY: help demo docs live notebooks test test-fast slow-tests test-settings test-lowest torture lint clean
help:
	@echo "make demo       train, defend, attack and export a small classifier (about a minute after the install)"
	@echo "make docs       the pages and the API reference as a site, in build/site"
	@echo "make live       a page that runs a defended model in the browser, in build/live; npm fetches ONNX Runtime Web, once"
	@echo "make notebooks  the tutorials as notebooks, beside their pages"
	@echo "make test       lint and tests, in ten minutes on two cores"
	@echo "make test-long  the tests that take longest: protocols from end to end, clusters, other devices"
	@echo "make test-fast  the tests that are not slow: under 90 seconds"
	@echo "make slow-tests runs all tests in one process and writes those that are slow into tests/slow.txt"
	@echo "make test-lowest  those, with the lowest versions that are allowed, in an environment of its own"
	@echo "make torture    kills, full disks and hostile input at full length (half an hour); writes its table into docs/reliability.md"
	@echo "make test-settings  all tests four times: oneDNN on and off, one thread and two"
	@echo "make clean      remove the virtual environments and what the demo wrote"

.venv/.demo: setup.py requirements.txt
	@echo "Installing into .venv; this takes a minute or two, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -qq -e .
	touch $@

.venv/.test: .venv/.demo
	$(BIN)/python -m pip install -qq -e ".[test,docs,export,imagenet]"
	touch $@

.venv/.docs: .venv/.demo
	$(BIN)/python -m pip install -qq -e ".[docs,export]"
	touch $@

demo: .venv/.demo
	$(BIN)/python -m evaluation demo

# Without npm or a network the site is built all the same: its page says what is missing.
docs: .venv/.docs
	-$(BIN)/python docs/live/make.py
	$(BIN)/python docs/build.py

live: .venv/.docs
	$(BIN)/python docs/live/make.py

notebooks: .venv/.docs
	$(BIN)/python -m jupytext --quiet --to ipynb docs/photos.md docs/tutorials/*.md

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m tests.words

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 25 -m "not long"

# The page in the browser is tested where it could be made.
test-long: lint
	-$(BIN)/python docs/live/make.py
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 25 -m long

test-fast: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow and not long"

slow-tests: lint
	$(BIN)/python -m pytest --record-slow

test-settings: lint
	$(BIN)/python tests/four_settings.py -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

torture: .venv/.test
	TFDEFENSE_TORTURE=1 $(BIN)/python -m pytest tests/reliability -m torture -n $(WORKERS) --dist loadfile --durations 10 \
		--table docs/reliability.md

# The record is written last, and only if the tests passed; the test that asks for it can't pass before.
test-lowest:
	rm -rf .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) -m tests.lowest constraints > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --upgrade pip
	.venv-lowest/bin/python -m pip install -qq -c .venv-lowest/constraints.txt -e ".[test,docs,export,imagenet]"
	.venv-lowest/bin/ruff check .
	.venv-lowest/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow and not long" \
		--deselect tests/test_lowest.py::test_fast_tests_passed_with_the_bounds_of_today
	.venv-lowest/bin/python -m tests.lowest record

clean:
	rm -rf .venv .venv-lowest demo-output build .cache
