# umview: `make demo` shows it, `make test` tests it, `make build` leaves
# .venv/bin/umview. Each does its own set-up, system packages included.

VENV := .venv
PYTHON := $(VENV)/bin/python
SHELL := /bin/bash

C_SOURCES := $(shell find csrc -name '*.[ch]' -not -path 'csrc/stackd/*' \
	-not -path 'csrc/libumview/*') csrc/stackd/packet_road.h
STACKD_SOURCES := $(shell find csrc/stackd -type f) tests/core/stackd_hooks.c \
	tests/core/sanitised.c
PY_SOURCES := $(shell find umview modules -name '*.py')
C_FORMATTED := $(shell find csrc benchmarks tests examples -name '*.[ch]' 2>/dev/null)

# What is built is for other users too, whatever the caller's umask.
PUBLIC := umask 022 &&

# The tests that start views.
SUITES := tests/apps tests/modules tests/views

.PHONY: build demo test test-ptrace test-container test-old-kernel test-sanitised \
	test-nested test-stacks test-trees test-apps soak lint format bench docs clean \
	install-library
.DELETE_ON_ERROR:

build: $(VENV)/linked umview/stackd umview/lib/libumview.so

$(VENV)/made: pyproject.toml scripts/make-venv scripts/system-packages
	scripts/system-packages build
	scripts/make-venv $(VENV)
	touch $@

$(VENV)/compiled: setup.py csrc/build_ffi.py $(C_SOURCES) | $(VENV)/made
	@echo "Compiling umview._core"
	$(PUBLIC) $(PYTHON) setup.py -q build_ext --inplace
	touch $@

$(VENV)/linked: $(VENV)/compiled $(PY_SOURCES) pyproject.toml scripts/link-venv
	scripts/link-venv $(VENV)
	touch $@

build/lwip: scripts/lwip-source | $(VENV)/made
	$(PUBLIC) scripts/lwip-source $@
	touch $@

# The stack server, and what of it the tests load.
build/stackd/stackd: build/lwip $(STACKD_SOURCES)
	@echo "Compiling the stack server"
	$(PUBLIC) $(MAKE) -s -f csrc/stackd/Makefile OUT=$(@D) LWIP=$<

# Where it is in an installed umview, too.
umview/stackd: build/stackd/stackd
	$(PUBLIC) install -m 755 $< $@

# The library for other programs, with its header, as in an installed umview; and in a
# system: make install-library PREFIX=/usr
umview/lib/libumview.so: $(shell find csrc/libumview -type f) csrc/um_api.h \
		umview/__init__.py | $(VENV)/made
	$(PUBLIC) $(MAKE) -s -f csrc/libumview/Makefile INTO=umview packaged

install-library:
	scripts/system-packages build
	$(PUBLIC) $(MAKE) -s -f csrc/libumview/Makefile install

build/sanitised/stackd: build/lwip $(STACKD_SOURCES)
	@echo "Compiling the stack server with its address and undefined checks"
	$(PUBLIC) $(MAKE) -s -f csrc/stackd/Makefile OUT=$(@D) LWIP=$< \
		OPTIMISED="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover" \
		MORE=tests/core/sanitised.c

build/hello: examples/hello.go
	scripts/system-packages demo
	$(PUBLIC) mkdir -p build && GOCACHE=$(CURDIR)/build/go GO111MODULE=off \
		CGO_ENABLED=0 go build -o $@ $<

# What the tests start umview in.
build/setting: tests/settings/setting.c | $(VENV)/made
	$(PUBLIC) mkdir -p build && $(CC) -O1 -Wall -o $@ $< -lseccomp

# In a copy of the tree (see scripts/unprivileged) the targets build there.
demo:
	scripts/system-packages demo
	scripts/unprivileged "build build/hello" $(PYTHON) examples/demo.py

# make test ARGS="tests/unit -k boundary"
test:
	scripts/system-packages test
	scripts/unprivileged "build build/setting" \
		$(PYTHON) -m pytest -p no:cacheprovider $(ARGS)

