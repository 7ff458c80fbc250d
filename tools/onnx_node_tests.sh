#!/usr/bin/env bash
# Puts the node tests and the light models that the onnx package ships into build/onnx-node-tests.
# They are data for tests/conformance: never committed, never part of the product. Later packages
# generate them instead of shipping them, so the version is fixed.
#   tools/onnx_node_tests.sh PYTHON     PYTHON has pip
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
wanted="onnx==1.17.0"
folder=build/onnx-node-tests
[ "$(cat "$folder/.kerf-stamp" 2>/dev/null || true)" = "$wanted" ] && exit 0
echo "setup: $folder from $wanted" >&2
fresh=$(mktemp -d build/onnx-node-tests.XXXXXX)
trap 'rm -rf "$fresh"' EXIT
# Its wheel for any Python holds the same data.
"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
  --python-version 3.11 --platform manylinux2014_x86_64 -d "$fresh/wheel" "$wanted"
"$python" - "$fresh" <<'PYTHON'
import glob, os, sys, zipfile
fresh = sys.argv[1]
prefix = "onnx/backend/test/data/"
with zipfile.ZipFile(glob.glob(fresh + "/wheel/*.whl")[0]) as wheel:
    for name in wheel.namelist():
        if name.startswith((prefix + "node/", prefix + "light/")) and not name.endswith("/"):
            target = os.path.join(fresh, "data", name[len(prefix):])
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as out:
                out.write(wheel.read(name))
PYTHON
rm -rf "$folder"
mv "$fresh/data" "$folder"
echo "$wanted" > "$folder/.kerf-stamp"
