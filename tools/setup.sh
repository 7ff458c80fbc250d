#!/usr/bin/env bash
# Installs what kerf is built and tested with, where it is missing: Debian/Ubuntu packages through
# apt, Python packages into virtual environments below build/.
#   tools/setup.sh build   what a build needs
#   tools/setup.sh test    and what the tests need beside it
#   tools/setup.sh bench   or what the engine is compared with
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-build}

packages=(g++ cmake ninja-build make ccache mold pkg-config python3 python3-venv ca-certificates
  libprotobuf-dev protobuf-compiler libonnx-dev nlohmann-json3-dev libsqlite3-dev libcli11-dev
  libspdlog-dev libfmt-dev libzip-dev libstb-dev libssl-dev libseccomp-dev zlib1g-dev
  libgtest-dev libgmock-dev libbenchmark-dev)

have() { dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

missing=()
for package in "${packages[@]}"; do have "$package" || missing+=("$package"); done
# Debian 12 has Boost 1.81 beside its default 1.74; Ubuntu 24.04 has 1.83.
boost_found=
for version in 1.81 1.83 1.88; do have "libboost$version-dev" && boost_found=1; done

if [ ${#missing[@]} -gt 0 ] || [ -z "$boost_found" ]; then
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "setup: not root and no sudo; please install: ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq
  if [ -z "$boost_found" ]; then
    for version in 1.81 1.83 1.88; do
      if apt-cache show "libboost$version-dev" >/dev/null 2>&1; then missing+=("libboost$version-dev"); break; fi
    done
  fi
  echo "setup: installing ${missing[*]}" >&2
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# venv DIR REQUIREMENTS: made anew where the requirements changed; a half-made one is never used.
venv() {
  local dir=$1 requirements=$2 stamp
  stamp=$(sha256sum < "$requirements" | cut -c1-64)
  [ "$(cat "$dir/.kerf-stamp" 2>/dev/null || true)" = "$stamp" ] && "$dir/bin/python" -c '' 2>/dev/null && return
  echo "setup: $dir from $requirements" >&2
  [ -x "$dir/bin/pip" ] && "$dir/bin/python" -c '' 2>/dev/null || { rm -rf "$dir"; python3 -m venv "$dir"; }
  "$dir/bin/pip" install -q --disable-pip-version-check -r "$requirements"
  echo "$stamp" > "$dir/.kerf-stamp"
}
mkdir -p build
venv build/venv tools/requirements-build.txt
[ "$what" = bench ] && venv build/venv-bench tools/requirements-bench.txt
if [ "$what" = test ]; then
  venv build/venv-test tools/requirements-test.txt
  tools/onnx_node_tests.sh build/venv-test/bin/python ||
    echo "setup: no data for the tests of single operators, which will be skipped" >&2
fi
exit 0
