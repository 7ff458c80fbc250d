// Models from elsewhere: read, rebatched, written and read again.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "tests/unit/onnx/model_builder.h"
#include "workers/graph/shape_inference.h"
#include "workers/onnx/writer.h"

namespace kerf {
namespace {

std::vector<std::filesystem::path> real_models() {
  std::vector<std::filesystem::path> found;
  const char* named = std::getenv("KERF_DATA");
  for (const std::filesystem::path& root : {std::filesystem::path(named == nullptr ? "/work/shared/data" : named),
                                            std::filesystem::path(KERF_SOURCE_DIR) / "examples"}) {
    std::error_code missing;
    for (std::filesystem::recursive_directory_iterator it(root, missing), end; !missing && it != end; ++it) {
      if (it->path().filename() == "model.onnx") found.push_back(it->path());
    }
  }
  return found;
}

TEST(RealModels, AreReadAtAnyBatchAndWritten) {
  const auto models = real_models();
  if (models.empty()) GTEST_SKIP() << "no model.onnx below KERF_DATA or examples/";
  for (const auto& path : models) {
    SCOPED_TRACE(path.string());
    const auto graph = onnx::read_model(path.string());
    ASSERT_TRUE(graph.has_value()) << graph.error().message;
    for (const std::int64_t batch : {1, 7}) {
      const auto changed = graph::with_batch(*graph, batch);
      ASSERT_TRUE(changed.has_value()) << changed.error().message;
      EXPECT_EQ(changed->outputs[0].shape[0], batch);
      for (const auto& [name, value] : changed->values) {
        EXPECT_TRUE(graph::element_count(value.shape)) << name << " " << to_string(value.shape);
      }
    }
    const auto bytes = onnx::serialize_model(*graph);
    ASSERT_TRUE(bytes.has_value()) << bytes.error().message;
    const auto again = onnx::parse_model(*bytes, "again");
    ASSERT_TRUE(again.has_value()) << again.error().message;
    EXPECT_EQ(again->nodes.size(), graph->nodes.size());
    std::cout << path << ": " << graph->nodes.size() << " nodes\n";
  }
}

}  // namespace
}  // namespace kerf
