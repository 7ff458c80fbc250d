#include "workers/compress/low_rank.h"

#include <algorithm>
#include <cmath>

#include "workers/compress/bias_correction.h"
#include "workers/compress/factorize.h"
#include "workers/compress/layer.h"
#include "workers/compress/layer_input.h"
#include "workers/graph/shape_inference.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

/// Weights of the parts, in the order that they run, as matrices of one output a row.
struct Part {
  std::vector<double> weights;
  Shape shape;  // as a Conv or transposed Gemm would store them
};

RankChoice choice_of(const RankSpec& spec, std::size_t full) {
  if (spec.energy > 0) return {full, spec.energy};
  const auto rank = static_cast<std::size_t>(std::llround(spec.share * static_cast<double>(full)));
  return std::clamp<std::size_t>(rank, 1, full);
}

KernelShape kernel_of(const Shape& weights) {
  std::size_t taps = 1;
  for (std::size_t i = 3; i < weights.size(); ++i) taps *= static_cast<std::size_t>(weights[i]);
  return {static_cast<std::size_t>(weights[0]), static_cast<std::size_t>(weights[1]),
          static_cast<std::size_t>(weights[2]), taps};
}

/// A copy of a Shape with other channels and, where `point`, a kernel of 1.
Shape conv_shape(const Shape& like, std::size_t out, std::size_t in, bool point) {
  Shape shape = like;
  shape[0] = static_cast<std::int64_t>(out);
  shape[1] = static_cast<std::int64_t>(in);
  if (point) std::fill(shape.begin() + 2, shape.end(), 1);
  return shape;
}

/// One spatial axis of a 2-D convolution's attributes stays, the other becomes trivial.
void keep_axis(Node& node, std::size_t axis, std::int64_t kernel) {
  std::vector<std::int64_t> shape(2, 1);
  shape[axis] = kernel;
  node.attributes["kernel_shape"] = shape;
  for (const char* name : {"strides", "dilations"}) {
    std::vector<std::int64_t> values = node.integers(name, {1, 1});
    values[1 - axis] = 1;
    node.attributes[name] = values;
  }
  if (node.attributes.contains("pads")) {
    std::vector<std::int64_t> pads = node.integers("pads");
    pads[1 - axis] = 0;
    pads[3 - axis] = 0;
    node.attributes["pads"] = pads;
  }
}

/// A convolution that looks at single points.
void make_point(Node& node, std::size_t spatial) {
  node.attributes["kernel_shape"] = std::vector<std::int64_t>(spatial, 1);
  for (const char* name : {"strides", "dilations", "pads", "auto_pad"}) node.attributes.erase(name);
}

Error wrong_form(const std::string& layer, const std::string& form,
                 const std::vector<std::string>& forms) {
  std::string list;
  for (const std::string& known : forms) list += (list.empty() ? "\"" : ", \"") + known + "\"";
  return invalid_argument("plan.layers." + layer + ".rank: form \"" + form + "\" for layer '" + layer +
                          "'; expected " + (list.empty() ? "no rank: it can't be factorized" : list));
}

}  // namespace

std::vector<std::string> rank_forms(const Graph& graph, const Node& layer) {
  if (layer.op != "Conv" && layer.op != "Gemm" && layer.op != "MatMul") return {};
  const Tensor* weights = graph.constant(layer.inputs[1]);
  if (weights == nullptr || weights->dtype() != graph::DType::kF32) return {};
  if (graph.consumers(layer.inputs[1]).size() > 1 || graph.is_output(layer.inputs[1])) return {};
  if (layer.op != "Conv") {
    const bool fits = weights->rank() == 2 && layer.integer("transA", 0) == 0 &&
                      std::min(weights->dim(0), weights->dim(1)) > 1;
    return fits ? std::vector<std::string>{"svd"} : std::vector<std::string>();
  }
  if (weights->rank() < 3 || layer.integer("group", 1) != 1) return {};
  std::vector<std::string> out;
  const std::int64_t columns = weights->elements() / std::max<std::int64_t>(1, weights->dim(0));
  if (std::min(weights->dim(0), columns) > 1) out.emplace_back("svd");
  if (weights->rank() == 4 && weights->dim(2) > 1 && weights->dim(3) > 1) {
    out.emplace_back("spatial");
  }
  const bool kernel = std::any_of(weights->shape().begin() + 2, weights->shape().end(),
                                  [](std::int64_t k) { return k > 1; });
  if (kernel && weights->dim(0) > 1 && weights->dim(1) > 1) out.emplace_back("tucker");
  return out;
}

