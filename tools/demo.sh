#!/usr/bin/env bash
# The example study for real: ResNet-8 on shapes, two workers, SQLite; then the front's best point
# exported, and the dashboard left running for half an hour.
set -euo pipefail
kerf=$1
cd "$(dirname "$0")/.."
dir=build/demo
mkdir -p "$dir"
echo "kerf: searching shapes/resnet8 with two workers; every candidate is built and measured" >&2
"$kerf" run examples/shapes/resnet8/study.json --data-dir "$dir" --workers 2 --json > "$dir/result.json"
python3 tools/show_front.py "$dir/result.json"

# The fastest point that lost at most one point of accuracy, as standard ONNX.
python3 tools/pick_plan.py "$dir/result.json" 0.01 > "$dir/plan.json"
"$kerf" export examples/shapes/resnet8/model.onnx --plan "$dir/plan.json" \
  --calibration examples/shapes/calibration.npz --preprocess examples/shapes/resnet8/preprocess.json \
  -o "$dir/resnet8-compressed.onnx"
echo "exported:  $PWD/$dir/resnet8-compressed.onnx ($(stat -c %s "$dir/resnet8-compressed.onnx") bytes, f32 $(stat -c %s examples/shapes/resnet8/model.onnx))"
picture=$(ls -t "$dir"/*.svg 2>/dev/null | head -1)
[ -n "$picture" ] && echo "picture:   file://$PWD/$picture"

: > "$dir/serve.out"
setsid timeout 30m "$kerf" serve --data-dir "$dir" --listen 127.0.0.1:0 --workers 0 > "$dir/serve.out" 2> "$dir/serve.log" < /dev/null &
pid=$!
for _ in $(seq 100); do [ -s "$dir/serve.out" ] && break; kill -0 $pid 2>/dev/null || break; sleep 0.1; done
address=$(grep -o 'http://[^ ]*/?token=[^ ]*' "$dir/serve.log" | head -1 || true)
if [ -n "$address" ]; then
  echo "dashboard: $address   (for 30 minutes; kill $pid ends it)"
else
  echo "dashboard: did not start; see $dir/serve.log" >&2
fi
