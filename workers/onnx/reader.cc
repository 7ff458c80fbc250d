#include "workers/onnx/reader.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <new>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "workers/onnx/canonical.h"
#include "workers/onnx/files.h"
#include "workers/onnx/functions.h"
#include "workers/onnx/limits.h"
#include "workers/onnx/tensor_reader.h"
#include "workers/onnx/wire_scan.h"

namespace kerf::onnx {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;
using graph::ValueInfo;
using ::onnx::AttributeProto;
using ::onnx::GraphProto;
using ::onnx::ModelProto;
using ::onnx::NodeProto;
using ::onnx::TypeProto;
using ::onnx::ValueInfoProto;

/// Messages are one line, whatever names a file holds.
Error one_line(Error error) {
  constexpr std::size_t kLongest = 1000;
  std::string clean;
  for (const char c : error.message) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      constexpr const char* kHex = "0123456789abcdef";
      clean += {'\\', 'x', kHex[byte >> 4U], kHex[byte & 0xFU]};
    } else {
      clean += c;
    }
    if (clean.size() > kLongest) {
      while (!clean.empty() && (static_cast<unsigned char>(clean.back()) & 0xC0U) == 0x80U)
        clean.pop_back();
      clean.pop_back();
      clean += " …";
      break;
    }
  }
  error.message = std::move(clean);
  return error;
}

Result<std::int64_t> opset_of(const ModelProto& model) {
  std::optional<std::int64_t> version;
  std::unordered_set<std::string> seen;
  for (const auto& import : model.opset_import()) {
    const std::string domain = import.domain() == "ai.onnx" ? "" : import.domain();
    if (!seen.insert(domain).second) {
      return invalid_argument("opset of domain '" + domain + "' is imported twice");
    }
    if (domain.empty()) version = import.version();
  }
  if (!version)
    return invalid_argument("the model imports no opset of ai.onnx; is it an ONNX model?");
  if (*version < kMinOpset || *version > kMaxOpset) {
    return unimplemented("opset " + std::to_string(*version) + " is not supported, expected " +
                         std::to_string(kMinOpset) + " to " + std::to_string(kMaxOpset) +
                         "; convert it with onnx.version_converter");
  }
  return *version;
}

Result<ValueInfo> value_info(const ValueInfoProto& proto, const std::string& what,
                             bool may_be_empty = false) {
  const std::string label = what + " '" + proto.name() + "'";
  if (proto.name().empty()) return invalid_argument("a " + what + " has no name");
  if (!proto.has_type() || proto.type().value_case() != TypeProto::kTensorType) {
    const bool other = proto.has_type() && proto.type().value_case() != TypeProto::VALUE_NOT_SET;
    return other ? unimplemented(label +
                                 ": only tensors are supported, not sequences, maps or optionals")
                 : invalid_argument(label + ": has no type");
  }
  const auto& tensor = proto.type().tensor_type();
  const auto dtype = dtype_of(tensor.elem_type());
  if (!dtype) {
    return unimplemented(label + ": element type " + std::to_string(tensor.elem_type()) +
                         " is not supported");
  }
  ValueInfo info{proto.name(), canonical_dtype(*dtype), {}};
  if (!tensor.has_shape()) {
    if (what == "graph output") return info;
    return invalid_argument(label + ": has no shape; save the model with the shapes of its inputs");
  }
  if (tensor.shape().dim_size() > static_cast<int>(kMaxRank)) {
    return invalid_argument(label + ": has rank " + std::to_string(tensor.shape().dim_size()) +
                            ", at most 16 is supported");
  }
  for (const auto& dim : tensor.shape().dim()) {
    const bool known = dim.value_case() == ::onnx::TensorShapeProto_Dimension::kDimValue;
    if (known && dim.dim_value() <= 0 && !may_be_empty) {
      return invalid_argument(label + ": has the dimension " + std::to_string(dim.dim_value()) +
                              ", expected a positive one");
    }
    info.shape.push_back(known ? std::max<std::int64_t>(dim.dim_value(), -1) : -1);
  }
  return info;
}

Result<std::shared_ptr<const Graph>> read_body(GraphProto& proto, const std::string& what,
                                               DataFolder& folder);

