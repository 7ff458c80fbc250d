#!/usr/bin/env bash
# tools/run_tests.sh BUILD_DIR [ctest's arguments]: runs every test; the last line counts them.
set -uo pipefail
build=$1; shift
report="$build/junit.xml"
rm -f "$report"
ctest --test-dir "$build" --output-junit junit.xml --output-on-failure -j "$(nproc)" "$@"
status=$?
python3 "$(dirname "$0")/count_tests.py" "$report" || status=1
exit $status
