// with_batch: the model at another number of samples.
#include <algorithm>
#include <cstring>

#include "workers/graph/shape_inference.h"
#include "workers/graph/shapes/batch_rules.h"

namespace kerf::graph {
namespace {

using shapes::BatchCall;
using shapes::BatchState;
using shapes::Inference;
using shapes::Value;

/// Walks the graph at its own batch and builds it at the wanted one, node by node.
class Rebatch {
 public:
  Rebatch(const Graph& graph, std::int64_t own, std::int64_t wanted)
      : own_graph_(graph),
        out_(graph),
        own_(graph),
        wanted_(out_),
        own_batch_(own),
        batch_(wanted) {
    out_.nodes.clear();
    for (ValueInfo& input : out_.inputs) input.shape[0] = wanted;
    for (const ValueInfo& input : graph.inputs) states_[input.name] = {BatchState::Kind::kRows, 1};
  }

  Result<Graph> run() {
    KERF_TRY(own_.begin(own_batch_));
    KERF_TRY(wanted_.begin(batch_));
    for (const Node& node : own_graph_.nodes) KERF_TRY(add(node));
    for (const ValueInfo& output : out_.outputs) {
      const BatchState state = state_of(output.name);
      if (!state.rows() || state.factor != 1) {
        return Error{ErrorCode::kFailedPrecondition,
                     "graph output '" + output.name + "' doesn't hold one row a sample"};
      }
    }
    KERF_TRY(infer_shapes(out_));
    return std::move(out_);
  }

 private:
  BatchState state_of(const std::string& value) const {
    const auto found = states_.find(value);
    return found == states_.end() ? BatchState{} : found->second;
  }

  Result<void> add(const Node& node) {
    KERF_TRY(own_.infer(node));
    BatchCall call{node, {}, {}, {}, own_batch_};
    bool rows = false;
    bool counted = false;
    for (const std::string& input : node.inputs) {
      call.in.push_back(input.empty() ? nullptr : own_.find(input));
      call.states.push_back(state_of(input));
      rows = rows || call.states.back().rows();
      counted = counted || call.states.back().kind == BatchState::Kind::kCounted;
    }
    for (const std::string& output : node.outputs)
      call.out.push_back(output.empty() ? nullptr : own_.find(output));

    if (node.op == "Shape" || node.op == "Size" || (counted && !rows)) return add_arithmetic(call);
    if (!rows) {
      KERF_TRY(wanted_.infer(node));
      out_.nodes.push_back(node);
      return {};
    }
    KERF_ASSIGN(const BatchState state, shapes::batch_state(call));
    KERF_ASSIGN(Node fitted, fit(call, state));
    for (const std::string& output : node.outputs) {
      if (output.empty()) continue;
      states_[output] = state;
      KERF_TRY(verify(call, output, state));
    }
    out_.nodes.push_back(std::move(fitted));
    return {};
  }

  /// Nodes that compute with shapes only: how their results differ between the two batches says
  /// whether they depend on the batch.
  Result<void> add_arithmetic(const BatchCall& call) {
    KERF_TRY(wanted_.infer(call.node));
    out_.nodes.push_back(call.node);
    for (const std::string& output : call.node.outputs) {
      if (output.empty()) continue;
      const Value* before = own_.find(output);
      const Value* after = wanted_.find(output);
      if (before->shape != after->shape) {
        // The same value for every sample, spread over the batch.
        const bool spread =
            call.node.op == "ConstantOfShape" ||
            (call.node.op == "Expand" && call.fixed(0) &&
             (call.in[0]->shape.size() < before->shape.size() || call.in[0]->shape[0] == 1));
        if (spread && !before->shape.empty() && before->shape[0] > 0 &&
            before->shape[0] % own_batch_ == 0) {
          const BatchState state{BatchState::Kind::kRows, before->shape[0] / own_batch_};
          states_[output] = state;
          KERF_TRY(verify(call, output, state));
          continue;
        }
        states_[output] = {BatchState::Kind::kCounted, 1};
        if (before->elements == nullptr || after->elements == nullptr)
          return call.mixes("its shape depends on the number of samples");
      } else if (before->elements == nullptr || after->elements == nullptr) {
        const bool from_shape = call.node.op == "Shape" || call.node.op == "Size";
        if (!from_shape) return call.mixes("computes with the number of samples");
      } else if (*before->elements != *after->elements) {
        states_[output] = {BatchState::Kind::kCounted, 1};
      }
    }
    return {};
  }