Result<graph::Attribute> attribute(AttributeProto& proto, const std::string& what,
                                   DataFolder& folder) {
  if (!proto.ref_attr_name().empty())
    return unimplemented(what + ": refers to a function's attribute");
  AttributeProto::AttributeType type = proto.type();
  if (type == AttributeProto::UNDEFINED) {  // files of IR 1 don't say
    type = proto.has_f()              ? AttributeProto::FLOAT
           : proto.has_i()            ? AttributeProto::INT
           : proto.has_s()            ? AttributeProto::STRING
           : proto.has_t()            ? AttributeProto::TENSOR
           : proto.has_g()            ? AttributeProto::GRAPH
           : proto.floats_size() > 0  ? AttributeProto::FLOATS
           : proto.strings_size() > 0 ? AttributeProto::STRINGS
                                      : AttributeProto::INTS;
  }
  switch (type) {
    case AttributeProto::FLOAT:
      return graph::Attribute(proto.f());
    case AttributeProto::INT:
      return graph::Attribute(static_cast<std::int64_t>(proto.i()));
    case AttributeProto::STRING:
      return graph::Attribute(proto.s());
    case AttributeProto::FLOATS:
      return graph::Attribute(std::vector<float>(proto.floats().begin(), proto.floats().end()));
    case AttributeProto::INTS:
      return graph::Attribute(std::vector<std::int64_t>(proto.ints().begin(), proto.ints().end()));
    case AttributeProto::STRINGS:
      return graph::Attribute(
          std::vector<std::string>(proto.strings().begin(), proto.strings().end()));
    case AttributeProto::TENSOR: {
      KERF_ASSIGN(Tensor tensor, take_tensor(*proto.mutable_t(), what, folder));
      return graph::Attribute(std::move(tensor));
    }
    case AttributeProto::GRAPH: {
      KERF_ASSIGN(auto body, read_body(*proto.mutable_g(), what, folder));
      return graph::Attribute(std::move(body));
    }
    case AttributeProto::GRAPHS:
      return unimplemented(what + ": lists of graphs are not supported");
    default:
      return unimplemented(what + ": sparse tensors, types and their lists are not supported");
  }
}

/// Names that more than one thing would have are refused; those that are missing are made up.
class Names {
 public:
  std::string give(const NodeProto& proto) {
    std::string stem = proto.op_type() + ":";
    for (const std::string& output : proto.output()) {
      if (output.empty()) continue;
      stem += output;
      break;
    }
    std::string name = stem;
    for (int i = 1; nodes.contains(name); ++i) name = stem + "_" + std::to_string(i);
    nodes.insert(name);
    return name;
  }

  std::unordered_set<std::string> nodes;
  std::unordered_set<std::string> values;
  std::unordered_map<std::string, std::size_t> readers;
};

Result<Node> read_node(NodeProto& proto, std::string name, DataFolder& folder) {
  Node node;
  node.name = std::move(name);
  node.op = proto.op_type();
  node.domain = proto.domain() == "ai.onnx" ? "" : proto.domain();
  if (node.op.empty()) return invalid_argument("node '" + node.name + "' has no op");
  node.inputs.assign(proto.input().begin(), proto.input().end());
  node.outputs.assign(proto.output().begin(), proto.output().end());
  for (AttributeProto& item : *proto.mutable_attribute()) {
    const std::string what = "node " + node.label() + ": attribute '" + item.name() + "'";
    if (item.name().empty()) return invalid_argument(what + ": has no name");
    KERF_ASSIGN(graph::Attribute value, attribute(item, what, folder));
    if (!node.attributes.emplace(item.name(), std::move(value)).second) {
      return invalid_argument(what + ": stands twice");
    }
  }
  return node;
}

Result<void> read_initializers(GraphProto& proto, Graph& graph, DataFolder& folder) {
  if (proto.sparse_initializer_size() > 0) {
    return unimplemented("sparse initializer '" + proto.sparse_initializer(0).values().name() +
                         "' is not supported; save the weights dense");
  }
  for (auto& item : *proto.mutable_initializer()) {
    const std::string name = item.name();
    const std::string what = "initializer '" + name + "'";
    if (name.empty()) return invalid_argument("an initializer has no name");
    if (graph.initializers.contains(name)) return invalid_argument(what + ": stands twice");
    KERF_ASSIGN(Tensor tensor, take_tensor(item, what, folder));
    graph.initializers.emplace(name, std::move(tensor));
  }
  google::protobuf::RepeatedPtrField<::onnx::TensorProto>().Swap(proto.mutable_initializer());
  return {};
}

