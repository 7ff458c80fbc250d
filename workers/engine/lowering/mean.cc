// Means over all spatial axes: GlobalAveragePool, and ReduceMean where that is what it does.
#include <algorithm>

#include "workers/engine/geometry.h"
#include "workers/engine/lowering/layers.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Tensor;

Result<bool> lower_mean(Values& values, const Node& node, const std::optional<Numeric>& quantize) {
  const graph::ValueInfo& info = values.info(node.inputs[0]);
  if (info.dtype != DType::kF32 || info.shape.size() < 3) return false;
  if (node.op == "ReduceMean") {
    std::vector<std::int64_t> axes = node.integers("axes");
    if (node.has_input(1)) {
      const Tensor* tensor = values.graph().constant(node.inputs[1]);
      if (tensor == nullptr) return false;
      axes = tensor->to_integers();
    }
    for (std::int64_t& axis : axes) axis = normalized_axis(axis, info.shape.size());
    std::sort(axes.begin(), axes.end());
    if (axes.size() != info.shape.size() - 2) return false;
    for (std::size_t k = 0; k < axes.size(); ++k) {
      if (axes[k] != static_cast<std::int64_t>(k) + 2) return false;
    }
  }
  KERF_ASSIGN(Rep rep, values.first(node.inputs[0]));
  rep = values.in_layout(node.inputs[0], rep, Layout::kChannelsLast);
  RowReduction mean;
  mean.from = rep.slot;
  mean.from_numeric = rep.numeric;
  mean.batch = info.shape[0];
  mean.channels = info.shape[1];
  mean.rows = 1;
  for (std::size_t k = 2; k < info.shape.size(); ++k) mean.rows *= info.shape[k];
  if (mean.batch * mean.channels * mean.rows == 0) return false;
  if (quantize) mean.to_numeric = *quantize;
  Rep out;
  out.numeric = mean.to_numeric;
  out.slot = mean.to = values.new_slot(mean.to_numeric.dtype, values.info(node.outputs[0]).shape, Layout::kPlain);
  mean.threads = values.threads();
  values.emit(make_row_mean(mean), node.name, node.op, executes_as(rep.numeric));
  values.set(node.outputs[0], out);
  return true;
}

}  // namespace kerf::engine