# What depends on the tracer, under ptrace: asked for, and found in settings where
# seccomp does not work (see tests/settings/setting.c).
test-ptrace: export UMVIEW_TRACER := ptrace
test-container: export UMVIEW_SETTING := container
test-old-kernel: export UMVIEW_SETTING := old-kernel
test-nested: export UMVIEW_SETTING := view
test-ptrace test-container test-old-kernel test-nested:
	scripts/system-packages test
	scripts/unprivileged "build build/setting" \
		$(PYTHON) -m pytest -p no:cacheprovider $(or $(ARGS),$(SUITES))

# Views with library stacks: their own tests, and programs in two views on a switch.
test-stacks: export UMVIEW_PLACES := ethernet
test-stacks:
	scripts/system-packages test stacks
	scripts/unprivileged "build build/setting" \
		$(PYTHON) -m pytest -p no:cacheprovider \
		$(or $(ARGS),tests/stacks tests/apps -k "stacks or ethernet")

# Trees of views: nesting, msocket, umctl, modules of others, the Python API.
test-trees:
	scripts/system-packages test stacks trees
	scripts/unprivileged "build build/setting build/hello" \
		$(PYTHON) -m pytest -p no:cacheprovider $(or $(ARGS),tests/trees)

# What parses packets, under the sanitisers: as a library in the tests' process, and
# as the program, wherever a test has a stack server. Python's own memory is not ours
# to check for leaks.
test-sanitised:
	scripts/system-packages test stacks
	scripts/unprivileged "build build/sanitised/stackd" \
		env UMVIEW_STACKD=build/sanitised ASAN_OPTIONS=detect_leaks=0 \
		UMVIEW_FRAMES=20000 \
		LD_PRELOAD=$(shell $(CC) -print-file-name=libasan.so) \
		$(PYTHON) -m pytest -p no:cacheprovider tests/core $(ARGS) \
		$(addprefix --ignore=tests/core/test_,ports.py tracee.py views.py stackd_program.py)
	scripts/unprivileged "build build/setting build/sanitised/stackd" \
		env UMVIEW_STACKD=build/sanitised $(PYTHON) -m pytest -p no:cacheprovider \
		tests/core/test_stackd_program.py tests/modules/test_umnetlwipv6_view.py \
		tests/stacks --ignore=tests/stacks/test_installed.py $(ARGS)

# Mixed traffic between views; does anything grow? make soak SECONDS=3600
soak:
	scripts/system-packages test
	scripts/unprivileged build \
		$(PYTHON) -m tests.heavy.soak --seconds $(or $(SECONDS),3600) $(ARGS)

# Browsers and other big programs: make test-apps ARGS="-k chromium"
test-apps:
	scripts/system-packages test apps
	scripts/unprivileged "build build/setting" \
		$(PYTHON) -m pytest -p no:cacheprovider tests/heavy $(ARGS)

bench:
	scripts/system-packages bench
	scripts/unprivileged build $(PYTHON) benchmarks/run.py $(ARGS)

lint: build
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run -Werror $(C_FORMATTED)
	$(PUBLIC) UMVIEW_WERROR=1 $(PYTHON) setup.py -q build_ext \
		--build-temp build/werror --build-lib build/werror
	$(PUBLIC) UMVIEW_WERROR=1 $(MAKE) -s -f csrc/stackd/Makefile OUT=build/werror/stackd
	$(PUBLIC) UMVIEW_WERROR=1 $(MAKE) -s -f csrc/libumview/Makefile \
		OUT=build/werror/libumview

format: $(VENV)/made
	$(VENV)/bin/ruff check --fix --exit-zero
	$(VENV)/bin/ruff format
	$(VENV)/bin/clang-format -i $(C_FORMATTED)

# The tables in docs/compatibility.md.
docs: build
	$(PYTHON) scripts/make_docs.py

clean:
	rm -rf $(VENV) build umview.egg-info umview/_core.*.so umview/stackd \
		umview/include umview/lib .mypy_cache .ruff_cache
	find umview modules tests examples benchmarks csrc \
		-name __pycache__ -prune -exec rm -rf {} +
