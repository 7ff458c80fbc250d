#include "workers/onnx/functions.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "workers/onnx/limits.h"

namespace kerf::onnx {
namespace {

using ::onnx::AttributeProto;
using ::onnx::FunctionProto;
using ::onnx::GraphProto;
using ::onnx::ModelProto;
using ::onnx::NodeProto;
using Nodes = google::protobuf::RepeatedPtrField<NodeProto>;
using Names = std::unordered_map<std::string, std::string>;

std::string domain_of(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

/// A text field that came after the version of ONNX whose messages are compiled in; "" where it isn't there.
template <class Message>
std::string later_text(const Message& message, int number) {
  const auto& fields = message.unknown_fields();
  for (int i = 0; i < fields.field_count(); ++i) {
    const auto& field = fields.field(i);
    if (field.number() == number && field.type() == google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED) return field.length_delimited();
  }
  return "";
}

constexpr int kFunctionDefaults = 11;  ///< FunctionProto.attribute_proto, since IR 9.
constexpr int kFunctionOverload = 13;  ///< FunctionProto.overload, since IR 10.
constexpr int kNodeOverload = 8;       ///< NodeProto.overload, since IR 10.

std::string key_of(const std::string& domain, const std::string& name, const std::string& overload) {
  return domain_of(domain) + '\n' + name + '\n' + overload;
}

/// A function and the attributes that it has where its caller gives none.
struct Function {
  const FunctionProto* proto = nullptr;
  std::map<std::string, AttributeProto> defaults;
};

class Inliner {
 public:
  explicit Inliner(ModelProto& model) : model_(model) {}

  Result<void> run() {
    KERF_TRY(collect());
    take_names(model_.graph());
    KERF_TRY(graph(*model_.mutable_graph(), 1));
    model_.clear_functions();
    return {};
  }

 private:
  Result<void> collect() {
    std::map<std::string, std::int64_t> opsets;
    for (const auto& import : model_.opset_import()) opsets[domain_of(import.domain())] = import.version();
    for (const FunctionProto& proto : model_.functions()) {
      for (const auto& import : proto.opset_import()) {
        const auto own = opsets.find(domain_of(import.domain()));
        if (!domain_of(import.domain()).empty() || own == opsets.end() || own->second == import.version()) continue;
        return unimplemented("local function '" + proto.name() + "' is written for opset " + std::to_string(import.version()) + ", the model for " +
                             std::to_string(own->second) + "; convert both to one opset, or inline functions with onnx.inliner first");
      }
      Function function{&proto, {}};
      const auto& later = proto.unknown_fields();
      for (int i = 0; i < later.field_count(); ++i) {
        const auto& field = later.field(i);
        if (field.number() != kFunctionDefaults || field.type() != google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED) continue;
        AttributeProto value;
        if (!value.ParseFromString(field.length_delimited())) return invalid_argument("local function '" + proto.name() + "' has an attribute that isn't readable");
        std::string name = value.name();
        function.defaults.emplace(std::move(name), std::move(value));
      }
      if (!functions_.emplace(key_of(proto.domain(), proto.name(), later_text(proto, kFunctionOverload)), std::move(function)).second) {
        return invalid_argument("local function '" + proto.name() + "' stands twice");
      }
    }
    return {};
  }

  /// All names that values and nodes have already.
  void take_names(const GraphProto& graph) {
    for (const auto& item : graph.input()) taken_.insert(item.name());
    for (const auto& item : graph.initializer()) taken_.insert(item.name());
    for (const NodeProto& node : graph.node()) {
      taken_.insert(node.name());
      taken_.insert(node.output().begin(), node.output().end());
      for (const AttributeProto& attribute : node.attribute()) {
        if (attribute.has_g()) take_names(attribute.g());
      }
    }
  }

  std::string fresh(const std::string& stem) {
    if (taken_.insert(stem).second) return stem;
    std::string name;
    std::size_t& next = next_[stem];
    do name = stem + "_" + std::to_string(++next);
    while (!taken_.insert(name).second);
    return name;
  }

  Result<void> graph(GraphProto& graph, std::size_t depth) {
    if (depth > kMaxGraphDepth) {
      return unimplemented("graphs are nested more than " + std::to_string(kMaxGraphDepth) + " deep once functions are in their places");
    }
    Nodes before;
    before.Swap(graph.mutable_node());
    for (NodeProto& node : before) KERF_TRY(place(node, *graph.mutable_node(), depth));
    return {};
  }

  /// Appends the node, or what it calls.
  Result<void> place(NodeProto& node, Nodes& out, std::size_t depth) {
    for (AttributeProto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) KERF_TRY(graph(*attribute.mutable_g(), depth + 1));
    }
    const auto found = functions_.find(key_of(node.domain(), node.op_type(), later_text(node, kNodeOverload)));
    if (found == functions_.end()) {
      out.Add()->Swap(&node);
      return {};
    }
    const Function& function = found->second;
    const std::string& name = function.proto->name();
    if (std::find(calls_.begin(), calls_.end(), &function) != calls_.end()) return invalid_argument("local function '" + name + "' calls itself");
    if (calls_.size() >= kMaxFunctionDepth) {
      return Error{ErrorCode::kResourceExhausted, "local function '" + name + "' is called more than " + std::to_string(kMaxFunctionDepth) + " functions deep"};
    }
    calls_.push_back(&function);
    KERF_TRY(call(node, function, out, depth));
    calls_.pop_back();
    return {};
  }

  Result<void> call(const NodeProto& caller, const Function& function, Nodes& out, std::size_t depth) {
    const FunctionProto& proto = *function.proto;
    std::string label = caller.name();
    if (label.empty()) label = caller.op_type() + (caller.output_size() > 0 ? ":" + caller.output(0) : "");
    if (caller.input_size() > proto.input_size() || caller.output_size() > proto.output_size()) {
      return invalid_argument("node " + caller.op_type() + " '" + label + "' has more inputs or outputs than local function '" + proto.name() + "'");
    }
    Names names;
    for (int i = 0; i < proto.input_size(); ++i) names.emplace(proto.input(i), i < caller.input_size() ? caller.input(i) : "");
    std::vector<int> passed_on;  // outputs that an input, or another output, is
    for (int i = 0; i < proto.output_size(); ++i) {
      const bool wanted = i < caller.output_size() && !caller.output(i).empty();
      if (!names.emplace(proto.output(i), wanted ? caller.output(i) : fresh(label + "/" + proto.output(i))).second && wanted) passed_on.push_back(i);
    }
    KERF_TRY(charge(label, 0));
    for (const NodeProto& inner : proto.node()) {
      NodeProto node = inner;
      KERF_TRY(charge(label, node.ByteSizeLong()));
      rename(node, names, label, caller, function);
      KERF_TRY(place(node, out, depth));
    }
    for (const int i : passed_on) {
      NodeProto* identity = out.Add();
      identity->set_op_type("Identity");
      identity->set_name(fresh(label + "/output"));
      identity->add_input(names[proto.output(i)]);
      identity->add_output(caller.output(i));
    }
    return {};
  }

  /// Counts calls too: functions that hold nothing but calls grow as well.
  Result<void> charge(const std::string& label, std::size_t bytes) {
    bytes_ += bytes;
    if (++nodes_ <= kMaxNodes && bytes_ <= kMaxStructureBytes) return {};
    return Error{ErrorCode::kResourceExhausted, "node '" + label + "': with local functions in their places the model has more than " + std::to_string(kMaxNodes) +
                                                    " nodes, or " + std::to_string(kMaxStructureBytes >> 20U) + " MiB of them"};
  }

  const std::string& renamed(const std::string& name, Names& names, const std::string& label) {
    const auto found = names.find(name);
    if (found != names.end()) return found->second;
    return names.emplace(name, fresh(label + "/" + name)).first->second;
  }

  /// Gives a copy of an inner node its names outside, and its attributes.
  void rename(NodeProto& node, Names& names, const std::string& label, const NodeProto& caller, const Function& function) {
    std::string own = node.name();
    if (own.empty()) own = node.op_type() + (node.output_size() > 0 && !node.output(0).empty() ? ":" + node.output(0) : "");
    node.set_name(fresh(label + "/" + own));
    for (std::string& input : *node.mutable_input()) {
      if (!input.empty()) input = renamed(input, names, label);
    }
    for (std::string& output : *node.mutable_output()) {
      if (!output.empty()) output = renamed(output, names, label);
    }
    auto& attributes = *node.mutable_attribute();
    for (int i = attributes.size(); i-- > 0;) {
      AttributeProto& attribute = attributes[i];
      if (attribute.has_g()) rename(*attribute.mutable_g(), names, label, caller, function);
      if (attribute.ref_attr_name().empty()) continue;
      const AttributeProto* value = given(attribute.ref_attr_name(), caller, function);
      if (value == nullptr) {
        attributes.DeleteSubrange(i, 1);
        continue;
      }
      const std::string name = attribute.name();
      attribute = *value;
      attribute.set_name(name);
    }
  }

  /// A graph inside a function: its own values get names of their own, so that none hides one outside.
  void rename(GraphProto& graph, const Names& outside, const std::string& label, const NodeProto& caller, const Function& function) {
    Names names = outside;
    const auto own = [&](const std::string& name) {
      if (!name.empty()) names[name] = fresh(label + "/" + name);
    };
    for (const auto& item : graph.input()) own(item.name());
    for (const auto& item : graph.initializer()) own(item.name());
    for (const NodeProto& node : graph.node()) {
      for (const std::string& output : node.output()) own(output);
    }
    for (auto& item : *graph.mutable_input()) item.set_name(renamed(item.name(), names, label));
    for (auto& item : *graph.mutable_initializer()) item.set_name(renamed(item.name(), names, label));
    for (NodeProto& node : *graph.mutable_node()) rename(node, names, label, caller, function);
    for (auto& item : *graph.mutable_output()) item.set_name(renamed(item.name(), names, label));
  }

  static const AttributeProto* given(const std::string& name, const NodeProto& caller, const Function& function) {
    for (const AttributeProto& attribute : caller.attribute()) {
      if (attribute.name() == name) return &attribute;
    }
    const auto found = function.defaults.find(name);
    return found == function.defaults.end() ? nullptr : &found->second;
  }

  ModelProto& model_;
  std::map<std::string, Function> functions_;
  std::unordered_set<std::string> taken_;
  std::unordered_map<std::string, std::size_t> next_;  ///< By stem, see fresh().
  std::vector<const Function*> calls_;                 ///< That are open, outermost first.
  std::size_t nodes_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace

Result<void> inline_functions(ModelProto& model) { return Inliner(model).run(); }

}  // namespace kerf::onnx
