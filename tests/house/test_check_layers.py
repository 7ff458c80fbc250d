"""check_layers.py finds each kind of violation, and nothing in a clean tree."""

import os
import tempfile
import unittest

import check_layers

CLEAN = {
    "core/result.h": "#pragma once\n#include <boost/system/result.hpp>\n#include <vector>\n",
    "core/json.h": '#include <nlohmann/json.hpp>\n#include "core/result.h"\n',
    "core/sha256.cc": "#include <openssl/evp.h>\n#include <sys/stat.h>\n",
    "search/front.h": '#include "core/json.h"\n#include "search/space.h"\n',
    "search/space.h": '#include "core/result.h"\n',
    "storage/sqlite/db.cc": '#include <sqlite3.h>\n#include "core/result.h"\n',
    "storage/store.h": '#include "core/json.h"\n',
    "workers/graph/graph.h": '#include "core/result.h"\n',
    "workers/onnx/reader.cc": '#include <onnx/onnx_pb.h>\n#include "workers/graph/graph.h"\n',
    "workers/engine/run.cc": '#include <dnnl.hpp>\n#include "workers/graph/graph.h"\n',
    "workers/process/box.cc": "#include <seccomp.h>\n#include <linux/landlock.h>\n",
    "scheduler/core.h": '#include "search/front.h"\n#include "storage/store.h"\n',
    "scheduler/net.h": "#include <boost/asio/awaitable.hpp>\n",
    "api/server.cc": '#include <boost/beast/http.hpp>\n#include "scheduler/core.h"\n',
    "cli/main.cc": '#include "api/server.h"\n#include "workers/graph/graph.h"\n',
    "api/server.h": "#pragma once\n",
    "web/app.js": "made.textContent = text;\n",
    "README.md": "A text.\n",
}

# path, content, a piece of the message.
VIOLATIONS = [
    ("core/bad.h", '#include "search/front.h"\n', "is above core"),
    ("search/bad.h", '#include "storage/store.h"\n', "is beside search"),
    ("storage/bad.cc", '#include "search/front.h"\n', "is beside storage"),
    ("storage/bad.cc", '#include "scheduler/core.h"\n', "is above storage"),
    ("workers/graph/bad.h", '#include "storage/store.h"\n', "is beside workers/graph"),
    ("workers/graph/bad.h", '#include "workers/onnx/reader.h"\n', "is above workers/graph"),
    ("workers/data/bad.cc", '#include "workers/onnx/reader.h"\n', "is beside workers/data"),
    ("workers/engine/bad.cc", '  #  include "workers/process/box.h"\n', "is above workers/engine"),
    ("workers/graph/bad.h", '#include "core/../search/front.h"\n', "without . or .."),
    ("scheduler/bad.cc", '#include "workers/graph/graph.h"\n', "is beside scheduler"),
    ("api/bad.cc", '#include "search/front.h"\n', "is beside api"),
    ("api/bad.cc", '#include "cli/main.h"\n', "is above api"),
    ("api/bad.cc", '#include "server.h"\n', "named from the root"),
    ("workers/engine/bad.h", "#include <dnnl.hpp>\n", ".cc files only"),
    ("workers/engine/bad.h", "#include <oneapi/dnnl/dnnl.hpp>\n", ".cc files only"),
    ("scheduler/bad.cc", "#include <sqlite3.h>\n", "belongs to storage/sqlite"),
    ("storage/bad.cc", "#include <sqlite3.h>\n", "belongs to storage/sqlite"),
    ("workers/compress/bad.cc", "#include <google/protobuf/message.h>\n", "belongs to workers/onnx"),
    ("scheduler/bad.cc", "#include <boost/beast/http.hpp>\n", "belongs to api, cli"),
    ("search/bad.cc", "#include <boost/asio/awaitable.hpp>\n", "belongs to scheduler"),
    ("core/bad.cc", "#include <openssl/evp.h>\n", "belongs to core/sha256.cc"),
    ("workers/measure/bad.cc", "#include <seccomp.h>\n", "belongs to workers/process"),
    ("search/bad.h", "#include <nlohmann/json.hpp>\n", ".cc files only"),
    ("core/bad.cc", "#include <eigen3/Eigen/Core>\n", "no room has"),
    ("core/bad.cc", '#include "zip.h"\n', "belongs to workers/data"),
    ("workers/magic/bad.cc", "\n", "is no room"),
    ("search/long.py", "x = 1\n" * 801, "longer than 800 lines"),
    ("docs/bad.md", "See https://pypi" + ".org/simple\n", "a registry's address"),
    ("docs/bad.txt", "--index" + "-url https://example.test/simple\n", "a registry's address"),
    ("web/bad.js", "// TO" + "DO: more\n", "an open end"),
    ("web/bad.js", "row.innerHTML = study.name;\n", "makes markup of text"),
    ("web/bad.js", "document.write(study.name);\n", "makes markup of text"),
    ("core/bad.cc", "// FIX" + "ME\n", "an open end"),
]


class CheckLayersTest(unittest.TestCase):
    def check(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, content in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)) or root, exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(content)
            return check_layers.check_tree(root)

    def test_clean_tree_has_no_violation(self):
        self.assertEqual(self.check(CLEAN), [])

    def test_each_violation_is_found_alone(self):
        for path, content, message in VIOLATIONS:
            with self.subTest(path=path, content=content[:60]):
                found = self.check({**CLEAN, path: content})
                self.assertEqual(len(found), 1, found)
                self.assertEqual(found[0].path, path)
                self.assertIn(message, found[0].message)

    def test_build_folders_and_binary_files_are_left_out(self):
        found = self.check({**CLEAN, "build/x/bad.cc": "// TO" + "DO\n",
                            "docs/picture.bin": "\0TO" + "DO\n"})
        self.assertEqual(found, [])

    def test_every_room_is_a_folder_of_this_tree(self):
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        for room in check_layers.MAY_INCLUDE:
            self.assertTrue(os.path.isdir(os.path.join(root, room)), room)


if __name__ == "__main__":
    unittest.main()
