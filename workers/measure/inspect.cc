#include "workers/measure/inspect.h"

#include "workers/engine/executor.h"

namespace kerf::measure {

Result<ModelInfo> inspect(const compress::PreparedModel& model) {
  KERF_ASSIGN(const auto executor, engine::Executor::compile(model.graph, {.batch = 0}));
  ModelInfo info = model.info;
  for (LayerInfo& layer : info.layers) {
    for (const engine::StepInfo& step : executor->steps()) {
      if (step.is_layer && step.name == layer.name) layer.kernel = step.kernel;
    }
  }
  return info;
}

}  // namespace kerf::measure
