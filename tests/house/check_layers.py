#!/usr/bin/env python3
"""Checks that the rooms of the source tree keep to themselves.

Arrows of #include point down only, a third-party header stands in its own room's .cc files only, no
source file is longer than 800 lines, no tracked file names a package registry or holds an open end, and
no script of the dashboard makes markup of text.

    check_layers.py ROOT     prints one line a violation; exit code 1 where there is one
"""

import os
import re
import subprocess
import sys
from collections import namedtuple

Violation = namedtuple("Violation", "path line message")

# What each room may include besides itself. workers/* rooms never see search, storage or above.
MAY_INCLUDE = {
    "core": set(),
    "search": {"core"},
    "storage": {"core"},
    "workers/graph": {"core"},
    "workers/data": {"core", "workers/graph"},
    "workers/onnx": {"core", "workers/graph"},
    "workers/engine": {"core", "workers/graph", "workers/data", "workers/onnx"},
    "workers/compress": {"core", "workers/graph", "workers/data", "workers/onnx", "workers/engine"},
    "workers/measure": {"core", "workers/graph", "workers/data", "workers/onnx", "workers/engine",
                        "workers/compress"},
    "workers/process": {"core", "workers/graph", "workers/data", "workers/onnx", "workers/engine",
                        "workers/compress", "workers/measure"},
    "scheduler": {"core", "search", "storage"},
    "api": {"core", "scheduler", "storage"},
}
MAY_INCLUDE["cli"] = set(MAY_INCLUDE)
MAY_INCLUDE["bench"] = set(MAY_INCLUDE)
# Measures kernels that a room keeps to itself.
MAY_LOOK_INSIDE = {"bench/binary_kernels.cc", "bench/engine_kernels.cc"}

# (pattern of the header's name, folders or files whose .cc files may include it, and those whose
# headers may as well). A header that is neither here nor the system's is a violation: whoever brings
# a new library says here where it lives.
THIRD_PARTY = [
    (r"dnnl|oneapi/dnnl", ["workers/engine", "bench/engine_layout.cc", "bench/engine_kernels.cc", "bench/engine_overhead.cc", "bench/binary_kernels.cc"], ["workers/engine/kernels", "workers/engine/lowering"]),
    (r"omp\.h$", ["workers/engine", "bench/binary_kernels.cc"], []),
    (r"onnx/|google/protobuf/", ["workers/onnx"], []),
    (r"zip\.h|stb_|stb/", ["workers/data"], []),
    (r"sqlite3|SQLiteCpp/", ["storage/sqlite"], []),
    (r"boost/beast", ["api", "cli"], []),
    (r"boost/url", ["api", "cli"], []),
    (r"boost/asio", ["scheduler", "api", "cli", "workers/process"],
     ["scheduler", "api", "cli", "workers/process"]),
    (r"boost/system/", ["core"], ["core"]),
    (r"seccomp", ["workers/process"], []),
    (r"openssl/", ["core/sha256.cc", "api", "workers/process", "scheduler"], []),
    (r"nlohmann/", [""], ["core/json.h"]),
    (r"(spdlog|fmt)/", ["api", "scheduler", "cli", "workers/process"], []),
    (r"CLI/", ["cli"], ["cli"]),
    (r"benchmark/", ["bench"], ["bench"]),
    (r"openvino/", ["bench/engine/openvino_peer.cc"], []),
]

# Folders whose headers are their room's own: they may show its library's types, and nobody else
# includes them.
PRIVATE = ["workers/engine/kernels", "workers/engine/lowering"]

# Folders of the kernel's and the C library's headers, and those of POSIX and x86 without a folder.
SYSTEM_FOLDERS = ("sys/", "linux/", "netinet/", "arpa/", "asm/", "net/")
SYSTEM_HEADERS = {
    "cpuid.h", "dirent.h", "dlfcn.h", "endian.h", "errno.h", "fcntl.h", "grp.h", "immintrin.h",
    "langinfo.h", "limits.h", "malloc.h", "math.h", "netdb.h", "poll.h", "pthread.h", "pty.h",
    "pwd.h", "sched.h", "signal.h", "spawn.h", "stdint.h", "stdio.h", "stdlib.h", "string.h",
    "strings.h", "sysexits.h", "syslog.h", "termios.h", "time.h", "unistd.h", "wchar.h",
}

SOURCES = (".cc", ".h", ".cpp", ".hpp", ".py", ".js", ".ts", ".tsx", ".css", ".html", ".cmake", ".sh",
           ".sql")
MOST_LINES = 800

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
OPEN_END = re.compile(r"\b(TO" r"DO|FIX" r"ME)\b")
# What would make markup or code of a text that users wrote.
MARKUP = re.compile(r"\b(innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|parseFromString|setHTMLUnsafe|srcdoc"
                    r"|document\.write(ln)?|eval|new Function)\b")
