#include "workers/measure/baseline_points.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "workers/measure/batch_runner.h"

namespace kerf::measure {

using graph::Graph;
using graph::Tensor;

namespace {

constexpr std::size_t kMostBytes = 256U << 20U;

/// Every n-th of the points whose activations are plain numbers of samples, so that all fit.
std::vector<CutPoint> affordable(const Graph& graph, std::int64_t samples) {
  std::vector<CutPoint> out;
  std::vector<std::size_t> bytes;
  std::size_t sum = 0;
  for (CutPoint& point : cut_points(graph)) {
    const graph::ValueInfo* value = graph.value(point.value);
    if (value == nullptr || value->dtype != graph::DType::kF32 || value->shape.empty()) continue;
    std::size_t each = sizeof(float);
    for (std::size_t axis = 1; axis < value->shape.size(); ++axis) {
      if (value->shape[axis] <= 0) each = 0;
      each *= static_cast<std::size_t>(std::max<std::int64_t>(value->shape[axis], 0));
    }
    if (each == 0) continue;
    out.push_back(std::move(point));
    bytes.push_back(each * static_cast<std::size_t>(samples));
    sum += bytes.back();
  }
  const std::size_t stride = sum / kMostBytes + 1;
  std::vector<CutPoint> kept;
  for (std::size_t i = 0; i < out.size(); i += stride) {
    if (bytes[i] <= kMostBytes) kept.push_back(std::move(out[i]));
  }
  return kept;
}

}  // namespace

Result<Tensor> BaselinePoints::rows_of(const Graph& graph, const std::vector<Tensor>& inputs,
                                       const Between& between) const {
  KERF_ASSIGN(Compiled compiled,
              Compiled::make(graph, inputs, {.batch = batch_, .threads = threads_}));
  std::vector<std::int64_t> all(static_cast<std::size_t>(inputs.front().dim(0)));
  std::iota(all.begin(), all.end(), 0);
  return run_samples(compiled, inputs, all, between);
}

Result<BaselinePoints> BaselinePoints::make(const Graph& graph, std::vector<Tensor> samples,
                                            int threads, const Between& between) {
  if (samples.empty() || samples.front().rank() == 0 || samples.front().dim(0) < 1) {
    return invalid_argument("looks: no samples; expected at least one");
  }
  BaselinePoints out;
  out.samples_ = std::move(samples);
  out.threads_ = threads;
  const std::int64_t count = out.samples_.front().dim(0);
  {
    KERF_ASSIGN(const Compiled one,
                Compiled::make(graph, out.samples_, {.batch = 1, .threads = threads}));
    out.batch_ = evaluation_batch(one.executor().activation_peak_bytes() / one.batch(), count);
    if (!one.fits_batch()) {
      // It mixes samples: whole batches of its own, and nothing to cut.
      KERF_ASSIGN(out.output_, out.rows_of(graph, out.samples_, between));
      return out;
    }
  }
  // From point to point, each node once.
  std::string from;
  for (const CutPoint& point : affordable(graph, count)) {
    Graph part = head_of(graph, point.value);
    if (!from.empty()) part = tail_of(part, from);
    auto rows = out.rows_of(part, from.empty() ? out.samples_ : std::vector<Tensor>{out.kept_.back().rows},
                            between);
    if (!rows.has_value()) return rows.error();
    from = point.value;
    out.kept_.push_back({point.fingerprint, std::move(*rows)});
  }
  if (from.empty()) {
    KERF_ASSIGN(out.output_, out.rows_of(graph, out.samples_, between));
  } else {
    KERF_ASSIGN(out.output_, out.rows_of(tail_of(graph, from), {out.kept_.back().rows}, between));
  }
  return out;
}

Result<Tensor> BaselinePoints::run(const Graph& graph, const Between& between) const {
  const Kept* start = nullptr;
  std::string value;
  if (!kept_.empty()) {
    for (const CutPoint& point : cut_points(graph)) {
      const auto known = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) {
        return kept.fingerprint == point.fingerprint;
      });
      if (known == kept_.end()) continue;
      start = &*known;
      value = point.value;
    }
  }
  if (start == nullptr) return rows_of(graph, samples_, between);
  return rows_of(tail_of(graph, value), {start->rows}, between);
}

}  // namespace kerf::measure