/// A value inside a body: what isn't declared follows from the nodes.
Result<ValueInfo> inner_value(const ValueInfoProto& proto, const std::string& what) {
  ValueInfo info{proto.name(), DType::kF32, {}};
  if (proto.name().empty()) return invalid_argument(what + ": a value has no name");
  if (!proto.has_type() || proto.type().value_case() == TypeProto::VALUE_NOT_SET) return info;
  if (proto.type().value_case() != TypeProto::kTensorType) {
    return unimplemented(what + ": value '" + proto.name() +
                         "': only tensors are supported, not sequences, maps or optionals");
  }
  const auto& tensor = proto.type().tensor_type();
  if (const auto dtype = dtype_of(tensor.elem_type())) info.dtype = canonical_dtype(*dtype);
  if (tensor.shape().dim_size() > static_cast<int>(kMaxRank)) {
    return invalid_argument(what + ": value '" + proto.name() + "' has rank " +
                            std::to_string(tensor.shape().dim_size()) +
                            ", at most 16 is supported");
  }
  for (const auto& dim : tensor.shape().dim()) {
    const bool known = dim.value_case() == ::onnx::TensorShapeProto_Dimension::kDimValue;
    info.shape.push_back(known ? std::max<std::int64_t>(dim.dim_value(), -1) : -1);
  }
  return info;
}

/// The graph of an If, Loop or Scan as the file has it; its names are looked at when it takes the
/// place of its node. Depth and sizes are bounded by scan_model.
Result<std::shared_ptr<const Graph>> read_body(GraphProto& proto, const std::string& what,
                                               DataFolder& folder) {
  auto body = std::make_shared<Graph>();
  for (const ValueInfoProto& item : proto.input()) {
    KERF_ASSIGN(ValueInfo info, inner_value(item, what));
    body->inputs.push_back(std::move(info));
  }
  for (const ValueInfoProto& item : proto.output()) {
    KERF_ASSIGN(ValueInfo info, inner_value(item, what));
    body->outputs.push_back(std::move(info));
  }
  KERF_TRY(read_initializers(proto, *body, folder));
  for (NodeProto& item : *proto.mutable_node()) {
    std::string name = item.name();
    if (name.empty()) name = item.op_type();
    KERF_ASSIGN(Node node, read_node(item, std::move(name), folder));
    body->nodes.push_back(std::move(node));
  }
  return std::shared_ptr<const Graph>(std::move(body));
}

/// Counts what bodies read from outside.
void count_readers(const Node& node, std::unordered_map<std::string, std::size_t>& readers) {
  for (const std::string& input : node.inputs) {
    if (!input.empty()) ++readers[input];
  }
  for (const auto& [name, value] : node.attributes) {
    const auto* body = std::get_if<std::shared_ptr<const Graph>>(&value);
    if (body == nullptr) continue;
    for (const Node& inner : (*body)->nodes) count_readers(inner, readers);
    for (const ValueInfo& output : (*body)->outputs) ++readers[output.name];
  }
}

/// Infinite constants are bounds and masks, never weights.
Result<void> refuse_infinite(const Graph& graph) {
  static const std::unordered_set<std::string> allowed = {
      "Clip",  "Where", "Pad",         "Max",     "Min",           "ConstantOfShape",
      "Equal", "Less",  "LessOrEqual", "Greater", "GreaterOrEqual"};
  std::unordered_map<std::string, std::size_t> infinite;
  for (const auto& [name, tensor] : graph.initializers) {
    if (const auto bad = first_not_finite(tensor)) infinite.emplace(name, *bad);
  }
  if (infinite.empty()) return {};
  for (const Node& node : graph.nodes) {
    for (const std::string& input : node.inputs) {
      const auto found = infinite.find(input);
      if (found == infinite.end() ||
          (allowed.contains(node.op) && graph.constant(input)->elements() == 1))
        continue;
      return invalid_argument("initializer '" + input + "': element " +
                              std::to_string(found->second) + " is infinite (read by node " +
                              node.label() + ")");
    }
  }
  return {};
}

