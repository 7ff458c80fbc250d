#!/usr/bin/env bash
# The layers, then clang-tidy over every source file of ours that changed (all with LINT_ALL=1).
set -euo pipefail
cd "$(dirname "$0")/.."
python3 tests/house/check_layers.py .
tidy=$(command -v clang-tidy-19 || command -v clang-tidy || true)
[ -n "$tidy" ] || { echo "lint: clang-tidy isn't installed (package clang-tidy); layers checked only"; exit 0; }
cmake --preset dev > /dev/null
if [ "${LINT_ALL:-}" = 1 ]; then files=$(git ls-files '*.cc'); else files=$(git diff --name-only HEAD~1 -- '*.cc'); fi
[ -z "$files" ] || echo "$files" | xargs -r -P "$(nproc)" -n 4 "$tidy" -p build/dev --quiet
