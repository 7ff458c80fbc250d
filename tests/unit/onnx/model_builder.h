#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

#include "workers/graph/graph.h"
#include "workers/onnx/reader.h"

namespace kerf::testing {

/// Makes ONNX models of any opset for tests, one call a part.
class ModelBuilder {
 public:
  explicit ModelBuilder(std::int64_t opset = 13) {
    model.set_ir_version(8);
    auto* import = model.add_opset_import();
    import->set_domain("");
    import->set_version(opset);
    model.mutable_graph()->set_name("test");
  }

  /// A dimension of -1 is free.
  ModelBuilder& input(const std::string& name, const std::vector<std::int64_t>& shape,
                      int type = 1) {
    describe(*model.mutable_graph()->add_input(), name, shape, type);
    return *this;
  }
  ModelBuilder& output(const std::string& name, int type = 1) {
    auto* value = model.mutable_graph()->add_output();
    value->set_name(name);
    value->mutable_type()->mutable_tensor_type()->set_elem_type(type);
    return *this;
  }
  ModelBuilder& floats(const std::string& name, const std::vector<std::int64_t>& shape,
                       std::vector<float> values = {}) {
    *model.mutable_graph()->add_initializer() = float_tensor(name, shape, std::move(values));
    return *this;
  }
  ModelBuilder& integers(const std::string& name, const std::vector<std::int64_t>& shape,
                         const std::vector<std::int64_t>& values) {
    auto* tensor = model.mutable_graph()->add_initializer();
    tensor->set_name(name);
    tensor->set_data_type(::onnx::TensorProto::INT64);
    for (const auto dim : shape) tensor->add_dims(dim);
    for (const auto value : values) tensor->add_int64_data(value);
    return *this;
  }
  /// A tensor of any type from raw bytes.
  ModelBuilder& raw(const std::string& name, int type, const std::vector<std::int64_t>& shape,
                    const std::string& bytes) {
    auto* tensor = model.mutable_graph()->add_initializer();
    tensor->set_name(name);
    tensor->set_data_type(type);
    for (const auto dim : shape) tensor->add_dims(dim);
    tensor->set_raw_data(bytes);
    return *this;
  }
  ModelBuilder& node(const std::string& op, const std::vector<std::string>& inputs,
                     const std::vector<std::string>& outputs, const std::string& name = "",
                     const std::string& domain = "") {
    auto* node = model.mutable_graph()->add_node();
    node->set_op_type(op);
    if (!name.empty()) node->set_name(name);
    if (!domain.empty()) node->set_domain(domain);
    for (const auto& item : inputs) node->add_input(item);
    for (const auto& item : outputs) node->add_output(item);
    return *this;
  }
  // Attributes of the last node.
  ModelBuilder& set(const std::string& name, std::int64_t value) {
    auto* attribute = add(name, ::onnx::AttributeProto::INT);
    attribute->set_i(value);
    return *this;
  }
  ModelBuilder& set(const std::string& name, int value) {
    return set(name, static_cast<std::int64_t>(value));
  }
  ModelBuilder& set(const std::string& name, float value) {
    add(name, ::onnx::AttributeProto::FLOAT)->set_f(value);
    return *this;
  }
  ModelBuilder& set(const std::string& name, const char* value) {
    add(name, ::onnx::AttributeProto::STRING)->set_s(value);
    return *this;
  }
  ModelBuilder& set(const std::string& name, std::initializer_list<std::int64_t> values) {
    auto* attribute = add(name, ::onnx::AttributeProto::INTS);
    for (const auto value : values) attribute->add_ints(value);
    return *this;
  }
  ModelBuilder& set_floats(const std::string& name, std::initializer_list<float> values) {
    auto* attribute = add(name, ::onnx::AttributeProto::FLOATS);
    for (const auto value : values) attribute->add_floats(value);
    return *this;
  }
  ModelBuilder& set(const std::string& name, const ::onnx::TensorProto& value) {
    *add(name, ::onnx::AttributeProto::TENSOR)->mutable_t() = value;
    return *this;
  }
  ModelBuilder& import(const std::string& domain, std::int64_t version) {
    auto* entry = model.add_opset_import();
    entry->set_domain(domain);
    entry->set_version(version);
    return *this;
  }

  static ::onnx::TensorProto float_tensor(const std::string& name,
                                          const std::vector<std::int64_t>& shape,
                                          std::vector<float> values) {
    ::onnx::TensorProto tensor;
    tensor.set_name(name);
    tensor.set_data_type(::onnx::TensorProto::FLOAT);
    std::int64_t count = 1;
    for (const auto dim : shape) {
      tensor.add_dims(dim);
      count *= dim;
    }
    if (values.empty()) values.assign(static_cast<std::size_t>(count), 0.5F);
    for (const float value : values) tensor.add_float_data(value);
    return tensor;
  }

  [[nodiscard]] std::string bytes() const { return model.SerializeAsString(); }
  [[nodiscard]] Result<graph::Graph> read() const {
    return onnx::parse_model(bytes(), "test.onnx");
  }

  ::onnx::ModelProto model;

 private:
  static void describe(::onnx::ValueInfoProto& value, const std::string& name,
                       const std::vector<std::int64_t>& shape, int type) {
    value.set_name(name);
    auto* tensor = value.mutable_type()->mutable_tensor_type();
    tensor->set_elem_type(type);
    tensor->mutable_shape();
    for (const auto dim : shape) {
      auto* to = tensor->mutable_shape()->add_dim();
      if (dim < 0)
        to->set_dim_param("N");
      else
        to->set_dim_value(dim);
    }
  }
  ::onnx::AttributeProto* add(const std::string& name, ::onnx::AttributeProto::AttributeType type) {
    auto* attribute =
        model.mutable_graph()->mutable_node(model.graph().node_size() - 1)->add_attribute();
    attribute->set_name(name);
    attribute->set_type(type);
    return attribute;
  }
};

/// A folder of this test's own, gone afterwards.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kerf-onnx-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string write(const std::string& name, const std::string& bytes) const {
    const auto file = path / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
    return file.string();
  }

  std::filesystem::path path;
};

/// Reads or fails the test with the reader's message.
inline graph::Graph must_read(const ModelBuilder& builder) {
  auto graph = builder.read();
  if (!graph.has_value()) throw std::runtime_error(graph.error().message);
  return *graph;
}

}  // namespace kerf::testing
