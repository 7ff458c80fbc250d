# kerf: `make demo` shows it, `make test` proves it; both install what is missing first.
SHELL := /bin/bash
JOBS ?= $(shell nproc)
PRESET ?= release
BUILD := build/$(PRESET)
export CCACHE_DIR ?= $(CURDIR)/build/ccache

.PHONY: help demo test build bench bench-engine bench-search bench-search-real bench-techniques lint asan tsan fuzz serve deps test-deps examples clean

help:
	@echo "make demo    run the example study for real: a Pareto front of a small network, in minutes"
	@echo "make test    build and run every test"
	@echo "make build   the program: build/release/bin/kerf"
	@echo "make serve   the service on 127.0.0.1, with two workers"
	@echo "make bench-engine   kerf beside ONNX Runtime and OpenVINO on the same files"
	@echo "make bench-search   what the native sampler gains in 20 trials beside Optuna's in 200"
	@echo "make bench-search-real   the same on real networks, measured on this machine"
	@echo "make bench-techniques   every technique on the examples: accuracy, storage, latency (docs/techniques.md)"
	@echo "make bench | lint | asan | tsan | fuzz"

deps:
	@tools/setup.sh build

test-deps:
	@tools/setup.sh test

define configure_and_build
cmake --preset $(1) $(2) > build/$(1)-configure.log 2>&1 || { cat build/$(1)-configure.log; exit 1; }
cmake --build build/$(1) -j $(JOBS) $(3)
endef

# The program alone; `make test` builds the tests beside it.
build: deps
	@$(call configure_and_build,$(PRESET),,--target kerf)

examples: deps
	@build/venv/bin/python examples/setup.py

demo: build examples
	@tools/demo.sh $(BUILD)/bin/kerf

test: test-deps examples
	@$(call configure_and_build,$(PRESET),)
	@tools/run_tests.sh $(BUILD)

asan tsan: test-deps examples
	@$(call configure_and_build,$@,)
	@tools/run_tests.sh build/$@

bench: deps examples
	@$(call configure_and_build,release,-DKERF_BUILD_BENCH=ON)
	@bench/run.sh build/release

bench-engine: deps examples
	@tools/setup.sh bench
	@$(call configure_and_build,release,-DKERF_BUILD_BENCH=ON,--target kerf bench_engine_kerf bench_engine_openvino)
	@build/venv-bench/bin/python bench/engine/compare.py build/release $(BENCH_FLAGS)

# Hours on one core; known rows are kept (build/techniques.json), so that it goes on where it was.
bench-techniques: test-deps examples
	@$(call configure_and_build,release,,--target kerf)
	@build/venv-test/bin/python bench/techniques.py build/release -o docs/techniques.md $(BENCH_FLAGS)

bench-search: deps
	@$(call configure_and_build,release,-DKERF_BUILD_BENCH=ON,--target bench_search_gain)
	@KERF_PYTHON=$(CURDIR)/build/venv/bin/python $(BUILD)/bin/bench_search_gain $(BENCH_FLAGS)

bench-search-real: build examples
	@build/venv/bin/python bench/search_real.py $(BUILD) $(BENCH_FLAGS)

fuzz: deps
	@tools/fuzz.sh

lint: deps
	@tools/lint.sh

serve: build
	@$(BUILD)/bin/kerf serve --data-dir build/serve --listen 127.0.0.1:0 --workers 2

clean:
	rm -rf build/release build/dev build/asan build/tsan build/fuzz build/coverage
