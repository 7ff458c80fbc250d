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
  const std::filesystem::path source = KERF_SOURCE_DIR;
  for (const std::filesystem::path& root :
       {named == nullptr ? source / "../shared/data" : std::filesystem::path(named),
        source / "data", source / "examples"}) {
    std::error_code missing;
    for (std::filesystem::recursive_directory_iterator it(root, missing), end;
         !missing && it != end; ++it) {
      if (it->path().filename() == "model.onnx") found.push_back(it->path());
    }
  }
  return found;
}

TEST(RealModels, AreReadAtAnyBatchAndWritten) {
  const auto models = real_models();
  if (models.empty()) GTEST_SKIP() << "no model.onnx below KERF_DATA, data/ or examples/";
  for (const auto& path : models) {
    SCOPED_TRACE(path.string());
    const auto graph = onnx::read_model(path.string());
    ASSERT_TRUE(graph.has_value()) << graph.error().message;
    for (const std::int64_t batch : {1, 7}) {
      const auto changed = graph::with_batch(*graph, batch);
      ASSERT_TRUE(changed.has_value()) << changed.error().message;
      EXPECT_EQ(changed->outputs[0].shape[0], batch);
      for (const auto& [name, value] : changed->values) {
        EXPECT_TRUE(graph::element_count(value.shape))
            << name << " " << graph::to_string(value.shape);
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
