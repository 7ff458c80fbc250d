#include "workers/onnx/lowering.h"

#include <cmath>
#include <unordered_set>

namespace kerf::onnx {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;

class Lowerer {
 public:
  Lowerer(const Graph& graph, graph::shapes::Inference& inference, std::int64_t opset)
      : out_(graph), inference_(inference), opset_(opset) {
    out_.nodes.clear();
    out_.values.clear();
    for (const Node& node : graph.nodes) {
      taken_.insert(node.name);
      taken_.insert(node.outputs.begin(), node.outputs.end());
    }
    for (const auto& [name, tensor] : graph.initializers) taken_.insert(name);
    for (const auto& input : graph.inputs) taken_.insert(input.name);
  }

  Result<void> add(Node node) {
    if (node.op.starts_with("Reduce") && node.op != "ReduceSum" && opset_ < 18)
      return reduce(std::move(node));
    if (node.op == "Split" && opset_ >= 18) return split(std::move(node));
    if (node.op == "Gelu" && opset_ < 20) return gelu(node);
    if (node.op == "Mish" && opset_ < 18) return mish(node);
    if (node.op == "GroupNormalization" && opset_ < 21) return group_normalization(node);
    if (node.op == "RMSNormalization") return rms_normalization(node);
    if (node.op == "GridSample" && opset_ < 20) rename_sampling(node);
    keep(std::move(node));
    return {};
  }

  Graph take() { return std::move(out_); }

 private:
  void keep(Node node) { out_.nodes.push_back(std::move(node)); }

  std::string fresh(const std::string& stem) {
    std::string name = stem;
    for (int i = 1; !taken_.insert(name).second; ++i) name = stem + "_" + std::to_string(i);
    return name;
  }
  std::string constant(const Node& node, const char* what, Tensor tensor) {
    std::string name = fresh(node.name + "/" + what);
    out_.initializers.emplace(name, std::move(tensor));
    return name;
  }
  /// Appends a helper node of `node`'s; its output's name.
  std::string step(const Node& node, const char* op, std::vector<std::string> inputs) {
    Node helper{fresh(node.name + "/" + op),         op, "", std::move(inputs),
                {fresh(node.outputs[0] + "/" + op)}, {}};
    std::string value = helper.outputs[0];
    keep(std::move(helper));
    return value;
  }
  /// Appends the node that makes `node`'s own output.
  void last(const Node& node, const char* op, std::vector<std::string> inputs) {
    keep(Node{node.name, op, "", std::move(inputs), {node.outputs[0]}, {}});
  }

  Result<void> reduce(Node node) {
    const bool keeps_all = node.integer("noop_with_empty_axes", 0) != 0;
    node.attributes.erase("noop_with_empty_axes");
    std::vector<std::int64_t> axes;
    if (node.has_input(1)) {
      const auto known = inference_.find(node.inputs[1])->elements;
      if (known == nullptr) {
        return unimplemented("node " + node.label() +
                             ": axes that aren't constant cannot be written in opset 17");
      }
      for (const auto& axis : *known) axes.push_back(graph::shapes::to_dim(axis));
    }
    node.inputs.resize(1);
    if (!axes.empty()) {
      node.attributes["axes"] = axes;
    } else if (keeps_all) {
      last(node, "Identity", node.inputs);
      return {};
    }
    keep(std::move(node));
    return {};
  }

  Result<void> split(Node node) {
    if (!node.has_input(1))
      node.attributes["num_outputs"] = static_cast<std::int64_t>(node.outputs.size());
    keep(std::move(node));
    return {};
  }

  Result<void> gelu(const Node& node) {
    const std::string& x = node.inputs[0];
    const auto number = [&](const char* what, float value) {
      return constant(node, what, Tensor::scalar(value));
    };
    std::string gate;
    if (node.text("approximate", "none") == "tanh") {
      // x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))
      const std::string cube = step(node, "Mul", {step(node, "Mul", {x, x}), x});
      const std::string sum =
          step(node, "Add", {x, step(node, "Mul", {cube, number("cubic", 0.044715F)})});
      gate = step(node, "Tanh", {step(node, "Mul", {sum, number("slope", 0.7978845608028654F)})});
    } else {
      // x / 2 * (1 + erf(x / sqrt(2)))
      gate = step(node, "Erf", {step(node, "Div", {x, number("sqrt2", 1.4142135623730951F)})});
    }
    const std::string open = step(node, "Add", {gate, number("one", 1.0F)});
    last(node, "Mul", {step(node, "Mul", {x, number("half", 0.5F)}), open});
    return {};
  }

