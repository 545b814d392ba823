# Shortcuts; every target is one line and can be typed by hand. Two commands matter: make demo, make test.
BUILD ?= build
JOBS ?= $(shell deploy/build-jobs.sh)
# Many tests wait for processes that they started: more of them than processors at once are done sooner.
TESTS_AT_ONCE ?= $(shell echo $$((2 * $$(nproc))))
CONFIGURE = deploy/progress.sh configuring cmake --preset default -B $(BUILD) --log-level=NOTICE
COMPILE = deploy/progress.sh building cmake --build
DEMO_PROGRAMS = imageddpod imageddpo imageddpo-demo
.DEFAULT_GOAL := build
.PHONY: setup build build-cuda build-tests demo test bench study screenshots gpu-check soak fuzz sanitize format lint clean

setup: ; @deploy/setup.sh
build: setup ; @$(CONFIGURE) && $(COMPILE) $(BUILD) -j $(JOBS) --target programs
build-cuda: ; @deploy/setup.sh --cuda && cmake --preset cuda --log-level=NOTICE && $(COMPILE) build-cuda -j $(JOBS) --target programs checks
build-tests: build ; @$(COMPILE) $(BUILD) -j $(JOBS)
demo: setup ; @$(CONFIGURE) && $(COMPILE) $(BUILD) -j $(JOBS) --target $(DEMO_PROGRAMS) && BIN=$(BUILD)/bin deploy/demo/run.sh
test: build-tests ; @ctest --test-dir $(BUILD) -j $(TESTS_AT_ONCE) --output-on-failure --no-tests=error
bench: build ; @cmake --build $(BUILD) -j $(JOBS) --target bench
study: build ; @IMAGEDDPO_BIN_DIR=$(abspath $(BUILD))/bin tests/study/study.py
screenshots: build ; @python3 tests/e2e/page.py --screenshots out/screenshots
gpu-check: ; @deploy/gpu-check/bundle.sh -j $(JOBS)
soak: build ; @tests/soak/run.sh
fuzz: setup ; @tests/fuzz/run.sh
sanitize: setup ; @tests/sanitize/run.sh
format: ; @deploy/setup.sh --ci && find common rollout trainer deploy tests -name '*.h' -o -name '*.cc' | xargs clang-format -i
lint: ; @.ci/lint
clean: ; @rm -rf build build-*
