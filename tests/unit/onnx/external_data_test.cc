#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/onnx/model_builder.h"

namespace kerf {
namespace {

using ::testing::HasSubstr;
using testing::ModelBuilder;
using testing::TemporaryFolder;

struct External {
  std::string location = "weights.bin";
  std::string offset = "4";
  std::string length = "16";
};

std::string model(const External& external) {
  ModelBuilder builder = ModelBuilder(13)
                             .input("x", {1, 4})
                             .floats("w", {4})
                             .node("Mul", {"x", "w"}, {"y"})
                             .output("y");
  auto* tensor = builder.model.mutable_graph()->mutable_initializer(0);
  tensor->clear_float_data();
  tensor->set_data_location(::onnx::TensorProto::EXTERNAL);
  const auto add = [&](const char* key, const std::string& value) {
    if (value.empty()) return;
    auto* entry = tensor->add_external_data();
    entry->set_key(key);
    entry->set_value(value);
  };
  add("location", external.location);
  add("offset", external.offset);
  add("length", external.length);
  return builder.bytes();
}

/// Four bytes of something else, then 1, 2, 3, 4.
std::string weights() {
  const float values[] = {0, 1, 2, 3, 4};
  return {reinterpret_cast<const char*>(values), sizeof values};
}

class ExternalData : public ::testing::Test {
 protected:
  void SetUp() override {
    inside.write("models/weights.bin", weights());
    inside.write("models/sub/weights.bin", weights());
    inside.write("secret.bin", weights());
  }
  Result<graph::Graph> read(const External& external, const onnx::ReadOptions& options = {}) {
    return onnx::read_model(inside.write("models/m.onnx", model(external)), options);
  }
  void expect_refused(const External& external, const std::string& expected) {
    const auto graph = read(external);
    ASSERT_FALSE(graph.has_value()) << external.location;
    EXPECT_THAT(graph.error().message, HasSubstr("initializer 'w'"));
    EXPECT_THAT(graph.error().message, HasSubstr(expected));
    EXPECT_EQ(graph.error().message.find('\n'), std::string::npos);
  }
  TemporaryFolder inside;
};

TEST_F(ExternalData, IsReadFromTheModelsFolder) {
  const auto graph = read({});
  ASSERT_TRUE(graph.has_value()) << graph.error().message;
  EXPECT_EQ(graph->constant("w")->to_floats(), (std::vector<float>{1, 2, 3, 4}));
}

TEST_F(ExternalData, IsReadFromAFolderBelowAndWithoutALength) {
  const auto graph = read({"sub/weights.bin", "4", ""});
  ASSERT_TRUE(graph.has_value()) << graph.error().message;
  EXPECT_EQ(graph->constant("w")->to_floats()[3], 4.0F);
}

TEST_F(ExternalData, DotDotOutOfTheFolderIsRefused) {
  expect_refused({"../secret.bin"}, "leads out of the model's own folder");
  expect_refused({"sub/../../secret.bin"}, "leads out of the model's own folder");
  expect_refused({"./sub/.././../secret.bin"}, "leads out of the model's own folder");
  expect_refused({".."}, "leads out of the model's own folder");
}

TEST_F(ExternalData, DotDotThatStaysInsideIsFine) {
  EXPECT_TRUE(read({"sub/../weights.bin"}).has_value());
}

TEST_F(ExternalData, AbsolutePathsAreRefused) {
  expect_refused({(inside.path / "models/weights.bin").string()},
                 "leads out of the model's own folder");
  expect_refused({"/etc/passwd"}, "leads out of the model's own folder");
  expect_refused({"//etc/passwd"}, "leads out of the model's own folder");
}

TEST_F(ExternalData, SymbolicLinksAreRefusedWhereverTheyLead) {
  ASSERT_EQ(::symlink("../secret.bin", (inside.path / "models/link.bin").c_str()), 0);
  ASSERT_EQ(::symlink("weights.bin", (inside.path / "models/inner.bin").c_str()), 0);
  ASSERT_EQ(::symlink("..", (inside.path / "models/up").c_str()), 0);
  expect_refused({"link.bin"}, "symbolic link");
  expect_refused({"inner.bin"}, "symbolic link");
  expect_refused({"up/secret.bin"}, "symbolic link");
}

TEST_F(ExternalData, ProcLinksAreRefused) {
  expect_refused({"/proc/self/fd/0"}, "leads out of the model's own folder");
}

TEST_F(ExternalData, WhatIsNoRegularFileIsRefused) {
  ASSERT_EQ(::mkfifo((inside.path / "models/fifo").c_str(), 0600), 0);
  expect_refused({"fifo"}, "not a regular file");
  expect_refused({"sub"}, "not a regular file");
}

TEST_F(ExternalData, MissingFilesAndNamesAreRefused) {
  expect_refused({"nowhere.bin"}, "No such file");
  expect_refused({""}, "not a file name");
  expect_refused({std::string("weights.bin\0.txt", 16)}, "not a file name");
}

TEST_F(ExternalData, RangesOutsideTheFileAreRefused) {
  expect_refused({"weights.bin", "8", "16"}, "at offset 8 are needed");
  expect_refused({"weights.bin", "18446744073709551615", "16"}, "are needed");
  expect_refused({"weights.bin", "99999999999999999999", "16"}, "isn't a number");
  expect_refused({"weights.bin", "-4", "16"}, "isn't a number");
  expect_refused({"weights.bin", "4", "12"}, "needs 16 bytes");
  expect_refused({"weights.bin", "4", "99999999999"}, "needs 16 bytes");
}

TEST_F(ExternalData, CountsTowardsTheSizeLimit) {
  const auto size = std::filesystem::file_size(inside.write("models/m.onnx", model({})));
  EXPECT_TRUE(read({}, {.allow_external_data = true, .max_bytes = size + 16}).has_value());
  const auto graph = read({}, {.allow_external_data = true, .max_bytes = size + 15});
  ASSERT_FALSE(graph.has_value());
  EXPECT_THAT(graph.error().message, HasSubstr("larger than the limit"));
}

TEST_F(ExternalData, IsRefusedWhereItIsNotAllowed) {
  const auto graph = read({}, {.allow_external_data = false});
  ASSERT_FALSE(graph.has_value());
  EXPECT_THAT(graph.error().message, HasSubstr("external data is not allowed here"));
}

}  // namespace
}  // namespace kerf
