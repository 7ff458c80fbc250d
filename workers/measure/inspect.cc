#include "workers/measure/inspect.h"

#include "workers/engine/executor.h"
#include "workers/engine/training/trainer.h"

namespace kerf::measure {
namespace {

/// One sample is enough to know whether each op has a gradient.
std::string why_not_trained(const graph::Graph& graph) {
  const auto trainer = engine::Trainer::make(engine::without_final_softmax(graph).graph, {.batch = 1});
  return trainer.has_value() ? "" : trainer.error().message;
}

}  // namespace

Result<ModelInfo> inspect(const compress::PreparedModel& model) {
  KERF_ASSIGN(const auto executor, engine::Executor::compile(model.graph, {.batch = 0}));
  ModelInfo info = model.info;
  for (LayerInfo& layer : info.layers) {
    for (const engine::StepInfo& step : executor->steps()) {
      if (step.is_layer && step.name == layer.name) layer.kernel = step.kernel;
    }
  }
  info.distill_refused_because = why_not_trained(model.graph);
  return info;
}

Result<std::vector<ExecutedLayer>> executed_layers(const compress::CompressedModel& candidate, int threads) {
  engine::ExecutorOptions options{0, threads};
  options.tune = true;
  KERF_ASSIGN(const auto executor, engine::Executor::compile(candidate.graph, options));
  std::vector<ExecutedLayer> out;
  for (const engine::StepInfo& step : executor->steps()) {
    if (!step.is_layer) continue;
    ExecutedLayer layer{step.name, step.executes_as, step.kernel};
    for (const compress::LayerReport& report : candidate.layers) {
      if (report.name != step.name) continue;
      layer.weight_bits = report.weight_bits;
      layer.activation_bits = report.activation_bits;
    }
    out.push_back(std::move(layer));
  }
  return out;
}

}  // namespace kerf::measure
