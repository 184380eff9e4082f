PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.locked
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder

.PHONY: demo test check chaos bench gpu-bench golden clean

demo: $(STAMP)
	$(BIN)/palimpsest demo --out demo-out

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(TESTS) -m "not chaos"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(TESTS)

chaos: $(STAMP)
	$(TESTS) -m chaos
	$(BIN)/python -m tests.chaos.fuzz
	$(BIN)/python -m tests.chaos.kills

bench: $(STAMP)
	$(BIN)/palimpsest bench light
	$(BIN)/palimpsest bench adain

gpu-bench: $(STAMP)
	$(BIN)/python -m jobs.bench.gpu --out gpu-bench.json

golden: $(STAMP)
	$(BIN)/python -m tests.golden.regenerate

clean:
	rm -rf demo-out build *.egg-info

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(STAMP)
