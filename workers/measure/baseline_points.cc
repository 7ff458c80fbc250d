#include "workers/measure/baseline_points.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace kerf::measure {

using graph::Graph;
using graph::Tensor;

namespace {

constexpr std::size_t kMostBytes = 512U << 20U;
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

Compiled& BaselinePoints::keep_tail(std::size_t point, Compiled made) {
  if (tail_bytes_ > kMostTailBytes) {
    tails_.clear();
    tail_bytes_ = 0;
  }
  tail_bytes_ += made.executor().activation_peak_bytes();
  return tails_.emplace(point, std::move(made)).first->second;
}

Result<Compiled*> BaselinePoints::tail_from(std::size_t point) {
  if (const auto known = tails_.find(point); known != tails_.end()) return &known->second;
  KERF_ASSIGN(Compiled made, compiled(tail_of(*graph_, kept_[point].value), {kept_[point].rows}));
  return &keep_tail(point, std::move(made));
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
  for (const CutPoint& point : affordable(graph, count)) values.push_back(point.value);
  std::vector<Compiled> parts;
  std::vector<Compiled*> stages;
  for (std::size_t i = 0; i <= values.size(); ++i) {
    const std::string from = i == 0 ? "" : values[i - 1];
    const Graph part = part_of(graph, from, i == values.size() ? "" : values[i]);
    auto made = i == 0 ? out.compiled(part, out.samples_)
                       : out.compiled(part, {parts.back().output()});
    if (!made.has_value()) return made.error();
    parts.push_back(std::move(*made));
  }
  for (Compiled& part : parts) stages.push_back(&part);
  KERF_ASSIGN(std::vector<Tensor> rows,
              run_stages(stages, out.samples_, all_of(out.samples_.front()), KeptRows::kOfAll, between));
  for (std::size_t i = 0; i < values.size(); ++i) out.kept_.push_back({values[i], std::move(rows[i])});
  out.output_ = std::move(rows.back());
  out.detours_ = std::make_unique<Detours>(graph, values);
  if (!values.empty()) out.keep_tail(values.size() - 1, std::move(parts.back()));
  return out;
}

Result<Tensor> BaselinePoints::run(const Graph& graph, const Between& between) {
  const Detour detour = detours_->of(graph);
  const auto returns = static_cast<std::size_t>(detour.returns);
  const Kept* from = detour.leaves < 0 ? nullptr : &kept_[static_cast<std::size_t>(detour.leaves)];
  const Kept* to = returns < kept_.size() ? &kept_[returns] : nullptr;
  const std::vector<Tensor> inputs = from == nullptr ? samples_ : std::vector<Tensor>{from->rows};
  Compiled* tail = nullptr;
  if (to != nullptr) {
    KERF_ASSIGN(tail, tail_from(returns));
    if (from == to) return run_samples(*tail, inputs, all_of(inputs.front()), between);
  }
  const Graph part = part_of(graph, from == nullptr ? "" : from->value, to == nullptr ? "" : to->value);
  KERF_ASSIGN(Compiled own, compiled(part, inputs));
  if (tail == nullptr || own.batch() != tail->batch()) {
    KERF_ASSIGN(Tensor rows, run_samples(own, inputs, all_of(inputs.front()), between));
    if (tail == nullptr) return rows;
    return run_samples(*tail, {rows}, all_of(rows), between);
  }
  const std::vector<Compiled*> stages = {&own, tail};
  KERF_ASSIGN(std::vector<Tensor> rows,
              run_stages(stages, inputs, all_of(inputs.front()), KeptRows::kOfLast, between));
  return std::move(rows.front());
}

}  // namespace kerf::measure
