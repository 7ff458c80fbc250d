#include "workers/compress/channel_groups.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <set>

#include "workers/compress/channel_sets.h"
#include "workers/compress/layer.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Links;
using graph::Node;
using graph::Shape;
using graph::Tensor;

/// Where a value's channels lie and which they are; or, where that isn't known, why not.
struct View {
  bool known = false;
  std::size_t axis = 1;
  std::vector<std::int32_t> ids;
  std::string reason;

  static View unknown(std::string why) { return {false, 1, {}, std::move(why)}; }
};

const std::set<std::string>& elementwise_ops() {
  static const std::set<std::string> ops = {
      "Abs",        "Cast",     "Ceil",      "Celu",  "Clip",           "Dropout",
      "Elu",        "Erf",      "Exp",       "Floor", "Gelu",           "HardSigmoid",
      "HardSwish",  "Identity", "LeakyRelu", "Log",   "Mish",           "Neg",
      "Reciprocal", "Relu",     "Round",     "Selu",  "Sigmoid",        "Sign",
      "Softplus",   "Softsign", "Sqrt",      "Tanh",  "ThresholdedRelu"};
  return ops;
}

const std::set<std::string>& joining_ops() {
  static const std::set<std::string> ops = {"Add", "Sub", "Mul", "Div", "Pow",
                                            "Min", "Max", "Sum", "Mean"};
  return ops;
}

const std::set<std::string>& pooling_ops() {
  static const std::set<std::string> ops = {"MaxPool",           "AveragePool",   "LpPool",
                                            "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"};
  return ops;
}

std::optional<std::vector<std::int64_t>> constant_integers(const Graph& graph, const Node& node,
                                                           std::size_t input) {
  if (!node.has_input(input)) return std::nullopt;
  const Tensor* tensor = graph.constant(node.inputs[input]);
  if (tensor == nullptr || tensor->dtype() != graph::DType::kS64) return std::nullopt;
  return tensor->to_integers();
}

std::size_t from_end(std::int64_t axis, std::size_t rank) {
  return static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis);
}

/// Carries channels forward through a graph.
class Finder {
 public:
  explicit Finder(const Graph& graph) : graph_(graph), links_(graph) {}

  ChannelGroups run() {
    for (const graph::ValueInfo& input : graph_.inputs) {
      const std::string why = "its channels are those of the graph input '" + input.name + "'";
      View view = View::unknown(why);
      if (input.shape.size() >= 2 && input.shape[1] > 0 && input.shape[1] <= kMostInputChannels) {
        view = fresh(1, input.shape[1]);
        pin(view, why);
      }
      views_[input.name] = std::move(view);
    }
    for (const Node& node : graph_.nodes) visit(node);
    for (const graph::ValueInfo& output : graph_.outputs) {
      pin(view(output.name), "its channels are the graph output '" + output.name + "'");
    }
    std::vector<std::string> layers;  // in model order
    for (const Node& node : graph_.nodes) {
      if (groups_.outputs.contains(node.name)) layers.push_back(node.name);
    }
    form_groups(layers, nested_graph_, sets_, groups_);
    return std::move(groups_);
  }

 private:
  /// A wider first axis isn't an image's channels; it stays as a whole, without an element each.
  static constexpr std::int64_t kMostInputChannels = 1 << 20;

  View fresh(std::size_t axis, std::int64_t count) { return {true, axis, sets_.make(count), {}}; }

  /// These channels stay.
  void pin(const View& view, const std::string& why) {
    if (view.known) sets_.pin(view.ids, why);
  }

  // --- helpers ---

  View view(const std::string& value) const {
    const auto found = views_.find(value);
    return found == views_.end() ? View::unknown("'" + value + "' is a constant") : found->second;
  }

  Shape shape(const std::string& value) const {
    if (const Tensor* tensor = graph_.constant(value)) return tensor->shape();
    const graph::ValueInfo* info = graph_.value(value);
    return info == nullptr ? Shape{} : info->shape;
  }