  Result<void> mish(const Node& node) {
    const std::string& x = node.inputs[0];
    last(node, "Mul", {x, step(node, "Tanh", {step(node, "Softplus", {x})})});
    return {};
  }

  /// x / sqrt(mean(x^2) + epsilon) * scale, over the axes from `axis` on.
  Result<void> rms_normalization(const Node& node) {
    const std::string& x = node.inputs[0];
    const auto rank = static_cast<std::int64_t>(inference_.find(x)->shape.size());
    std::int64_t first = node.integer("axis", -1);
    if (first < 0) first += rank;
    std::vector<std::int64_t> axes;
    for (std::int64_t axis = first; axis < rank; ++axis) axes.push_back(axis);
    Node mean{fresh(node.name + "/ReduceMean"),         "ReduceMean", "", {step(node, "Mul", {x, x})},
              {fresh(node.outputs[0] + "/ReduceMean")}, {}};
    if (opset_ < 18) {
      mean.attributes["axes"] = axes;
    } else {
      mean.inputs.push_back(constant(
          node, "axes", Tensor::s64({static_cast<std::int64_t>(axes.size())}, axes)));
    }
    const std::string square = mean.outputs[0];
    keep(std::move(mean));
    const std::string epsilon =
        constant(node, "epsilon", Tensor::scalar(node.real("epsilon", 1e-5F)));
    const std::string root = step(node, "Sqrt", {step(node, "Add", {square, epsilon})});
    last(node, "Mul", {step(node, "Div", {x, root}), node.inputs[1]});
    return {};
  }

  /// Until opset 20 the modes had the names that they have in two dimensions.
  static void rename_sampling(Node& node) {
    const std::string mode = node.text("mode", "linear");
    if (mode == "linear") node.attributes["mode"] = std::string("bilinear");
    if (mode == "cubic") node.attributes["mode"] = std::string("bicubic");
  }

  /// Each group is one channel of an InstanceNormalization.
  Result<void> group_normalization(const Node& node) {
    const std::string& x = node.inputs[0];
    const std::int64_t groups = node.integer("num_groups", 1);
    const auto filled = [&](float value) {
      return Tensor::f32({groups}, std::vector<float>(static_cast<std::size_t>(groups), value));
    };
    std::vector<std::int64_t> dims(inference_.find(x)->shape.size() - 1, 1);
    dims[0] = -1;
    const std::string per_channel =
        constant(node, "per_channel", Tensor::s64({static_cast<std::int64_t>(dims.size())}, dims));
    const std::string shape = step(node, "Shape", {x});
    const std::string grouped =
        step(node, "Reshape", {x, constant(node, "groups", Tensor::s64({3}, {0, groups, -1}))});
    const std::string ones = constant(node, "ones", filled(1.0F));
    const std::string zeros = constant(node, "zeros", filled(0.0F));
    const std::string even = step(node, "InstanceNormalization", {grouped, ones, zeros});
    out_.nodes.back().attributes["epsilon"] = node.real("epsilon", 1e-5F);
    const std::string back = step(node, "Reshape", {even, shape});
    const std::string scaled =
        step(node, "Mul", {back, step(node, "Reshape", {node.inputs[1], per_channel})});
    last(node, "Add", {scaled, step(node, "Reshape", {node.inputs[2], per_channel})});
    return {};
  }

  Graph out_;
  graph::shapes::Inference& inference_;
  std::int64_t opset_;
  std::unordered_set<std::string> taken_;
};

}  // namespace

Result<Graph> lower_to_opset(const Graph& graph, graph::shapes::Inference& inference,
                             std::int64_t opset) {
  Lowerer lowerer(graph, inference, opset);
  for (const Node& node : graph.nodes) KERF_TRY(lowerer.add(node));
  return lowerer.take();
}

}  // namespace kerf::onnx
