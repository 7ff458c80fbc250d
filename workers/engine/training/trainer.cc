#include "workers/engine/training/trainer.h"

#include <omp.h>

#include <algorithm>

#include "workers/engine/lowering/prepare.h"
#include "workers/engine/training/network.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine {

using graph::Graph;
using graph::Node;
using graph::Shape;
using training::Network;
using training::Value;

struct Trainer::Impl {
  Graph graph;  ///< Of static shapes; the network reads its constants.
  int threads = 1;
  std::unique_ptr<Network> network;
  std::vector<Value*> inputs, outputs;
  std::vector<Shape> output_shapes;
  std::vector<Parameter> parameters;
};

namespace {

Result<void> add_node(Network& network, const Node& node) {
  for (const auto family : {training::add_layer, training::add_pointwise, training::add_binary, training::add_mover,
                            training::add_pool}) {
    KERF_ASSIGN(const bool done, family(network, node));
    if (done) return {};
  }
  return training::no_gradient(node, "the op has no gradient here");
}

}  // namespace

Trainer::Trainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Trainer::~Trainer() = default;

Result<std::unique_ptr<Trainer>> Trainer::make(const Graph& graph, const TrainerOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->threads = std::max(1, options.threads);
  KERF_ASSIGN(Graph sized, graph::with_batch(graph, options.batch));
  KERF_ASSIGN(impl->graph, prepare(std::move(sized)));
  // oneDNN chooses blockings for the team that will run them.
  omp_set_num_threads(impl->threads);
  impl->network = std::make_unique<Network>(impl->graph, impl->threads);
  Network& network = *impl->network;
  for (const graph::ValueInfo& input : impl->graph.inputs) {
    if (input.dtype != graph::DType::kF32 || !graph::element_count(input.shape)) {
      return invalid_argument("input '" + input.name + "' is " + std::string(graph::to_string(input.dtype)) + " " +
                              graph::to_string(input.shape) + "; training takes f32 of a fixed shape");
    }
    Value* value = network.make(input.shape, Layout::kPlain, false);
    network.set(input.name, value);
    impl->inputs.push_back(value);
  }
  for (const Node& node : impl->graph.nodes) KERF_TRY(add_node(network, node));
  for (const graph::ValueInfo& output : impl->graph.outputs) {
    Value* value = network.find(output.name);
    if (value == nullptr) return invalid_argument("output '" + output.name + "' is a constant; there is nothing to train");
    impl->outputs.push_back(network.in_layout(value, Layout::kPlain));
    impl->output_shapes.push_back(value->dims);
  }
  if (network.learnt().empty()) return invalid_argument("the model has no weights to train");
  network.finish(impl->outputs);
  for (const Network::Learnt& learnt : network.learnt()) {
    Value& value = *learnt.value;
    impl->parameters.push_back({learnt.name, learnt.node, learnt.input, value.dims, {value.data, value.count},
                                {value.gradient, value.count}});
  }
  return std::unique_ptr<Trainer>(new Trainer(std::move(impl)));
}

std::vector<Trainer::Parameter>& Trainer::parameters() { return impl_->parameters; }
std::size_t Trainer::inputs() const { return impl_->inputs.size(); }
std::size_t Trainer::outputs() const { return impl_->outputs.size(); }
const Shape& Trainer::output_shape(std::size_t i) const { return impl_->output_shapes.at(i); }
std::span<float> Trainer::input(std::size_t i) { return {impl_->inputs.at(i)->data, impl_->inputs[i]->count}; }
std::span<const float> Trainer::output(std::size_t i) const {
  return {impl_->outputs.at(i)->data, impl_->outputs[i]->count};
}
std::span<float> Trainer::output_gradient(std::size_t i) {
  return {impl_->outputs.at(i)->gradient, impl_->outputs[i]->count};
}

void Trainer::forward() {
  omp_set_num_threads(impl_->threads);
  for (const auto& op : impl_->network->ops()) op->forward();
}

void Trainer::backward() {
  omp_set_num_threads(impl_->threads);
  const auto& ops = impl_->network->ops();
  for (auto op = ops.rbegin(); op != ops.rend(); ++op) (*op)->backward();
}

std::vector<std::string> Trainer::kernels() const {
  std::vector<std::string> out;
  for (const auto& op : impl_->network->ops()) out.insert(out.end(), op->kernels.begin(), op->kernels.end());
  return out;
}

Logits without_final_softmax(Graph graph) {
  Logits out;
  for (graph::ValueInfo& output : graph.outputs) {
    std::string removed;
    Node* passes = nullptr;  // the first of the nodes that stand between, which only move values
    std::string value = output.name;
    for (std::size_t steps = 0; steps <= graph.nodes.size(); ++steps) {
      const auto maker = std::find_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
        return std::find(node.outputs.begin(), node.outputs.end(), value) != node.outputs.end();
      });
      if (maker == graph.nodes.end() || graph.consumers(value).size() > (value == output.name ? 0U : 1U)) break;
      if (maker->op == "Softmax" || maker->op == "LogSoftmax" || maker->op == "Sigmoid") {
        removed = maker->op;
        if (passes != nullptr) {
          passes->inputs[0] = maker->inputs[0];
        } else {
          output.name = maker->inputs[0];
        }
        break;
      }
      const bool moves = maker->op == "Identity" || maker->op == "Reshape" || maker->op == "Flatten" ||
                         maker->op == "Squeeze" || maker->op == "Unsqueeze";
      if (!moves) break;
      passes = &*maker;
      value = maker->inputs[0];
    }
    out.removed.push_back(removed);
  }
  graph.cut_to_outputs();
  out.graph = std::move(graph);
  return out;
}

}  // namespace kerf::engine