  void set_outputs(const Node& node, const View& first) {
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i].empty()) continue;
      views_[node.outputs[i]] =
          i == 0 ? first : View::unknown("op " + node.label() + " is not followed");
    }
  }

  /// The node can't lose channels of any input; what comes out isn't known.
  void refuse(const Node& node, const std::string& what) {
    const std::string why = "op " + node.label() + " " + what;
    for (const std::string& input : node.inputs) {
      if (!input.empty()) pin(view(input), why);
    }
    set_outputs(node, View::unknown(why));
  }

  void cut(const Node& node, std::size_t input, std::size_t axis,
           const std::vector<std::int32_t>& ids) {
    groups_.constants.push_back({node.name, input, axis, ids});
  }

  /// The node's bias follows its output channels, where it has one for each.
  void cut_bias(const Node& node, const View& out) {
    if (!node.has_input(2)) return;
    const Tensor* bias = graph_.constant(node.inputs[2]);
    if (bias == nullptr) {
      pin(out, "the bias of " + node.label() + " is computed");
      return;
    }
    if (bias->rank() == 0) return;
    const std::size_t axis = bias->rank() - 1;
    if (bias->dim(axis) == static_cast<std::int64_t>(out.ids.size())) cut(node, 2, axis, out.ids);
  }

  // --- layers ---

  void visit_layer(const Node& node) {
    const std::string weights_name = node.inputs[1];
    const Tensor* weights = graph_.constant(weights_name);
    const View x = view(node.inputs[0]);
    std::string stay;
    if (weights == nullptr) {
      stay = "its weights are quantized already";
      weights = graph_.constant(weights_of(graph_, node));
    } else if (links_.of(weights_name).size() > 1) {
      stay = "its weights are shared with " + other_reader(node, weights_name);
    }
    const bool convolution = node.op == "Conv" || node.op == "ConvTranspose";
    const std::int64_t group = convolution ? node.integer("group", 1) : 1;
    const std::size_t out_axis = output_channel_axis(node);
    const Shape out_shape = shape(node.outputs[0]);
    const std::size_t out_channels_at =
        convolution || out_shape.size() < 2 ? 1 : out_shape.size() - 1;

    if (!convolution && weights->rank() != 2) {
      pin(x, "op " + node.label() + " has weights of rank " + std::to_string(weights->rank()));
      groups_.stays[node.name] = "its weights have rank " + std::to_string(weights->rank());
      set_outputs(node, View::unknown("op " + node.label() + " has weights of rank " +
                                      std::to_string(weights->rank())));
      return;
    }
    if (group > 1) {
      visit_grouped(node, *weights, x, group, stay);
      return;
    }
    const std::size_t in_axis = 1 - out_axis;
    View out = fresh(out_channels_at, weights->dim(out_axis));
    if (!stay.empty()) {
      pin(x, "layer " + node.label() + ": " + stay);
      pin(out, stay);
    } else {
      const Shape in_shape = shape(node.inputs[0]);
      const std::size_t expected = convolution ? 1 : in_shape.size() - 1;
      const bool fits = x.known && x.axis == expected && !in_shape.empty() &&
                        static_cast<std::int64_t>(x.ids.size()) == weights->dim(in_axis) &&
                        node.integer("transA", 0) == 0;
      if (fits) {
        cut(node, 1, in_axis, x.ids);
      } else {
        pin(x, "op " + node.label() + " reads them along another axis");
      }
      cut(node, 1, out_axis, out.ids);
      cut_bias(node, out);
    }
    groups_.outputs[node.name] = out.ids;
    set_outputs(node, out);
  }

  void visit_grouped(const Node& node, const Tensor& weights, const View& x, std::int64_t group,
                     const std::string& stay) {
    const bool transposed = node.op == "ConvTranspose";
    const std::int64_t per_group = transposed ? weights.dim(1) : weights.dim(0) / group;
    const bool depthwise = transposed ? weights.dim(0) == group && per_group == 1
                                      : weights.dim(1) == 1 && weights.dim(0) % group == 0;
    const bool follows = depthwise && stay.empty() && x.known && x.axis == 1 &&
                         static_cast<std::int64_t>(x.ids.size()) == group;
    if (follows) {
      View out{true, 1, {}, {}};
      for (const std::int32_t id : x.ids) {
        out.ids.insert(out.ids.end(), static_cast<std::size_t>(per_group), id);
      }
      cut(node, 1, 0, transposed ? x.ids : out.ids);
      cut_bias(node, out);
      groups_.depthwise.push_back(node.name);
      groups_.outputs[node.name] = out.ids;
      set_outputs(node, out);
      return;
    }
    std::string why = stay;
    if (why.empty()) {
      why = depthwise ? (x.known ? "its input lies along another axis" : x.reason)
                      : "it is a grouped convolution (" + std::to_string(group) + " groups)";
    }
    pin(x, "layer " + node.label() + ": " + why);
    const View out = fresh(1, group * per_group);
    pin(out, why);
    groups_.outputs[node.name] = out.ids;
    set_outputs(node, out);
  }

  std::string other_reader(const Node& node, const std::string& value) const {
    for (const std::size_t reader : links_.of(value)) {
      if (graph_.nodes[reader].name != node.name) return graph_.nodes[reader].label();
    }
    return "itself";
  }

  // --- operators that join values ---

  void visit_join(const Node& node) {
    View main = View::unknown("op " + node.label() + " is not followed");
    for (const std::string& input : node.inputs) {
      const View x = view(input);
      const bool constant = graph_.constant(input) != nullptr;
      if (x.known && (!main.known || x.ids.size() > main.ids.size())) {
        main = x;
        main.axis = shape(input).size() - x.axis;  // from the right, as broadcasting aligns
      } else if (!x.known && !main.known && !constant) {
        main.reason = x.reason;
      }
    }
    if (!main.known) {
      set_outputs(node, main);
      return;
    }
    const std::size_t right = main.axis;
    bool broken = false;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const std::string& input = node.inputs[i];
      if (input.empty()) continue;
      const Shape dims = shape(input);
      const std::int64_t here = dims.size() < right ? 1 : dims[dims.size() - right];
      if (graph_.constant(input) != nullptr) {
        if (here == 1) continue;
        if (here == static_cast<std::int64_t>(main.ids.size())) {
          cut(node, i, dims.size() - right, main.ids);
        } else {
          broken = true;
        }
        continue;
      }
      const View x = view(input);
      if (x.known && dims.size() - x.axis == right && x.ids.size() == main.ids.size()) {
        for (std::size_t c = 0; c < x.ids.size(); ++c) sets_.unite(x.ids[c], main.ids[c]);
      } else if (x.known && dims.size() - x.axis == right && x.ids.size() == 1) {
        continue;
      } else if (!x.known && here == 1 && !dims.empty()) {
        continue;
      } else {
        const std::string why =
            x.known ? "op " + node.label() + " joins them along another axis" : x.reason;
        pin(x, why);
        pin(main, why);
      }
    }
    if (broken) {
      refuse(node, "repeats them along a constant");
      return;
    }
    main.axis = shape(node.outputs[0]).size() - right;
    set_outputs(node, main);
  }

  void visit_concat(const Node& node) {
    const std::size_t axis = from_end(node.integer("axis", 1), shape(node.outputs[0]).size());
    View out{true, axis, {}, {}};
    bool along_channels = true;
    const View first = view(node.inputs[0]);
    if (first.known && first.axis != axis) along_channels = false;
    for (const std::string& input : node.inputs) {
      View x = view(input);
      const Shape dims = shape(input);
      if (x.known && (along_channels ? x.axis != axis
                                     : x.axis != first.axis || x.ids.size() != first.ids.size())) {
        refuse(node, "joins them along another axis");
        return;
      }
      if (!x.known) {
        if (!along_channels || dims.size() <= axis || dims[axis] < 0) {
          refuse(node, "joins them with values that are not followed");
          return;
        }
        const std::string why = x.reason;
        x = fresh(axis, dims[axis]);
        pin(x, why);
      }
      if (along_channels) {
        out.ids.insert(out.ids.end(), x.ids.begin(), x.ids.end());
      } else {
        for (std::size_t c = 0; c < x.ids.size(); ++c) sets_.unite(x.ids[c], first.ids[c]);
      }
    }
    set_outputs(node, along_channels ? out : first);
  }

  // --- operators that change the shape ---

  void repeat_into_rows(const Node& node, const View& x, const Shape& in) {
    std::int64_t block = 1;
    for (std::size_t i = 2; i < in.size(); ++i) block *= in[i];
    View out{true, 1, {}, {}};
    out.ids.reserve(x.ids.size() * static_cast<std::size_t>(block));
    for (const std::int32_t id : x.ids) {
      out.ids.insert(out.ids.end(), static_cast<std::size_t>(block), id);
    }
    set_outputs(node, out);
  }

  void visit_reshape(const Node& node, const View& x) {
    const Shape in = shape(node.inputs[0]);
    const Shape out = shape(node.outputs[0]);
    const bool inner_static =
        in.size() >= 2 && out.size() >= 2 &&
        std::all_of(in.begin() + 1, in.end(), [](std::int64_t d) { return d > 0; }) &&
        std::all_of(out.begin() + 1, out.end(), [](std::int64_t d) { return d > 0; });
    if (!inner_static || x.axis != 1 || in[0] != out[0]) {
      refuse(node, "moves channels in a way that is not followed");
      return;
    }
    const auto product = [](const Shape& dims, std::size_t begin) {
      return std::accumulate(dims.begin() + static_cast<std::ptrdiff_t>(begin), dims.end(),
                             std::int64_t{1}, std::multiplies<>());
    };
    if (out[1] == in[1] && product(in, 2) == product(out, 2)) {
      std::vector<std::int64_t> target = {0, 0};
      target.insert(target.end(), out.begin() + 2, out.end());
      groups_.reshapes[node.name] = target;
      set_outputs(node, x);
    } else if (out.size() == 2 && product(in, 1) == out[1]) {
      groups_.reshapes[node.name] = {0, -1};
      repeat_into_rows(node, x, in);
    } else {
      refuse(node, "moves channels in a way that is not followed");
    }
  }

  void visit_flatten(const Node& node, const View& x) {
    const Shape in = shape(node.inputs[0]);
    const bool inner_static = in.size() >= 2 && std::all_of(in.begin() + 1, in.end(),
                                                            [](std::int64_t d) { return d > 0; });
    if (x.axis != 1 || from_end(node.integer("axis", 1), in.size()) != 1 || !inner_static) {
      refuse(node, "moves channels in a way that is not followed");
      return;
    }
    repeat_into_rows(node, x, in);
  }

  void visit_pad(const Node& node, View x) {
    const auto pads = constant_integers(graph_, node, 1);
    const std::size_t rank = shape(node.inputs[0]).size();
    if (!pads || node.has_input(3) || pads->size() != 2 * rank) {
      refuse(node, "has pads that are not followed");
    } else if ((*pads)[x.axis] != 0 || (*pads)[rank + x.axis] != 0) {
      const bool adds = (*pads)[x.axis] >= 0 && (*pads)[rank + x.axis] >= 0;
      refuse(node, adds ? "adds channels" : "takes some of the channels");
    } else {
      set_outputs(node, x);
    }
  }

  /// Reduce*, Slice, Squeeze and Unsqueeze name axes in an input.
  void visit_axes(const Node& node, View x, std::size_t input) {
    const Shape in = shape(node.inputs[0]);
    const Shape out = shape(node.outputs[0]);
    auto axes = constant_integers(graph_, node, input);
    if (!axes && node.has_input(input)) {
      refuse(node, "has axes that are computed");
      return;
    }
    const bool unsqueeze = node.op == "Unsqueeze";
    std::set<std::size_t> named;
    if (axes) {
      for (const std::int64_t axis : *axes)
        named.insert(from_end(axis, unsqueeze ? out.size() : in.size()));
    } else if (node.op == "Slice") {
      const auto starts = constant_integers(graph_, node, 1);
      for (std::size_t i = 0; i < (starts ? starts->size() : in.size()); ++i) named.insert(i);
    } else if (node.op == "Squeeze") {
      for (std::size_t i = 0; i < in.size(); ++i) {
        if (in[i] == 1) named.insert(i);
      }
    } else {
      for (std::size_t i = 0; i < in.size(); ++i) named.insert(i);
    }
    if (unsqueeze) {
      for (const std::size_t axis : named) {  // ascending: each one at or before moves us right
        if (axis <= x.axis) ++x.axis;
      }
    } else {
      if (named.contains(x.axis)) {
        refuse(node, node.op == "Slice" ? "takes some of the channels" : "mixes channels");
        return;
      }
      const bool drops = node.op == "Squeeze" ||
                         (node.op.starts_with("Reduce") && node.integer("keepdims", 1) == 0);
      if (drops) {
        x.axis -= static_cast<std::size_t>(std::count_if(
            named.begin(), named.end(), [&](std::size_t axis) { return axis < x.axis; }));
      }
    }
    set_outputs(node, x);
  }

  void visit_resize(const Node& node, const View& x) {
    const Tensor* scales = node.has_input(2) ? graph_.constant(node.inputs[2]) : nullptr;
    const bool by_scales =
        scales != nullptr && scales->dtype() == graph::DType::kF32 &&
        scales->elements() == static_cast<std::int64_t>(shape(node.inputs[0]).size()) &&
        !node.has_input(3) && !node.attributes.contains("axes");
    if (!by_scales || scales->as<float>()[x.axis] != 1.0F) {
      refuse(node, "has sizes that are not followed");
      return;
    }
    set_outputs(node, x);
  }

  void visit_transpose(const Node& node, View x) {
    const std::size_t rank = shape(node.inputs[0]).size();
    std::vector<std::int64_t> order = node.integers("perm");
    if (order.empty()) {
      for (std::size_t i = rank; i-- > 0;) order.push_back(static_cast<std::int64_t>(i));
    }
    const auto place = std::find(order.begin(), order.end(), static_cast<std::int64_t>(x.axis));
    if (place == order.end()) {
      refuse(node, "moves channels in a way that is not followed");
      return;
    }
    x.axis = static_cast<std::size_t>(place - order.begin());
    set_outputs(node, x);
  }

  /// Parameters with one element a channel: inputs first…last.
  void visit_normalization(const Node& node, const View& x, std::size_t last) {
    for (std::size_t i = 1; i <= last; ++i) {
      const Tensor* parameter = node.has_input(i) ? graph_.constant(node.inputs[i]) : nullptr;
      if (x.axis != 1 || parameter == nullptr || parameter->rank() != 1 ||
          parameter->dim(0) != static_cast<std::int64_t>(x.ids.size())) {
        refuse(node, "has parameters that are not followed");
        return;
      }
    }
    for (std::size_t i = 1; i <= last; ++i) cut(node, i, 0, x.ids);
    set_outputs(node, x);
  }

  /// Shape arithmetic is harmless where it only computes the targets of Reshapes that get a target
  /// of our own.
  bool only_feeds_reshapes(const std::string& value, int depth) const {
    static const std::set<std::string> arithmetic = {
        "Gather", "Unsqueeze", "Squeeze", "Concat", "Cast", "Slice", "Mul", "Div", "Add", "Sub"};
    if (depth > 16 || graph_.is_output(value)) return false;
    for (const std::size_t i : links_.of(value)) {
      const Node& reader = graph_.nodes[i];
      if (reader.op == "Reshape" && reader.inputs[0] != value) continue;
      if (!arithmetic.contains(reader.op) || !only_feeds_reshapes(reader.outputs[0], depth + 1)) {
        return false;
      }
    }
    return true;
  }

  // --- dispatch ---

  void visit(const Node& node) {
    const bool nested =
        std::any_of(node.attributes.begin(), node.attributes.end(), [](const auto& item) {
          return std::holds_alternative<std::shared_ptr<const Graph>>(item.second);
        });
    if (nested) nested_graph_ = "op " + node.label() + " has a nested graph";
    if (node.inputs.empty() || node.outputs.empty() || node.outputs[0].empty()) {
      set_outputs(node, View::unknown("op " + node.label() + " is not followed"));
      return;
    }
    if (graph::is_layer(graph_, node)) {
      visit_layer(node);
      return;
    }
    if (joining_ops().contains(node.op)) {
      visit_join(node);
      return;
    }
    if (node.op == "Concat") {
      visit_concat(node);
      return;
    }
    const View x = view(node.inputs[0]);
    if (!x.known) {
      refuse(node, "is not followed");
      set_outputs(node, View::unknown(x.reason));
      return;
    }
    visit_followed(node, x);
  }

  void visit_followed(const Node& node, const View& x) {
    if (elementwise_ops().contains(node.op)) {
      set_outputs(node, x);
    } else if (pooling_ops().contains(node.op)) {
      if (x.axis == 1)
        set_outputs(node, x);
      else
        refuse(node, "mixes channels");
    } else if (node.op == "Flatten") {
      visit_flatten(node, x);
    } else if (node.op == "Reshape") {
      visit_reshape(node, x);
    } else if (node.op == "BatchNormalization") {
      visit_normalization(node, x, 4);
    } else if (node.op == "InstanceNormalization") {
      visit_normalization(node, x, 2);
    } else if (node.op == "PRelu") {
      visit_join(node);
    } else if (node.op == "Pad") {
      visit_pad(node, x);
    } else if (node.op == "Slice") {
      visit_axes(node, x, 3);
    } else if (node.op.starts_with("Reduce") || node.op == "Squeeze" || node.op == "Unsqueeze") {
      visit_axes(node, x, 1);
    } else if (node.op == "Transpose") {
      visit_transpose(node, x);
    } else if (node.op == "Resize") {
      visit_resize(node, x);
    } else if (node.op == "Softmax" || node.op == "LogSoftmax") {
      const std::size_t axis = from_end(node.integer("axis", -1), shape(node.inputs[0]).size());
      if (axis != x.axis)
        set_outputs(node, x);
      else
        refuse(node, "mixes channels");
    } else if (node.op == "QuantizeLinear" || node.op == "DequantizeLinear") {
      const Tensor* scale = graph_.constant(node.inputs[1]);
      if (scale != nullptr && scale->elements() == 1)
        set_outputs(node, x);
      else
        refuse(node, "has a scale for each channel");
    } else if (node.op == "Shape" && only_feeds_reshapes(node.outputs[0], 0)) {
      set_outputs(node, View::unknown("op " + node.label() + " is not followed"));
    } else {
      refuse(node, "is not followed");
    }
  }

  const Graph& graph_;
  Links links_;
  std::map<std::string, View> views_;
  ChannelSets sets_;
  std::string nested_graph_;
  ChannelGroups groups_;
};

}  // namespace

ChannelGroups find_channel_groups(const Graph& graph) { return Finder(graph).run(); }

}  // namespace kerf::compress
