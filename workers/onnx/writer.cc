#include "workers/onnx/writer.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <unordered_set>

#include "workers/graph/shapes/call.h"
#include "workers/onnx/files.h"
#include "workers/onnx/limits.h"
#include "workers/onnx/lowering.h"
#include "workers/onnx/tensor_reader.h"

namespace kerf::onnx {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;
using graph::shapes::Value;
using ::onnx::AttributeProto;
using ::onnx::TensorProto;
using ::onnx::ValueInfoProto;

bool is_packed(DType dtype) { return dtype == DType::kS4 || dtype == DType::kU4; }

void write_tensor(const Tensor& tensor, TensorProto& proto) {
  proto.set_data_type(code_of(tensor.dtype()));
  for (const std::int64_t dim : tensor.shape()) proto.add_dims(dim);
  std::string* raw = proto.mutable_raw_data();
  if (!is_packed(tensor.dtype())) {
    raw->assign(reinterpret_cast<const char*>(tensor.raw()), tensor.bytes());
    return;
  }
  raw->assign((static_cast<std::size_t>(tensor.elements()) + 1) / 2, '\0');
  const auto values = tensor.as<std::uint8_t>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    auto& byte = (*raw)[i / 2];
    byte =
        static_cast<char>(static_cast<std::uint8_t>(byte) |
                          static_cast<std::uint8_t>((values[i] & 0x0FU) << (i % 2 == 0 ? 0U : 4U)));
  }
}

Result<void> write_attribute(const Node& node, const std::string& name,
                             const graph::Attribute& value, AttributeProto& proto) {
  proto.set_name(name);
  if (const auto* i = std::get_if<std::int64_t>(&value)) {
    proto.set_type(AttributeProto::INT);
    proto.set_i(*i);
  } else if (const auto* f = std::get_if<float>(&value)) {
    proto.set_type(AttributeProto::FLOAT);
    proto.set_f(*f);
  } else if (const auto* s = std::get_if<std::string>(&value)) {
    proto.set_type(AttributeProto::STRING);
    proto.set_s(*s);
  } else if (const auto* ints = std::get_if<std::vector<std::int64_t>>(&value)) {
    proto.set_type(AttributeProto::INTS);
    for (const std::int64_t item : *ints) proto.add_ints(item);
  } else if (const auto* floats = std::get_if<std::vector<float>>(&value)) {
    proto.set_type(AttributeProto::FLOATS);
    for (const float item : *floats) proto.add_floats(item);
  } else if (const auto* strings = std::get_if<std::vector<std::string>>(&value)) {
    proto.set_type(AttributeProto::STRINGS);
    for (const std::string& item : *strings) proto.add_strings(item);
  } else if (const auto* tensor = std::get_if<Tensor>(&value)) {
    proto.set_type(AttributeProto::TENSOR);
    write_tensor(*tensor, *proto.mutable_t());
  } else {
    return unimplemented("node " + node.label() + ": attribute '" + name +
                         "' holds a graph, which is not written");
  }
  return {};
}

void write_value(const std::string& name, const Value& value, ValueInfoProto& proto) {
  proto.set_name(name);
  auto* type = proto.mutable_type()->mutable_tensor_type();
  type->set_elem_type(code_of(value.dtype));
  auto* shape = type->mutable_shape();
  for (const std::int64_t dim : value.shape) {
    auto* to = shape->add_dim();
    if (dim >= 0)
      to->set_dim_value(dim);
    else if (dim == graph::shapes::kBatchSymbol)
      to->set_dim_param("N");
    else if (dim != graph::shapes::kUnknown)
      to->set_dim_param("D" + std::to_string(-dim));
  }
}

Result<void> write_node(const Node& node, ::onnx::NodeProto& proto) {
  proto.set_name(node.name);
  proto.set_op_type(node.op);
  if (!node.domain.empty()) proto.set_domain(node.domain);
  std::size_t given = node.inputs.size();
  while (given > 0 && node.inputs[given - 1].empty()) --given;
  for (std::size_t i = 0; i < given; ++i) proto.add_input(node.inputs[i]);
  for (const std::string& output : node.outputs) proto.add_output(output);
  for (const auto& [name, value] : node.attributes) {
    if (name.starts_with("kerf_")) continue;
    KERF_TRY(write_attribute(node, name, value, *proto.add_attribute()));
  }
  return {};
}

