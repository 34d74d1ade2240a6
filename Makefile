# SPDX-License-Identifier: MIT
#
# A thin front door: Meson builds, the programs in tool/ do the rest.
#
#   make SAN=address,undefined   a build with sanitizers, in build-asan
#   make SAN=thread              in build-tsan
#   make CC=clang                in build-clang (build-clang-asan, ...)

SAN ?= none
ifeq ($(origin CC),default)
CC := gcc
endif

# build, build-asan, build-tsan, build-clang, build-clang-asan, ...
comma := ,
san_name := $(if $(findstring address,$(SAN)),-asan)$(if $(findstring thread,$(SAN)),-tsan)
san_name := $(san_name)$(if $(filter undefined,$(SAN)),-ubsan)
BUILD ?= build$(if $(findstring clang,$(CC)),-clang)$(san_name)

# Shared objects may not leave names undefined, but a sanitizer's are in its runtime.
san_setup := $(if $(filter none,$(SAN)),,-Db_sanitize=$(SAN) -Db_lundef=false)
SETUP ?=
prefix ?=

# A build directory keeps what it was given when it was made; what is given later changes it.
given := $(strip $(if $(prefix),--prefix=$(prefix)) $(SETUP))

.PHONY: all build deps run unit test bench install selftests lint clean distclean help

all: build

build: $(BUILD)/build.ninja
	@$(if $(given),[ "$$(cat $(BUILD)/given 2>/dev/null)" = '$(given)' ] || \
		{ CC='$(CC)' meson setup --reconfigure $(given) $(BUILD) && echo '$(given)' >$(BUILD)/given; })
	@ninja -C $(BUILD)

# Who only wants to run something needs no packages for tests. A build directory that is made with TESTS=off has a file
# no-tests, and gets its tests when something else is made in it.
TESTS ?= on
no_tests := $(wildcard $(BUILD)/no-tests)
ifeq ($(TESTS),off)
needs := vmmu
tests_setup := $(if $(wildcard $(BUILD)/build.ninja),,-Dtests=false)
else
needs := build
tests_setup := $(if $(no_tests),-Dtests=true)
endif

# ninja sees changes of the folders it knows; a folder that is new needs this rule.
meson_files := $(wildcard meson.build meson_options.txt */meson.build */*/meson.build)
$(BUILD)/build.ninja: $(meson_files) $(if $(filter on,$(TESTS)),$(no_tests)) | packages
	CC='$(CC)' meson setup $(if $(wildcard $@),--reconfigure) $(tests_setup) $(san_setup) $(given) $(BUILD)
	@$(if $(given),echo '$(given)' >$(BUILD)/given)
	@touch $@
	@$(if $(filter -Dtests=false,$(tests_setup)),touch $(BUILD)/no-tests)
	@$(if $(filter -Dtests=true,$(tests_setup)),rm -f $(BUILD)/no-tests)

# Names what is missing and stops; `make deps` installs it.
.PHONY: packages
packages:
	@tool/deps --check $(needs)

FOR ?= all
deps:
	@tool/deps --install $(FOR)

# The command and the preload library, all that run-pc and run-selftests use.
.PHONY: command
command: $(BUILD)/build.ninja
	@ninja -C $(BUILD) vmmu libvmmu-kvm.so

run:
	@tool/deps --install run
	@$(MAKE) --no-print-directory TESTS=off command
	@tool/run-pc --build $(BUILD) $(ARGS)

selftests:
	@tool/deps --install selftests
	@$(MAKE) --no-print-directory TESTS=off command
	@tool/fetch-selftests
	@tool/run-selftests --vmmu $(BUILD)/vmmu $(SELFTESTS)

# Builds only what the unit tests need, and runs them.
unit: $(BUILD)/build.ninja
	@tool/run-tests --build $(BUILD) --only meson --suite unit --rebuild --jobs 4 $(TEST)

test:
	@tool/deps --install test
	@$(MAKE) --no-print-directory build
	@tool/run-tests --build $(BUILD) $(TEST)

# The concurrency checker on the library's code (check/).
BUDGET ?= 10m
.PHONY: check zoo ordering
check:
	@tool/deps --install check
	@$(MAKE) --no-print-directory build
	@$(BUILD)/vmmu-check check --budget $(BUDGET)

zoo: build
	@tool/run-zoo --build $(BUILD) $(ZOO)

ordering: build
	@tool/make-ordering --build $(BUILD) --check

lint:
	@tool/deps --check lint
	@tool/run-tests --hygiene

# Not a gate: its findings want judgement.  Needs the packages clang-tidy and clang-tools.
.PHONY: tidy
tidy: $(BUILD)/build.ninja
	run-clang-tidy -quiet -p $(BUILD) -j 2 '^$(CURDIR)/(core|port|cpu|kvm|cli)/'

bench:
	@tool/deps --install build
	@$(MAKE) --no-print-directory build
	@bench/run --build $(BUILD) $(BENCH)

install: build
	@meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

clean:
	@if [ -f $(BUILD)/build.ninja ]; then ninja -C $(BUILD) clean; fi

distclean:
	rm -rf build build-*

help:
	@echo 'make            build into $(BUILD)/ (prints what is missing; installs nothing)'
	@echo 'make run        everything from nothing: packages, build, Debian booted by QEMU under vmmu'
	@echo '                ARGS=interactive gives a shell in it; ARGS="--vcpus 4 --repeat 20" (tool/run-pc --help)'
	@echo 'make selftests  all KVM selftests of Linux 6.1 and 6.12 under vmmu, on both MMUs'
	@echo 'make deps       install the packages of tool/packages.txt (root or sudo); FOR=run those of one target'
	@echo 'make unit       builds what the unit tests need, and runs them: seconds after a change'
	@echo 'make test       packages, build, every test; ends with "N passed, N failed"'
	@echo 'make check      the protocols under every interleaving, within BUDGET=10m'
	@echo 'make zoo        historical bugs, put back one at a time: the checker must find each'
	@echo 'make ordering   is every order, fence and lock of core/ accounted for in doc/ordering.md?'
	@echo 'make lint       only the checks of the source itself (includes, style, comments, locks, freestanding)'
	@echo 'make bench      vmmu beside the real /dev/kvm'
	@echo 'make install    prefix=/usr/local DESTDIR='
	@echo 'make clean      remove what was built; make distclean removes every build directory'
	@echo
	@echo 'CC=clang, SAN=address,undefined, SAN=thread choose another build directory.'
	@echo 'SELFTESTS="--filter dirty_log --repeat 10", TEST="--no-client", BENCH=... go to the tools;'
	@echo 'each tool/NAME answers --help.'
