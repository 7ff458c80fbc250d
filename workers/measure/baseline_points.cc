#include "workers/measure/baseline_points.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace kerf::measure {

using graph::Graph;
using graph::Tensor;

namespace {

constexpr std::size_t kMostBytes = 256U << 20U;
constexpr std::int64_t kMostTailBytes = 64LL << 20U;

/// Every n-th of the points whose activations are rows of samples of a known size, so that all fit.
std::vector<CutPoint> affordable(const Graph& graph, std::int64_t samples) {
  std::vector<CutPoint> out;
  std::vector<std::size_t> bytes;
  std::size_t sum = 0;
  for (CutPoint& point : cut_points(graph)) {
    const graph::ValueInfo* value = graph.value(point.value);
    if (value == nullptr || value->shape.empty()) continue;
    std::size_t each = value->dtype == graph::DType::kF32 ? sizeof(float) : 1;  // points are f32 or 8 bits
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

std::vector<std::int64_t> all_of(const Tensor& rows) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(rows.dim(0)));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

}  // namespace

Result<Compiled> BaselinePoints::compiled(const Graph& graph, const std::vector<Tensor>& inputs) const {
  return Compiled::make(graph, inputs, {.batch = batch_, .threads = threads_});
}

Result<Tensor> BaselinePoints::rows_of(const Graph& graph, const std::vector<Tensor>& inputs,
                                       const Between& between) const {
  KERF_ASSIGN(Compiled made, compiled(graph, inputs));
  return run_samples(made, inputs, all_of(inputs.front()), between);
}

Result<Tensor> BaselinePoints::tail_rows(std::size_t point, const Tensor& rows, const Between& between) {
  auto tail = tails_.find(point);
  if (tail == tails_.end()) {
    if (tail_bytes_ > kMostTailBytes) {
      tails_.clear();
      tail_bytes_ = 0;
    }
    KERF_ASSIGN(Compiled made, compiled(tail_of(*graph_, kept_[point].value), {rows}));
    tail_bytes_ += made.executor().activation_peak_bytes();
    tail = tails_.emplace(point, std::move(made)).first;
  }
  return run_samples(tail->second, {rows}, all_of(rows), between);
}

Result<BaselinePoints> BaselinePoints::make(const Graph& graph, std::vector<Tensor> samples,
                                            int threads, const Between& between) {
  if (samples.empty() || samples.front().rank() == 0 || samples.front().dim(0) < 1) {
    return invalid_argument("looks: no samples; expected at least one");
  }
  BaselinePoints out(graph, std::move(samples), threads);
  const std::int64_t count = out.samples_.front().dim(0);
  {
    KERF_ASSIGN(const Compiled one,
                Compiled::make(graph, out.samples_, {.batch = 1, .threads = threads}));
    out.batch_ = evaluation_batch(one.executor().activation_peak_bytes() / one.batch(), count);
    if (!one.fits_batch()) {
      // It mixes samples: whole batches of its own, and nothing to cut.
      KERF_ASSIGN(out.output_, out.rows_of(graph, out.samples_, between));
      out.detours_ = std::make_unique<Detours>(graph, std::vector<std::string>());
      return out;
    }
  }
  // From point to point, each node once.
  std::vector<std::string> values;
  for (const CutPoint& point : affordable(graph, count)) {
    const Graph part = part_of(graph, values.empty() ? "" : values.back(), point.value);
    auto rows = out.rows_of(part, values.empty() ? out.samples_ : std::vector<Tensor>{out.kept_.back().rows},
                            between);
    if (!rows.has_value()) return rows.error();
    values.push_back(point.value);
    out.kept_.push_back({point.value, std::move(*rows)});
  }
  out.detours_ = std::make_unique<Detours>(graph, values);
  if (values.empty()) {
    KERF_ASSIGN(out.output_, out.rows_of(graph, out.samples_, between));
  } else {
    KERF_ASSIGN(out.output_, out.tail_rows(values.size() - 1, out.kept_.back().rows, between));
  }
  return out;
}

Result<Tensor> BaselinePoints::run(const Graph& graph, const Between& between) {
  const Detour detour = detours_->of(graph);
  const auto returns = static_cast<std::size_t>(detour.returns);
  const Kept* from = detour.leaves < 0 ? nullptr : &kept_[static_cast<std::size_t>(detour.leaves)];
  const Kept* to = returns < kept_.size() ? &kept_[returns] : nullptr;
  if (from != nullptr && from == to) return tail_rows(returns, from->rows, between);
  const Graph part = part_of(graph, from == nullptr ? "" : from->value, to == nullptr ? "" : to->value);
  KERF_ASSIGN(Tensor rows, rows_of(part, from == nullptr ? samples_ : std::vector<Tensor>{from->rows}, between));
  if (to == nullptr) return rows;
  return tail_rows(returns, rows, between);
}

}  // namespace kerf::measure