Result<SplitLayer> split_layer(Graph& graph, const std::string& name, const RankSpec& rank,
                               const SecondMoments* moments, bool must_save) {
  const auto found = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                  [&](const Node& node) { return node.name == name; });
  if (found == graph.nodes.end()) return internal_error("layer '" + name + "' is gone");
  const Node layer = *found;
  const auto forms = rank_forms(graph, layer);
  if (std::find(forms.begin(), forms.end(), rank.form) == forms.end()) {
    return wrong_form(name, rank.form, forms);
  }
  const Tensor weights = *graph.constant(layer.inputs[1]);
  const std::vector<double> w = weight_matrix(layer, weights);
  const WeightPlace place(layer, weights.shape());
  const std::size_t rows = place.rows;
  const std::size_t columns = place.columns;
  const bool convolution = layer.op == "Conv";

  // Moments over more columns than one block holds aren't known as a whole.
  const bool known = moments != nullptr && moments->rows > 0 && moments->blocks.size() == 1 &&
                     moments->depth == columns;
  std::vector<double> gram;
  if (known && rank.data_aware) {
    gram = moments->blocks[0].gram;
    const std::vector<double>& mean = moments->blocks[0].mean;
    if (can_take_bias(graph, layer)) {
      for (std::size_t i = 0; i < columns; ++i) {
        for (std::size_t j = 0; j < columns; ++j) gram[i * columns + j] -= mean[i] * mean[j];
      }
    }
    double trace = 0;
    for (std::size_t i = 0; i < columns; ++i) trace += gram[i * columns + i];
    if (trace > 0 && std::isfinite(trace)) {
      for (double& value : gram) value *= static_cast<double>(columns) / trace;
    } else {
      gram.clear();  // nothing but constants was seen
    }
  }

  std::vector<Part> parts;
  std::vector<double> composed;
  if (rank.form == "svd") {
    Factors f = factorize(w, rows, columns, gram, choice_of(rank, std::min(rows, columns)));
    composed = compose(f, rows, columns);
    const auto r = static_cast<std::int64_t>(f.rank);
    parts.push_back({std::move(f.first),
                     convolution ? conv_shape(weights.shape(), f.rank, static_cast<std::size_t>(weights.dim(1)), false)
                                 : Shape{r, static_cast<std::int64_t>(columns)}});
    parts.push_back({std::move(f.second), convolution
                                              ? conv_shape(weights.shape(), rows, f.rank, true)
                                              : Shape{static_cast<std::int64_t>(rows), r}});
  } else {
    const KernelShape kernel = kernel_of(weights.shape());
    if (rank.form == "spatial") {
      Factors f = factorize_spatial(
          w, kernel, gram,
          choice_of(rank, std::min(kernel.inputs * kernel.high, kernel.outputs * kernel.wide)));
      composed = compose_spatial(f, kernel);
      const auto r = static_cast<std::int64_t>(f.rank);
      parts.push_back({std::move(f.first), {r, weights.dim(1), weights.dim(2), 1}});
      parts.push_back({std::move(f.second), {weights.dim(0), r, 1, weights.dim(3)}});
    } else {
      TuckerFactors f = factorize_tucker(w, kernel, gram, choice_of(rank, kernel.inputs),
                                         choice_of(rank, kernel.outputs));
      composed = compose_tucker(f, kernel);
      parts.push_back({std::move(f.input), conv_shape(weights.shape(), f.rank_in, kernel.inputs, true)});
      parts.push_back({std::move(f.core), conv_shape(weights.shape(), f.rank_out, f.rank_in, false)});
      parts.push_back({std::move(f.output), conv_shape(weights.shape(), rows, f.rank_out, true)});
    }
  }
  std::size_t elements = 0;
  for (const Part& part : parts) {
    elements += part.weights.size();
    if (!std::all_of(part.weights.begin(), part.weights.end(),
                     [](double v) { return std::isfinite(static_cast<float>(v)); })) {
      return Error{ErrorCode::kFailedPrecondition,
                   "layer '" + name + "': its factors are not finite; its weights are too large"};
    }
  }
  SplitLayer out;
  if (must_save && elements >= w.size()) return out;

  out.name = name;
  std::vector<Node> nodes;
  std::string value = layer.inputs[0];
  for (std::size_t p = 0; p < parts.size(); ++p) {
    Node node = layer;
    node.name = graph.fresh_name(name + "." + std::to_string(p + 1));
    const bool last = p + 1 == parts.size();
    const bool matrix_by_columns = !convolution && output_channel_axis(layer) == 1;
    Shape stored = parts[p].shape;
    if (matrix_by_columns) std::swap(stored[0], stored[1]);
    const std::string constant = graph.fresh_name(node.name + ".weight");
    graph.initializers[constant] =
        weights_from(node, Tensor(graph::DType::kF32, stored), parts[p].weights);
    node.inputs = {value, constant};
    if (last && layer.has_input(2)) node.inputs.push_back(layer.inputs[2]);
    if (!last && node.op == "Gemm") node.attributes.erase("beta");
    node.outputs = {last ? layer.outputs[0] : graph.fresh_name(node.name + ".output")};
    value = node.outputs[0];
    if (convolution) {
      const std::size_t spatial = stored.size() - 2;
      if (rank.form == "spatial") {
        keep_axis(node, p, weights.dim(2 + p));
      } else if (const bool core = rank.form == "svd" ? p == 0 : p == 1; !core) {
        make_point(node, spatial);
      }
    }
    out.parts.push_back(node.name);
    // Names that later parts mustn't take.
    graph.values[node.outputs[0]] = {node.outputs[0], graph::DType::kF32, {}};
    nodes.push_back(std::move(node));
  }
  const auto at = graph.nodes.begin() + (found - graph.nodes.begin());
  const auto next = graph.nodes.erase(at);
  graph.nodes.insert(next, std::make_move_iterator(nodes.begin()), std::make_move_iterator(nodes.end()));
  graph.remove_dead();
  graph.values.clear();
  if (auto inferred = graph::infer_shapes(graph); !inferred.has_value()) {
    return internal_error("a factorized graph doesn't fit together: " + inferred.error().message);
  }
  if (known) {
    std::vector<double> lost(rows, 0.0);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < columns; ++c) {
        lost[r] += (composed[r * columns + c] - w[r * columns + c]) * moments->blocks[0].mean[c];
      }
    }
    (void)correct_bias(graph, out.parts.back(), lost);
  }
  return out;
}

}  // namespace kerf::compress