# Put together from parts, so that this file doesn't hold what it looks for.
REGISTRIES = re.compile(
    "|".join(re.escape(a + "." + b) for a, b in [
        ("pypi", "org"), ("pythonhosted", "org"), ("registry.npmjs", "org"),
        ("registry.yarnpkg", "com"), ("crates", "io"), ("proxy.golang", "org"),
        ("rubygems", "org"), ("repo.maven.apache", "org"), ("repo1.maven", "org"),
        ("conan", "io"), ("nuget", "org"), ("anaconda", "org"), ("hub.docker", "com"),
        ("docker", "io/"), ("ghcr", "io"), ("deb.debian", "org"), ("download.pytorch", "org"),
        ("huggingface", "co/"),
    ]) + "|--(extra-)?index-url" r"[ =]+\S*://", re.IGNORECASE)


def tracked_files(root):
    """Paths below root that belong to the project."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={os.path.abspath(root)}", "-C", root, "ls-files", "-z"],
        capture_output=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return sorted(name for name in listed.stdout.decode().split("\0")
                      if name and os.path.isfile(os.path.join(root, name)))
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders
                      if f not in (".git", "build", "node_modules", "__pycache__")]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in files]
    return sorted(found)


def room_of(path):
    """The room that a path lies in, or None."""
    parts = path.split("/")
    if len(parts) > 2 and parts[0] == "workers":
        return "/".join(parts[:2])
    return parts[0] if len(parts) > 1 and parts[0] in MAY_INCLUDE else None


def within(path, places):
    return any(place == "" or path == place or path.startswith(place + "/") for place in places)


def is_system(header):
    if "/" not in header and "." not in header:
        return True  # <vector>
    return header in SYSTEM_HEADERS or header.startswith(SYSTEM_FOLDERS)


def check_third_party(path, header):
    """What is wrong with including a header that isn't ours; None where nothing is."""
    for pattern, sources, headers in THIRD_PARTY:
        if not re.match(pattern, header):
            continue
        allowed = sources if path.endswith((".cc", ".cpp")) else headers
        if within(path, allowed):
            return None
        if within(path, sources):
            return f"<{header}> may stand in .cc files only"
        return f"<{header}> belongs to {', '.join(sources)}"
    if is_system(header):
        return None
    return f"<{header}> is of a library that no room has"


def check_include(path, quote, header, ours):
    """What is wrong with one #include of a file in a room."""
    room = room_of(path)
    if os.path.normpath(header) != header:
        return f"<{header}> should be named from the root, without . or .."
    if quote == "<" or header not in ours and room_of(header) is None:
        beside = os.path.normpath(os.path.join(os.path.dirname(path), header))
        if quote == '"' and beside in ours:
            return f'"{header}" should be named from the root: "{beside}"'
        return check_third_party(path, header)
    target = room_of(header)
    if target != room and within(header, PRIVATE) and path not in MAY_LOOK_INSIDE:
        return f'"{header}" is private to {target}'
    if target is None or target == room or target in MAY_INCLUDE.get(room, set()):
        return None
    if target not in MAY_INCLUDE:
        return f'"{header}" lies in {target}, which is no room'
    if room in MAY_INCLUDE.get(target, set()):
        return f'"{header}" is above {room}'
    return f'"{header}" is beside {room}, which may include {sorted(MAY_INCLUDE[room]) or "nothing"}'


def check_tree(root):
    """All violations below root."""
    files = tracked_files(root)
    ours = set(files)
    found = []
    for path in files:
        with open(os.path.join(root, path), "rb") as file:
            content = file.read()
        if b"\0" in content[:8192]:
            continue
        lines = content.decode("utf-8", errors="replace").splitlines()
        if path.endswith(SOURCES) and len(lines) > MOST_LINES:
            found.append(Violation(path, len(lines), f"longer than {MOST_LINES} lines"))
        room = room_of(path)
        if room is not None and room not in MAY_INCLUDE:
            found.append(Violation(path, 1, f"{room} is no room"))
            room = None
        for number, line in enumerate(lines, 1):
            if match := OPEN_END.search(line):
                found.append(Violation(path, number, f"an open end: {match.group(0)}"))
            if match := REGISTRIES.search(line):
                found.append(Violation(path, number, f"a registry's address: {match.group(0)}"))
            if path.startswith("web/") and path.endswith(".js") and (match := MARKUP.search(line)):
                found.append(Violation(path, number, f"makes markup of text: {match.group(0)}"))
            if room is None or not path.endswith((".cc", ".h", ".cpp", ".hpp")):
                continue
            if include := INCLUDE.match(line):
                if wrong := check_include(path, include.group(1), include.group(2), ours):
                    found.append(Violation(path, number, wrong))
    return found


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    found = check_tree(sys.argv[1])
    for violation in found:
        print(f"{violation.path}:{violation.line}: {violation.message}")
    print(f"{len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