/// Inputs that the caller has values for become constants.
Result<void> bind_constants(const GraphProto& proto, const std::map<std::string, Tensor>& constants,
                            Graph& graph) {
  for (const auto& [name, given] : constants) {
    const auto input = std::find_if(proto.input().begin(), proto.input().end(),
                                    [&](const ValueInfoProto& item) { return item.name() == name; });
    if (input == proto.input().end())
      return invalid_argument("there is no graph input '" + name + "' to make a constant of");
    const auto dtype = dtype_of(input->type().tensor_type().elem_type());
    if (!dtype || canonical_dtype(*dtype) != canonical_dtype(given.dtype())) {
      return invalid_argument("graph input '" + name + "': the constant given for it has the type " +
                              std::string(graph::to_string(given.dtype())));
    }
    const bool narrow = canonical_dtype(given.dtype()) != given.dtype();
    graph.initializers[name] = narrow ? given.to_f32() : given;
  }
  return {};
}

Result<void> read_interface(const GraphProto& proto, Graph& graph) {
  for (const ValueInfoProto& item : proto.input()) {
    if (graph.initializers.contains(item.name())) continue;  // IR 3 lists them as inputs, too
    KERF_ASSIGN(ValueInfo info, value_info(item, "graph input"));
    graph.inputs.push_back(std::move(info));
  }
  if (proto.output_size() == 0) return invalid_argument("the graph has no outputs");
  std::unordered_set<std::string> seen;
  for (const ValueInfoProto& item : proto.output()) {
    if (item.name().empty()) return invalid_argument("a graph output has no name");
    if (!seen.insert(item.name()).second) {
      return invalid_argument("graph output '" + item.name() + "' stands twice");
    }
    // The type may be left out: it follows from the nodes.
    if (!item.has_type() || item.type().value_case() == TypeProto::VALUE_NOT_SET) {
      graph.outputs.push_back({item.name(), DType::kF32, {}});
      continue;
    }
    KERF_ASSIGN(ValueInfo info, value_info(item, "graph output", true));
    graph.outputs.push_back(std::move(info));
  }
  return {};
}

Result<std::vector<Node>> read_nodes(GraphProto& proto, Names& names, DataFolder& folder) {
  for (const NodeProto& item : proto.node()) {
    if (!item.name().empty() && !names.nodes.insert(item.name()).second) {
      return invalid_argument("two nodes are called '" + item.name() + "'");
    }
  }
  std::vector<Node> nodes;
  nodes.reserve(static_cast<std::size_t>(proto.node_size()));
  for (NodeProto& item : *proto.mutable_node()) {
    std::string name = item.name().empty() ? names.give(item) : item.name();
    KERF_ASSIGN(Node node, read_node(item, std::move(name), folder));
    count_readers(node, names.readers);
    names.values.insert(node.inputs.begin(), node.inputs.end());
    names.values.insert(node.outputs.begin(), node.outputs.end());
    nodes.push_back(std::move(node));
  }
  // Swapping, unlike clearing, gives the memory back.
  google::protobuf::RepeatedPtrField<NodeProto>().Swap(proto.mutable_node());
  return nodes;
}

Result<Graph> to_graph(ModelProto& model, DataFolder& folder, const ReadOptions& options) {
  if (!model.has_graph()) return invalid_argument("the file holds no graph; is it an ONNX model?");
  if (model.training_info_size() > 0) {
    return unimplemented("training information is not supported; export the model for inference");
  }
  KERF_ASSIGN(const std::int64_t opset, opset_of(model));
  if (model.functions_size() > 0) KERF_TRY(inline_functions(model));
  GraphProto& proto = *model.mutable_graph();

  Graph graph;
  graph.name = proto.name();
  for (const auto& entry : model.metadata_props()) graph.metadata[entry.key()] = entry.value();
  Names names;
  KERF_ASSIGN(std::vector<Node> nodes, read_nodes(proto, names, folder));
  KERF_TRY(read_initializers(proto, graph, folder));
  KERF_TRY(bind_constants(proto, options.constants, graph));
  KERF_TRY(read_interface(proto, graph));

  // Producers, cycles and duplicates are checked on the file's own nodes: messages name those.
  graph.nodes = std::move(nodes);
  KERF_TRY(graph.sort());
  KERF_TRY(graph.check());
  for (const ValueInfo& output : graph.outputs) ++names.readers[output.name];
  for (const auto& [name, tensor] : graph.initializers) names.values.insert(name);
  for (const ValueInfo& input : graph.inputs) names.values.insert(input.name);

  nodes = std::exchange(graph.nodes, {});
  names.values.insert(names.nodes.begin(), names.nodes.end());
  Canonicalizer canonicalizer(graph, opset, std::move(names.values));
  canonicalizer.set_readers(std::move(names.readers));
  KERF_TRY(canonicalizer.begin());
  for (Node& node : nodes) KERF_TRY(canonicalizer.add(std::move(node)));
  KERF_TRY(refuse_infinite(graph));
  KERF_TRY(graph.check());
  KERF_TRY(canonicalizer.finish());
  return graph;
}

