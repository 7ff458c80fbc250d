#!/usr/bin/env python3
"""Makes what the examples need and git doesn't hold, and verifies what it does hold.

Draws the pictures of shapes/ (67 MB, some seconds), skipping those whose arrays already
have the recorded hashes, then checks the committed models and data against SHA256SUMS. Exit code 0 when
everything matches, 1 otherwise. Needs Python >= 3.10 and NumPy >= 1.24.
"""

import argparse
import hashlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "shapes")]

import make_data  # noqa: E402

SUMS = HERE / "SHA256SUMS"
RECORDED = ("*.onnx", "*.npz")
GENERATED = {HERE / "shapes" / make_data.file_name(split, size)
             for split in make_data.COUNTS for size in (32, 64)}


def file_sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def committed_files():
    """Models and data that git holds, by their path below examples/."""
    found = {path for pattern in RECORDED for path in HERE.rglob(pattern)} - GENERATED
    return sorted(path.relative_to(HERE).as_posix() for path in found)


def verify():
    """Number of committed models and data files that are absent or differ from SHA256SUMS."""
    wrong = 0
    for line in SUMS.read_text().splitlines():
        expected, name = line.split(maxsplit=1)
        path = HERE / name
        found = file_sha256(path) if path.is_file() else "no file"
        if found != expected:
            print(f"{name}: expected SHA-256 {expected}, found {found}", file=sys.stderr)
            wrong += 1
    print(f"SHA256SUMS: {len(SUMS.read_text().splitlines()) - wrong} files match, {wrong} don't")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, choices=(32, 64), action="append",
                        help="draw only the pictures of this side (default: both)")
    parser.add_argument("--force", action="store_true", help="draw even what is intact")
    parser.add_argument("--record", action="store_true",
                        help="rewrite SHA256SUMS from the files, after training anew")
    options = parser.parse_args()
    if options.record:
        SUMS.write_text("".join(f"{file_sha256(HERE / name)}  {name}\n"
                                for name in committed_files()))
    arguments = [f"--size={size}" for size in options.size or ()]
    wrong = make_data.main(arguments + ["--force"] * options.force)
    return 1 if verify() + wrong else 0


if __name__ == "__main__":
    sys.exit(main())
