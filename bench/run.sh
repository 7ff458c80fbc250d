#!/usr/bin/env bash
# bench/run.sh BUILD_DIR: the benchmarks of single parts, one after the other. The comparison of the
# engine with others is `make bench-engine`.
set -euo pipefail
build=$1
for name in bench_search bench_engine_layout bench_engine bench_engine_kernels bench_packed; do
  echo "== $name"
  "$build/bin/$name" --benchmark_min_time="${BENCH_SECONDS:-0.2}"
done
echo "== bench_search_quality"
"$build/bin/bench_search_quality"
echo "== bench_measure_aa"
"$build/bin/bench_measure_aa" examples/shapes/resnet8/model.onnx
models=(examples/digits/*/model.onnx examples/shapes/*/model.onnx)
echo "== bench_engine_overhead"
OMP_NUM_THREADS=1 "$build/bin/bench_engine_overhead" "${models[@]}"
for how in "" --neighbours; do
  echo "== bench_candidate_cost $how"
  "$build/bin/bench_candidate_cost" examples/shapes/resnet8/model.onnx --calibration examples/shapes/calibration.npz \
    --data examples/shapes/evaluation.npz --preprocess examples/shapes/resnet8/preprocess.json $how
done
