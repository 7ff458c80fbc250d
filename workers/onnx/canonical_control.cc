// If, Loop and Scan: bodies take the place of their node, as often as is known beforehand.
#include <algorithm>

#include "workers/onnx/canonical.h"
#include "workers/onnx/limits.h"

namespace kerf::onnx {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;
using graph::shapes::Value;

using Names = std::unordered_map<std::string, std::string>;

std::string mapped(const Names& names, const std::string& name) {
  const auto found = names.find(name);
  return found == names.end() ? name : found->second;
}

/// A graph inside a node, with what it takes from outside under new names.
std::shared_ptr<const Graph> renamed(const Graph& inner, const Names& names);

Node renamed(Node node, const Names& names) {
  for (std::string& input : node.inputs) input = mapped(names, input);
  for (auto& [name, attribute] : node.attributes) {
    if (const auto* graph = std::get_if<std::shared_ptr<const Graph>>(&attribute))
      attribute = renamed(**graph, names);
  }
  return node;
}

std::shared_ptr<const Graph> renamed(const Graph& inner, const Names& names) {
  Names outside = names;
  for (const graph::ValueInfo& input : inner.inputs) outside.erase(input.name);
  for (const auto& [name, tensor] : inner.initializers) outside.erase(name);
  for (const Node& node : inner.nodes) {
    for (const std::string& output : node.outputs) outside.erase(output);
  }
  auto copy = std::make_shared<Graph>(inner);
  for (Node& node : copy->nodes) node = renamed(std::move(node), outside);
  for (graph::ValueInfo& output : copy->outputs) output.name = mapped(outside, output.name);
  return copy;
}

/// What one more copy of a body costs, in nodes: long lists and names of a node count as several.
std::size_t weight(const Graph& body) {
  constexpr std::size_t kElements = 16;
  constexpr std::size_t kCharacters = 128;
  std::size_t sum = 1 + body.initializers.size() + body.inputs.size() + body.outputs.size();
  for (const Node& node : body.nodes) {
    std::size_t characters = node.name.size();
    for (const std::string& input : node.inputs) characters += input.size() + 1;
    for (const std::string& output : node.outputs) characters += output.size() + 1;
    std::size_t elements = 0;
    for (const auto& [name, attribute] : node.attributes) {
      characters += name.size();
      if (const auto* inner = std::get_if<std::shared_ptr<const Graph>>(&attribute)) {
        sum += weight(**inner);
      } else if (const auto* text = std::get_if<std::string>(&attribute)) {
        characters += text->size();
      } else if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&attribute)) {
        elements += integers->size();
      } else if (const auto* floats = std::get_if<std::vector<float>>(&attribute)) {
        elements += floats->size();
      } else if (const auto* texts = std::get_if<std::vector<std::string>>(&attribute)) {
        for (const std::string& one : *texts) characters += one.size() + 1;
      }
    }
    sum += 1 + elements / kElements + characters / kCharacters;
  }
  return sum;
}

/// Appends the nodes of `body`. `names` says what its inputs are outside, and afterwards what
/// everything inside is called outside.
Result<void> expand(Canonicalizer& c, const Node& owner, const Graph& body, Names& names) {
  KERF_TRY(c.count_expanded(owner, weight(body)));
  for (const auto& [name, tensor] : body.initializers) {
    names[name] = c.constant(owner, name, tensor);
  }
  for (const Node& inner : body.nodes) {
    Node node = renamed(inner, names);
    node.name = c.fresh(owner.name + "/" + inner.name);
    for (std::string& output : node.outputs) {
      if (output.empty()) continue;
      const std::string outside = c.fresh(owner.name + "/" + output);
      names[output] = outside;
      output = outside;
    }
    KERF_TRY(c.add(std::move(node)));
  }
  return {};
}

Result<std::shared_ptr<const Graph>> body_of(const Node& node, const char* name) {
  const auto found = node.attributes.find(name);
  const auto* body = found == node.attributes.end()
                         ? nullptr
                         : std::get_if<std::shared_ptr<const Graph>>(&found->second);
  if (body == nullptr) return node_error(node, std::string("attribute ") + name + " is missing");
  return *body;
}

/// The one number that a value is known to be before anything runs.
Result<std::optional<std::int64_t>> known_number(Canonicalizer& c, const Node& node,
                                                 const std::string& value) {
  const Node reader{node.name, node.op, "", {value}, {}, {}};
  KERF_TRY(c.input(reader, 0));
  const auto known = c.known_integers(reader, 0);
  if (!known || known->size() != 1) return std::optional<std::int64_t>();
  return std::optional(known->front());
}