Result<ModelProto> parse_proto(std::string_view bytes) {
  if (bytes.size() > kMaxMessageBytes) {
    return invalid_argument("has " + std::to_string(bytes.size()) +
                            " bytes, more than protobuf allows; save its weights as external data");
  }
  KERF_TRY(scan_model(bytes));
  ModelProto model;
  {
    google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
    google::protobuf::io::CodedInputStream coded(&stream);
    coded.SetTotalBytesLimit(static_cast<int>(kMaxMessageBytes));
    coded.SetRecursionLimit(32);
    if (!model.ParseFromCodedStream(&coded) || !coded.ConsumedEntireMessage()) {
      return invalid_argument("not a readable ONNX file: its bytes aren't a ModelProto");
    }
  }
  return model;
}

Result<Graph> parse(std::string_view bytes, DataFolder& folder, const ReadOptions& options) {
  KERF_ASSIGN(ModelProto model, parse_proto(bytes));
  return to_graph(model, folder, options);
}

Result<Graph> guarded(std::string_view bytes, const std::string& name, DataFolder& folder,
                      const ReadOptions& options) {
  try {
    auto graph = parse(bytes, folder, options);
    if (!graph.has_value()) return one_line(with_context("model '" + name + "'", graph.error()));
    return graph;
  } catch (const std::bad_alloc&) {
    return one_line(
        {ErrorCode::kResourceExhausted, "model '" + name + "': not enough memory to read it"});
  }
}

}  // namespace

Result<Graph> read_model(const std::string& path, const ReadOptions& options) {
  const auto file = MappedFile::open(path, options.max_bytes);
  if (!file.has_value()) return one_line(file.error());
  const std::string parent = std::filesystem::path(path).parent_path().string();
  DataFolder folder(options.allow_external_data ? (parent.empty() ? "." : parent) : "",
                    options.max_bytes - file->bytes().size());
  return guarded(file->bytes(), path, folder, options);
}

Result<std::vector<ValueInfo>> read_inputs(const std::string& path, const ReadOptions& options) {
  const auto file = MappedFile::open(path, options.max_bytes);
  if (!file.has_value()) return one_line(file.error());
  const auto model = parse_proto(file->bytes());
  if (!model.has_value()) return one_line(with_context("model '" + path + "'", model.error()));
  std::unordered_set<std::string> initialized;
  for (const auto& item : model->graph().initializer()) initialized.insert(item.name());
  std::vector<ValueInfo> inputs;
  for (const ValueInfoProto& item : model->graph().input()) {
    if (initialized.contains(item.name())) continue;
    auto info = value_info(item, "graph input", true);
    if (!info.has_value()) return one_line(with_context("model '" + path + "'", info.error()));
    inputs.push_back(std::move(*info));
  }
  return inputs;
}

std::set<std::string> readable_ops() {
  std::set<std::string> names;
  for (const auto& [name, rule] : canonical_rules()) names.insert(name);
  for (const auto& [name, op] : graph::shapes::registry()) names.insert(name);
  return names;
}

Result<Tensor> read_tensor(const std::string& path, std::uint64_t max_bytes) {
  const auto file = MappedFile::open(path, std::min(max_bytes, kMaxMessageBytes));
  if (!file.has_value()) return one_line(file.error());
  ::onnx::TensorProto proto;
  if (!proto.ParseFromArray(file->bytes().data(), static_cast<int>(file->bytes().size())))
    return one_line(invalid_argument("'" + path + "' isn't a TensorProto"));
  DataFolder folder("", 0);
  auto tensor = take_tensor(proto, "tensor '" + path + "'", folder, true);
  if (!tensor.has_value()) return one_line(tensor.error());
  return tensor;
}

Result<Graph> parse_model(std::string_view bytes, const std::string& name,
                          const ReadOptions& options) {
  if (bytes.size() > options.max_bytes) {
    return one_line(invalid_argument("model '" + name + "': has " + std::to_string(bytes.size()) +
                                     " bytes, at most " + std::to_string(options.max_bytes) +
                                     " are read"));
  }
  DataFolder folder("", 0);
  return guarded(bytes, name, folder, options);
}

}  // namespace kerf::onnx
