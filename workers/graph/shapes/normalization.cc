// Normalizations: same shape out as in, parameters that have to fit.
#include "workers/graph/shapes/call.h"

namespace kerf::graph::shapes {
namespace {

/// Inputs 1 … last are vectors of one value a channel (dimension 1 of input 0).
Result<void> per_channel(Call& call, std::size_t last) {
  KERF_TRY(call.want_rank(0, 2, kMaxRank));
  for (std::size_t i = 1; i <= last; ++i) {
    if (!call.has(i) || call.rank(i) != 1 || !compatible(call.shape(i)[0], call.shape(0)[1])) {
      return call.fail("input " + std::to_string(i) + " must have the shape [" +
                       std::to_string(call.shape(0)[1]) + "], one value a channel");
    }
  }
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

Result<void> batch_normalization(Call& call) {
  if (call.node.integer("training_mode", 0) != 0) {
    return call.fail("training_mode = 1 is not supported; export the model for inference");
  }
  return per_channel(call, 4);
}

Result<void> instance_normalization(Call& call) { return per_channel(call, 2); }

Result<void> group_normalization(Call& call) {
  const std::int64_t groups = call.node.integer("num_groups", 0);
  if (groups < 1) return call.fail("num_groups must be positive");
  KERF_TRY(per_channel(call, 2));
  if (call.shape(0)[1] >= 0 && call.shape(0)[1] % groups != 0) {
    return call.fail("channels don't divide into " + std::to_string(groups) + " groups");
  }
  return {};
}

Result<void> layer_normalization(Call& call) {
  KERF_ASSIGN(const std::int64_t axis, call.axis(call.node.integer("axis", -1), call.rank(0)));
  const Shape& x = call.shape(0);
  const Shape tail(x.begin() + axis, x.end());
  for (std::size_t i = 1; i < call.in.size(); ++i) {
    if (!call.has(i)) continue;
    const auto fit = broadcast(tail, call.shape(i));
    bool same = fit && fit->size() == tail.size();
    for (std::size_t d = 0; same && d < tail.size(); ++d) same = compatible((*fit)[d], tail[d]);
    if (!same) {
      return call.fail("input " + std::to_string(i) + " must have the shape " + to_string(tail));
    }
  }
  Shape statistics = x;
  for (auto d = static_cast<std::size_t>(axis); d < statistics.size(); ++d) statistics[d] = 1;
  call.set(1, DType::kF32, statistics);
  call.set(2, DType::kF32, statistics);
  call.set(0, call.dtype(0), x);
  return {};
}

Result<void> rms_normalization(Call& call) {
  KERF_TRY(call.axis(call.node.integer("axis", -1), call.rank(0)));
  if (!is_float(call.dtype(0))) return call.fail("input must be floating point");
  const auto fit = broadcast(call.shape(0), call.shape(1));
  bool same = fit && fit->size() == call.shape(0).size();
  for (std::size_t d = 0; same && d < fit->size(); ++d) {
    same = compatible((*fit)[d], call.shape(0)[d]);
  }
  if (!same) return call.fail("the scale must broadcast to the input");
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

Result<void> local_response(Call& call) {
  KERF_TRY(call.want_rank(0, 2, kMaxRank));
  if (call.node.integer("size", 0) < 1) return call.fail("attribute size must be positive");
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

Result<void> along_axis(Call& call) {
  KERF_ASSIGN([[maybe_unused]] const std::int64_t axis,
              call.axis(call.node.integer("axis", -1), call.rank(0)));
  if (!is_float(call.dtype(0))) return call.fail("input must be floating point");
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

Result<void> mean_variance(Call& call) {
  for (const std::int64_t axis : call.node.integers("axes", {0, 2, 3})) {
    KERF_TRY(call.axis(axis, call.rank(0)));
  }
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

}  // namespace

void register_normalization(Registry& registry) {
  registry["BatchNormalization"] = {batch_normalization, 5, 5, 1};
  registry["InstanceNormalization"] = {instance_normalization, 3, 3, 1};
  registry["GroupNormalization"] = {group_normalization, 3, 3, 1};
  registry["LayerNormalization"] = {layer_normalization, 2, 3, 3};
  registry["RMSNormalization"] = {rms_normalization, 2, 2, 1};
  registry["LRN"] = {local_response, 1, 1, 1};
  for (const char* op : {"Softmax", "LogSoftmax", "Hardmax", "LpNormalization"}) {
    registry[op] = {along_axis, 1, 1, 1};
  }
  registry["MeanVarianceNormalization"] = {mean_variance, 1, 1, 1};
}

}  // namespace kerf::graph::shapes