  /// The node for the wanted batch, with its outputs inferred.
  Result<Node> fit(const BatchCall& call, BatchState state) {
    Node node = call.node;
    if (node.op == "Reshape" || node.op == "Expand" || (node.op == "Resize" && node.has_input(3))) {
      const std::size_t target = node.op == "Resize" ? 3 : 1;
      const auto as_it_is = wanted_.infer(node);
      const Value* out = as_it_is.has_value() ? wanted_.find(node.outputs[0]) : nullptr;
      if (out != nullptr && !out->shape.empty() && out->shape[0] == state.factor * batch_)
        return node;
      Shape dims = call.out[0]->shape;
      dims[0] = state.factor * batch_;
      if (std::any_of(dims.begin() + 1, dims.end(), [](std::int64_t dim) { return dim < 0; })) {
        return call.mixes("its target shape holds the old batch");
      }
      node.inputs[target] = out_.fresh_name(node.inputs[target] + "_batch");
      out_.initializers.emplace(node.inputs[target],
                                Tensor::s64({static_cast<std::int64_t>(dims.size())}, dims));
    } else if (node.op == "Concat") {
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        if (call.rows(i)) continue;
        const Tensor* row = out_.constant(node.inputs[i]);
        if (row == nullptr) return call.mixes("joins samples with one row that isn't constant");
        if (state.factor * batch_ == 1) continue;
        KERF_ASSIGN(Tensor repeated, repeat(call, *row, state.factor * batch_));
        node.inputs[i] = out_.fresh_name(node.inputs[i] + "_batch");
        out_.initializers.emplace(node.inputs[i], std::move(repeated));
      }
    } else if (node.op == "Squeeze" && !node.has_input(1)) {
      // Said explicitly, so that a batch of one stays an axis.
      std::vector<std::int64_t> axes;
      for (std::size_t i = 1; i < call.in[0]->shape.size(); ++i) {
        if (call.in[0]->shape[i] == 1) axes.push_back(static_cast<std::int64_t>(i));
      }
      node.inputs.resize(2);
      node.inputs[1] = out_.fresh_name(node.name + "/axes");
      out_.initializers.emplace(node.inputs[1],
                                Tensor::s64({static_cast<std::int64_t>(axes.size())}, axes));
    }
    KERF_TRY(wanted_.infer(node));
    return node;
  }

  static Result<Tensor> repeat(const BatchCall& call, const Tensor& row, std::int64_t times) {
    Shape shape = row.shape();
    shape[0] *= times;
    if (!element_count(shape)) return call.mixes("a constant would become too large");
    Tensor out(row.dtype(), shape);
    for (std::int64_t i = 0; i < times; ++i) {
      std::memcpy(out.mutable_raw() + static_cast<std::size_t>(i) * row.bytes(), row.raw(),
                  row.bytes());
    }
    return out;
  }

  /// Rules are believed only where both batches agree in all but the first dimension.
  Result<void> verify(const BatchCall& call, const std::string& output, BatchState state) {
    const Shape& before = own_.find(output)->shape;
    const Shape& after = wanted_.find(output)->shape;
    const bool same_rest = before.size() == after.size() && !before.empty() &&
                           std::equal(before.begin() + 1, before.end(), after.begin() + 1);
    if (!same_rest || before[0] != state.factor * own_batch_ || after[0] != state.factor * batch_) {
      return call.mixes("its output is " + to_string(before) + " at a batch of " +
                        std::to_string(own_batch_) + ", but " + to_string(after) +
                        " at a batch of " + std::to_string(batch_));
    }
    return {};
  }

  const Graph& own_graph_;
  Graph out_;
  Inference own_;
  Inference wanted_;
  std::int64_t own_batch_;
  std::int64_t batch_;
  std::unordered_map<std::string, BatchState> states_;
};

}  // namespace

Result<Graph> with_batch(const Graph& graph, std::int64_t batch) {
  if (batch < 1)
    return invalid_argument("a batch of " + std::to_string(batch) + " samples, expected 1 or more");
  std::int64_t own = batch;
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const ValueInfo& input = graph.inputs[i];
    if (input.shape.empty()) {
      return Error{ErrorCode::kFailedPrecondition,
                   "graph input '" + input.name + "' has no batch axis"};
    }
    if (i > 0 && input.shape[0] != own) {
      return Error{ErrorCode::kFailedPrecondition, "graph inputs '" + graph.inputs[0].name +
                                                       "' and '" + input.name +
                                                       "' differ in their first dimension"};
    }
    own = input.shape[0];
  }
  // At its own batch, and with one sample where the batch is free, a model means what it says.
  if (own == batch || (own < 0 && batch == 1)) {
    Graph copy = graph;
    for (ValueInfo& input : copy.inputs) input.shape[0] = batch;
    KERF_TRY(infer_shapes(copy));
    return copy;
  }
  // A free batch is looked at as a number that hardly equals any dimension of a model.
  if (own < 0) own = batch == 251 ? 241 : 251;
  return Rebatch(graph, own, batch).run();
}

}  // namespace kerf::graph