/// Ops, attributes and types that came between opset 18 and 21.
bool is_newer(const Node& node, graph::shapes::Inference& inference) {
  const std::string& op = node.op;
  if (op.starts_with("Bitwise")) return true;
  if (op == "Pad") return node.text("mode", "constant") == "wrap";
  if (op == "Resize") {
    return node.attributes.contains("antialias") ||
           node.text("coordinate_transformation_mode", "") == "half_pixel_symmetric";
  }
  if (op == "AveragePool" || op == "LpPool") {
    return node.attributes.contains("dilations") ||
           (op == "LpPool" && node.integer("ceil_mode", 0) != 0);
  }
  if (op == "ScatterElements" || op == "ScatterND") {
    const std::string how = node.text("reduction", "none");
    return how == "max" || how == "min";
  }
  const Value* x = node.has_input(0) ? inference.find(node.inputs[0]) : nullptr;
  if (op == "GridSample") return x != nullptr && x->shape.size() != 4;
  if (op == "ReduceMax" || op == "ReduceMin") return x != nullptr && x->dtype == DType::kBool;
  return false;
}

/// 21 where something occurs that opset 17 cannot say.
std::int64_t opset_for(const Graph& graph, graph::shapes::Inference& inference) {
  const auto is_wide = [](DType dtype) {
    return is_packed(dtype) || dtype == DType::kS16 || dtype == DType::kU16;
  };
  const auto packed = [](const auto& value) { return is_packed(value.dtype); };
  if (std::any_of(graph.inputs.begin(), graph.inputs.end(), packed)) return 21;
  for (const auto& [name, tensor] : graph.initializers) {
    if (is_packed(tensor.dtype())) return 21;
  }
  for (const Node& node : graph.nodes) {
    if (is_newer(node, inference)) return 21;
    if (node.op == "Cast" && node.integer("to", 0) > 20) return 21;
    if (node.op != "QuantizeLinear" && node.op != "DequantizeLinear") continue;
    if (node.integer("block_size", 0) != 0 || node.integer("output_dtype", 0) != 0) return 21;
    for (const std::string& name : {node.inputs[0], node.outputs[0]}) {
      const Value* value = inference.find(name);
      if (value != nullptr && is_wide(value->dtype)) return 21;
    }
  }
  return 17;
}

}  // namespace

Result<std::string> serialize_model(const Graph& source) {
  KERF_TRY(source.check());
  graph::shapes::Inference inference(source);
  KERF_TRY(inference.begin());
  for (const Node& node : source.nodes) KERF_TRY(inference.infer(node));

  const std::int64_t opset = opset_for(source, inference);
  KERF_ASSIGN(const Graph graph, lower_to_opset(source, inference, opset));

  ::onnx::ModelProto model;
  model.set_ir_version(opset == 17 ? 8 : 10);
  model.set_producer_name("kerf");
  auto* import = model.add_opset_import();
  import->set_domain("");
  import->set_version(opset);
  for (const auto& [key, value] : graph.metadata) {
    auto* entry = model.add_metadata_props();
    entry->set_key(key);
    entry->set_value(value);
  }

  auto* proto = model.mutable_graph();
  proto->set_name(graph.name.empty() ? "kerf" : graph.name);
  std::unordered_set<std::string> read;
  for (const Node& node : graph.nodes) {
    read.insert(node.inputs.begin(), node.inputs.end());
    KERF_TRY(write_node(node, *proto->add_node()));
  }
  for (const auto& output : graph.outputs) read.insert(output.name);
  std::uint64_t bytes = 0;
  for (const auto& [name, tensor] : graph.initializers) {
    if (read.contains(name)) bytes += tensor.bytes();
  }
  const Error too_large{
      ErrorCode::kResourceExhausted,
      "the model '" + graph.name + "' is larger than 2 GiB, the limit of an ONNX file"};
  if (bytes >= kMaxMessageBytes) return too_large;
  for (const auto& [name, tensor] : graph.initializers) {
    if (!read.contains(name)) continue;
    TensorProto& to = *proto->add_initializer();
    to.set_name(name);
    write_tensor(tensor, to);
  }
  for (const auto& input : graph.inputs) {
    const Value* value = inference.find(input.name);
    write_value(input.name, *value, *proto->add_input());
  }
  for (const auto& output : graph.outputs) {
    const Value* value = inference.find(output.name);
    if (value == nullptr)
      return invalid_argument("graph output '" + output.name + "' has no producer");
    write_value(output.name, *value, *proto->add_output());
  }
  if (model.ByteSizeLong() > kMaxMessageBytes) return too_large;
  std::string out;
  if (!model.SerializeToString(&out))
    return internal_error("the model '" + graph.name + "' could not be serialized");
  return out;
}

Result<void> write_model(const Graph& graph, const std::string& path) {
  KERF_ASSIGN(const std::string bytes, serialize_model(graph));
  return write_whole_file(path, bytes);
}

}  // namespace kerf::onnx
