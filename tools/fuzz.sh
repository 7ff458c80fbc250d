#!/usr/bin/env bash
# Builds the libFuzzer targets with clang and runs each for FUZZ_SECONDS (60).
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang++-19 > /dev/null || { echo "fuzz: needs clang++-19 (package clang-19)" >&2; exit 1; }
cmake --preset fuzz > build/fuzz-configure.log 2>&1 || { cat build/fuzz-configure.log; exit 1; }
cmake --build build/fuzz --target kerf_fuzzers
for target in build/fuzz/bin/fuzz_*; do
  corpus=build/fuzz/corpus/$(basename "$target"); mkdir -p "$corpus"
  echo "fuzz: $(basename "$target")"
  "$target" -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=2048 "$corpus"
done