/// `from`, which the body made, becomes the output `to` of the node itself.
Result<void> give(Canonicalizer& c, const Node& node, const std::string& from,
                  const std::string& to) {
  if (to.empty()) return {};
  return c.add(Node{c.fresh(node.name + "/output"), "Identity", "", {from}, {to}, {}});
}

Result<void> branch(Canonicalizer& c, Node node) {
  if (node.inputs.size() != 1) return node_error(node, "needs one input, the condition");
  KERF_ASSIGN(const auto condition, known_number(c, node, node.inputs[0]));
  if (!condition) {
    return node_unsupported(node, "its condition '" + node.inputs[0] +
                                      "' depends on the data; export the model with the branch "
                                      "that is taken, or bind the condition as a constant");
  }
  KERF_ASSIGN(const auto body, body_of(node, *condition != 0 ? "then_branch" : "else_branch"));
  if (body->outputs.size() != node.outputs.size())
    return node_error(node, "branch and node differ in their number of outputs");
  Names names;
  KERF_TRY(expand(c, node, *body, names));
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    KERF_TRY(give(c, node, mapped(names, body->outputs[i].name), node.outputs[i]));
  }
  return {};
}

/// What a body makes at each step, put together along a new axis.
class Collected {
 public:
  Collected(Canonicalizer& c, const Node& node) : c_(c), node_(node) {}

  Result<void> add(const std::string& value, std::int64_t axis) {
    Node grow{c_.fresh(node_.name + "/unsqueeze"),
              "Unsqueeze",
              "",
              {value, c_.constant(node_, "axes", Tensor::s64({1}, {axis}))},
              {c_.fresh(value + "/step")},
              {}};
    parts_.push_back(grow.outputs[0]);
    return c_.emit(std::move(grow));
  }

  Result<void> finish(const std::string& output, const graph::ValueInfo& declared,
                      std::int64_t axis, bool backwards) {
    if (output.empty()) return {};
    if (parts_.empty()) {
      graph::Shape shape = declared.shape;
      if (axis > static_cast<std::int64_t>(shape.size()) || !graph::element_count(shape)) {
        return node_unsupported(node_, "it runs no step, and the shape of its output '" + output +
                                           "' isn't declared");
      }
      shape.insert(shape.begin() + axis, 0);
      return give(c_, node_, c_.constant(node_, "empty", Tensor(declared.dtype, shape)), output);
    }
    if (backwards) std::reverse(parts_.begin(), parts_.end());
    return c_.emit(Node{c_.fresh(node_.name + "/concat"), "Concat", "", parts_, {output},
                        {{"axis", axis}}});
  }

 private:
  Canonicalizer& c_;
  const Node& node_;
  std::vector<std::string> parts_;
};

Result<void> loop(Canonicalizer& c, Node node) {
  if (node.inputs.size() < 2) node.inputs.resize(2);
  KERF_ASSIGN(const auto body, body_of(node, "body"));
  const std::size_t carried = node.inputs.size() - 2;
  if (body->inputs.size() != carried + 2 || body->outputs.size() < carried + 1 ||
      node.outputs.size() > body->outputs.size() - 1) {
    return node_error(node, "its inputs and outputs don't fit those of its body");
  }
  std::optional<std::int64_t> trips;
  if (node.has_input(0)) {
    KERF_ASSIGN(trips, known_number(c, node, node.inputs[0]));
    if (!trips) {
      return node_unsupported(node, "its trip count '" + node.inputs[0] +
                                        "' depends on the data; export the model with a fixed "
                                        "number of steps");
    }
  }
  bool go_on = true;
  if (node.has_input(1)) {
    KERF_ASSIGN(const auto condition, known_number(c, node, node.inputs[1]));
    if (!condition) {
      return node_unsupported(node, "its condition '" + node.inputs[1] +
                                        "' depends on the data; export the model with a fixed "
                                        "number of steps");
    }
    go_on = *condition != 0;
  }
  std::vector<std::string> state(node.inputs.begin() + 2, node.inputs.end());
  std::vector<Collected> collected(body->outputs.size() - 1 - carried, Collected(c, node));
  for (std::int64_t step = 0; go_on && (!trips || step < *trips); ++step) {
    Names names;
    const bool vector = body->inputs[0].shape.size() == 1;
    names[body->inputs[0].name] =
        c.constant(node, "step", Tensor::s64(vector ? graph::Shape{1} : graph::Shape{}, {step}));
    names[body->inputs[1].name] =
        c.constant(node, "condition", Tensor::of<std::uint8_t>(graph::DType::kBool, {}, {1}));
    for (std::size_t i = 0; i < carried; ++i) names[body->inputs[i + 2].name] = state[i];
    KERF_TRY(expand(c, node, *body, names));
    for (std::size_t i = 0; i < carried; ++i) state[i] = mapped(names, body->outputs[i + 1].name);
    for (std::size_t i = 0; i < collected.size(); ++i) {
      KERF_TRY(collected[i].add(mapped(names, body->outputs[i + 1 + carried].name), 0));
    }
    const std::string next = mapped(names, body->outputs[0].name);
    KERF_ASSIGN(const auto condition, known_number(c, node, next));
    if (!condition) {
      return node_unsupported(node, "whether it goes on depends on the data; export the model with "
                                    "a fixed number of steps");
    }
    go_on = *condition != 0;
  }
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (i < carried) {
      KERF_TRY(give(c, node, state[i], node.outputs[i]));
    } else {
      KERF_TRY(collected[i - carried].finish(node.outputs[i], body->outputs[i + 1], 0, false));
    }
  }
  return {};
}

