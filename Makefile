# A thin layer over scripts/deps.sh, CMake and CTest.
#
#   make            dependencies (once) and the program, build/genarm
#   make demo       trains two ARMs on the default model and shows guided answers
#   make reproduce  the paper's three scenarios, small: 160 pairs and REPRODUCE_LIMIT=16 prompts, into reproduce-out/small;
#                   25 minutes on two AVX2 cores
#   make reproduce-full  the same, maths and the ablations on all pairs and REPRODUCE_FULL_LIMIT=208 prompts (hours: docs/results.md),
#                   into reproduce-out
#   make test       all tests
#   make test-arm   kernels for ARM processors, cross-compiled and run under qemu (scripts/deps.sh arm; skipped without)
#   make bench      measurements
#   make bench-peers  llama-server, PyTorch on the same training pairs, and others that answer under an ARM (a few GB in deps/)
#   make models     the default model in the other types that tests and bench compare
#   make sanitize   the unit tests under the address and undefined-behaviour sanitizers
#   make install    PREFIX=/usr/local, DESTDIR=; what was built before is installed as it is where it is for the same PREFIX
#   make clean      removes what was built, not deps/ nor models/
#
# OFFICIAL=folder names a checkout of the published GenARM code for bench-peers.
# CC=clang picks the compiler, BUILD=folder the build folder, TESTS=regex the tests,
# SANITIZE_TESTS=regex those of sanitize, SANITIZE_TARGETS=... what they need of what is built,
# CMAKE_FLAGS=... goes to CMake, JOBS=n limits how many commands run at once.

BUILD ?= build
PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
TESTS ?= .
SANITIZE_TESTS ?= ^unit
SANITIZE_TARGETS ?= all
CMAKE_FLAGS ?=
REPRODUCE_LIMIT ?= 16
REPRODUCE_FULL_LIMIT ?= 208

# A compiler counts when asked for: CC is always set by make itself. `ccache gcc` is gcc behind a launcher.
given = $(filter environment command line,$(origin $1))
launcher = $(if $(filter ccache sccache distcc,$(notdir $(firstword $(CC)))),$(firstword $(CC)))
itself = $(if $(launcher),$(filter-out $(launcher),$1),$1)
ifneq ($(call given,CC),)
CC_ITSELF = $(call itself,$(CC))
CC_NAME = $(notdir $(CC_ITSELF))
CXX_NAME = $(if $(findstring clang,$(CC_NAME)),$(subst clang,clang++,$(CC_NAME)),$(if $(findstring gcc,$(CC_NAME)),$(subst gcc,g++,$(CC_NAME)),c++))
CXX_FOR = $(if $(call given,CXX),$(call itself,$(CXX)),$(if $(findstring /,$(CC_ITSELF)),$(dir $(CC_ITSELF)))$(CXX_NAME))
COMPILER = -DCMAKE_C_COMPILER=$(CC_ITSELF) -DCMAKE_CXX_COMPILER=$(CXX_FOR) $(if $(launcher),-DCMAKE_C_COMPILER_LAUNCHER=$(launcher) -DCMAKE_CXX_COMPILER_LAUNCHER=$(launcher))
endif

export JOBS

all: build

deps:
	@scripts/deps.sh

configure: deps
	@scripts/configure.sh "$(BUILD)" $(COMPILER) -DCMAKE_INSTALL_PREFIX="$(PREFIX)" $(CMAKE_FLAGS)

build: configure
	@cmake --build "$(BUILD)" --parallel $(JOBS)

models: build
	@scripts/models.sh "$(BUILD)"

demo: build
	@GENARM="$(BUILD)/genarm" scripts/demo.sh

# Both go on where they were stopped.
reproduce: build
	@scripts/deps.sh demo
	@reuse=; for e in general weak-to-strong trade-off; do "$(BUILD)/genarm" eval "experiments/small/$$e.yaml" \
		-o "reproduce-out/small/$$e" --limit $(REPRODUCE_LIMIT) $$reuse || exit 1; \
		reuse="$$reuse --reuse reproduce-out/small/$$e"; done

reproduce-full: build
	@scripts/deps.sh demo
	@reuse=; for e in maths weak-to-strong general trade-off ablations; do "$(BUILD)/genarm" eval "experiments/$$e.yaml" \
		-o "reproduce-out/$$e" \
		--limit $(REPRODUCE_FULL_LIMIT) $$reuse || exit 1; reuse="$$reuse --reuse reproduce-out/$$e"; done

# One more at once than there are cores, since many wait, but for those that run alone (tests/CMakeLists.txt).
CTEST = ctest -j $$(($(JOBS) + 1)) --output-on-failure --no-tests=error

test: models
	@cd "$(BUILD)" && $(CTEST) -R '$(TESTS)'

test-arm: deps
	@scripts/test_arm.sh "$(BUILD)" || [ $$? = 77 ]

bench: models
	@cmake --build "$(BUILD)" --parallel $(JOBS) --target bench_programs
	@for b in "$(BUILD)"/bench/bench_*; do "$$b" || exit 1; done

bench-peers: models
	@cmake --build "$(BUILD)" --parallel $(JOBS) --target bench_programs
	@scripts/deps.sh llama-server
	@"$(BUILD)/bench/bench_serve"
	@scripts/deps.sh peers
	@"$(BUILD)/bench/bench_train"
	@deps/peers/bin/python bench/peer_torch.py
	@GENARM="$(BUILD)/genarm" bench/peers.sh --install $(if $(OFFICIAL),--official "$(OFFICIAL)")

sanitize: deps
	@scripts/configure.sh "$(BUILD)-sanitize" $(COMPILER) -DCMAKE_BUILD_TYPE=Debug \
		-DGENARM_SANITIZE=ON "-DCMAKE_C_FLAGS_DEBUG=-O1 -g" "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g" $(CMAKE_FLAGS)
	@cmake --build "$(BUILD)-sanitize" --parallel $(JOBS) --target $(SANITIZE_TARGETS)
	@scripts/models.sh "$(BUILD)-sanitize"
	@cd "$(BUILD)-sanitize" && $(CTEST) -R '$(SANITIZE_TESTS)'

# What was built for this prefix is installed as it is: root needs no packages, no compiler and no settings of the user who built.
install:
	@grep -qsxFe '-DCMAKE_INSTALL_PREFIX=$(PREFIX)' "$(BUILD)/configured" || $(MAKE) --no-print-directory build
	@DESTDIR="$(DESTDIR)" cmake --install "$(BUILD)" --prefix "$(PREFIX)"

clean:
	rm -rf -- "$(BUILD)" "$(BUILD)-sanitize"

.PHONY: all deps configure build models demo reproduce reproduce-full test test-arm bench bench-peers sanitize install clean