Result<void> scan(Canonicalizer& c, Node node) {
  if (c.opset() < 9)
    return node_unsupported(node, "Scan of opset 8 is not supported; convert the model to opset 9");
  KERF_ASSIGN(const auto body, body_of(node, "body"));
  const std::int64_t scanned = node.integer("num_scan_inputs", 0);
  const auto inputs = static_cast<std::int64_t>(node.inputs.size());
  if (scanned < 1 || scanned > inputs || body->inputs.size() != node.inputs.size())
    return node_error(node, "its inputs don't fit those of its body");
  const auto carried = static_cast<std::size_t>(inputs - scanned);
  if (body->outputs.size() < carried || node.outputs.size() > body->outputs.size())
    return node_error(node, "its outputs don't fit those of its body");
  const auto count = static_cast<std::size_t>(scanned);
  const std::size_t results = body->outputs.size() - carried;
  const auto in_axes = node.integers("scan_input_axes", std::vector<std::int64_t>(count, 0));
  const auto in_turned = node.integers("scan_input_directions", std::vector<std::int64_t>(count, 0));
  const auto out_axes = node.integers("scan_output_axes", std::vector<std::int64_t>(results, 0));
  const auto out_turned =
      node.integers("scan_output_directions", std::vector<std::int64_t>(results, 0));
  if (in_axes.size() != count || in_turned.size() != count || out_axes.size() != results ||
      out_turned.size() != results) {
    return node_error(node, "axes and directions don't fit its inputs and outputs");
  }
  std::int64_t steps = -1;
  for (std::size_t i = 0; i < count; ++i) {
    KERF_ASSIGN(const Value* x, c.input(node, carried + i));
    const auto rank = static_cast<std::int64_t>(x->shape.size());
    const std::int64_t axis = in_axes[i] < 0 ? in_axes[i] + rank : in_axes[i];
    if (axis < 0 || axis >= rank) return node_error(node, "a scan axis doesn't exist");
    const std::int64_t dim = x->shape[static_cast<std::size_t>(axis)];
    if (dim < 0) {
      return node_unsupported(node, "the number of its steps isn't known; export the model with a "
                                    "fixed sequence length");
    }
    if (steps >= 0 && dim != steps) return node_error(node, "its scan inputs differ in length");
    steps = dim;
  }
  std::vector<std::string> state(node.inputs.begin(),
                                 node.inputs.begin() + static_cast<std::ptrdiff_t>(carried));
  std::vector<Collected> collected(results, Collected(c, node));
  for (std::int64_t step = 0; step < steps; ++step) {
    Names names;
    for (std::size_t i = 0; i < carried; ++i) names[body->inputs[i].name] = state[i];
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t at = in_turned[i] != 0 ? steps - 1 - step : step;
      Node pick{c.fresh(node.name + "/pick"),
                "Gather",
                "",
                {node.inputs[carried + i], c.constant(node, "step", Tensor::s64({}, {at}))},
                {c.fresh(node.inputs[carried + i] + "/step")},
                {{"axis", in_axes[i]}}};
      names[body->inputs[carried + i].name] = pick.outputs[0];
      KERF_TRY(c.emit(std::move(pick)));
    }
    KERF_TRY(expand(c, node, *body, names));
    for (std::size_t i = 0; i < carried; ++i) state[i] = mapped(names, body->outputs[i].name);
    for (std::size_t i = 0; i < results; ++i) {
      KERF_TRY(collected[i].add(mapped(names, body->outputs[carried + i].name), out_axes[i]));
    }
  }
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (i < carried) {
      KERF_TRY(give(c, node, state[i], node.outputs[i]));
    } else {
      KERF_TRY(collected[i - carried].finish(node.outputs[i], body->outputs[i],
                                             out_axes[i - carried], out_turned[i - carried] != 0));
    }
  }
  return {};
}

}  // namespace

void add_control_rules(CanonicalRules& rules) {
  rules["If"] = branch;
  rules["Loop"] = loop;
  rules["Scan"] = scan;
}

}  // namespace kerf::onnx
