#include "workers/measure/batch_runner.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace kerf::measure {

using graph::Shape;
using graph::Tensor;

Result<Compiled> Compiled::make(const graph::Graph& graph, const std::vector<Tensor>& inputs,
                                const engine::ExecutorOptions& options) {
  if (inputs.size() != graph.inputs.size()) {
    return invalid_argument(std::to_string(inputs.size()) + " inputs given; the model takes " +
                            std::to_string(graph.inputs.size()));
  }
  graph::Graph sized = graph;  // tensors are shared
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Shape& shape = sized.inputs[i].shape;
    for (std::size_t axis = 1; axis < shape.size() && axis < inputs[i].rank(); ++axis) {
      if (shape[axis] < 0) shape[axis] = inputs[i].dim(axis);
    }
  }
  Compiled out;
  out.batch_ = options.batch;
  auto executor = engine::Executor::compile(sized, options);
  if (!executor.has_value() && executor.error().code == ErrorCode::kFailedPrecondition) {
    out.fits_batch_ = false;
    executor = engine::Executor::compile(sized, {.batch = 0, .threads = options.threads});
  }
  if (!executor.has_value()) return executor.error();
  out.executor_ = std::move(*executor);
  if (out.executor_->inputs().empty() || out.executor_->outputs().empty()) {
    return invalid_argument("the model has no inputs or no outputs; expected both");
  }
  const Shape& first = out.executor_->inputs().front().shape;
  if (!out.fits_batch_) out.batch_ = first.empty() ? 1 : first.front();
  for (const graph::ValueInfo& input : out.executor_->inputs()) {
    out.inputs_.emplace_back(input.dtype, input.shape);
  }
  for (const graph::ValueInfo& output : out.executor_->outputs()) {
    out.outputs_.emplace_back(output.dtype, output.shape);
  }
  for (Tensor& input : out.inputs_) out.input_pointers_.push_back(input.mutable_raw());
  for (Tensor& output : out.outputs_) out.output_pointers_.push_back(output.mutable_raw());
  return out;
}

Result<void> Compiled::load(const std::vector<Tensor>& inputs,
                            std::span<const std::int64_t> samples) {
  if (inputs.size() != inputs_.size() || samples.empty()) {
    return invalid_argument(std::to_string(inputs.size()) + " inputs given; the model takes " +
                            std::to_string(inputs_.size()));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& from = inputs[i];
    const graph::ValueInfo& wanted = executor_->inputs()[i];
    const std::size_t row = inputs_[i].bytes() / static_cast<std::size_t>(batch_);
    if (from.dtype() != wanted.dtype || from.rank() == 0 || from.dim(0) == 0 ||
        from.bytes() / static_cast<std::size_t>(from.dim(0)) != row) {
      return invalid_argument("input '" + wanted.name + "' is " +
                              std::string(graph::to_string(from.dtype())) + " " +
                              graph::to_string(from.shape()) + "; the model takes " +
                              std::string(graph::to_string(wanted.dtype)) + " " +
                              graph::to_string(wanted.shape));
    }
    auto* to = const_cast<std::byte*>(static_cast<const std::byte*>(input_pointers_[i]));
    for (std::int64_t n = 0; n < batch_; ++n, to += row) {
      const std::int64_t sample = samples[std::min(static_cast<std::size_t>(n), samples.size() - 1)];
      if (row > 0) std::memcpy(to, from.raw() + static_cast<std::size_t>(sample) * row, row);
    }
  }
  return {};
}

std::int64_t evaluation_batch(std::int64_t activation_bytes_of_sample, std::int64_t samples) {
  constexpr std::int64_t kCache = 1LL << 20U;  // of one core, second level
  constexpr std::int64_t kFewest = 8;
  constexpr std::int64_t kMost = 256;
  // A sample that alone passes the caches gains nothing from company.
  constexpr std::int64_t kHuge = 16LL << 20U;
  const std::int64_t each = std::max<std::int64_t>(1, activation_bytes_of_sample);
  const std::int64_t wanted = each > kHuge ? 1 : std::clamp(kCache / each, kFewest, kMost);
  return std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, samples));
}

Result<Tensor> run_samples(Compiled& compiled, const std::vector<Tensor>& inputs,
                           std::span<const std::int64_t> samples,
                           const std::function<Result<void>()>& between) {
  Compiled* const stage = &compiled;
  KERF_ASSIGN(std::vector<Tensor> rows, run_stages({&stage, 1}, inputs, samples, KeptRows::kOfLast, between));
  return std::move(rows.front());
}

Result<std::vector<Tensor>> run_stages(std::span<Compiled* const> stages, const std::vector<Tensor>& inputs,
                                       std::span<const std::int64_t> samples, KeptRows kept,
                                       const std::function<Result<void>()>& between) {
  const Compiled& first = *stages.front();
  const auto batch = static_cast<std::size_t>(first.batch());
  if (!first.fits_batch() && samples.size() % batch != 0) {
    return invalid_argument(std::to_string(samples.size()) +
                            " samples; the model mixes the samples of a batch, so expected a "
                            "multiple of its " + std::to_string(batch));
  }
  const std::size_t first_kept = kept == KeptRows::kOfAll ? 0 : stages.size() - 1;
  std::vector<Tensor> out;
  std::vector<std::byte*> to;
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    const Tensor& output = stages[stage]->output();
    if (output.rank() == 0 || output.dim(0) != first.batch()) {
      return invalid_argument("the model's first output has shape " + graph::to_string(output.shape()) +
                              " for a batch of " + std::to_string(batch) +
                              "; expected one row a sample");
    }
    if (stage < first_kept) continue;
    Shape shape = output.shape();
    shape[0] = static_cast<std::int64_t>(samples.size());
    out.emplace_back(output.dtype(), shape);
    to.push_back(out.back().mutable_raw());
  }
  std::vector<std::int64_t> whole(batch);  // all of a batch goes from stage to stage
  std::iota(whole.begin(), whole.end(), 0);
  for (std::size_t begin = 0; begin < samples.size(); begin += batch) {
    KERF_TRY(between());
    const auto part = samples.subspan(begin, std::min(batch, samples.size() - begin));
    for (std::size_t stage = 0; stage < stages.size(); ++stage) {
      Compiled& compiled = *stages[stage];
      if (stage == 0) {
        KERF_TRY(compiled.load(inputs, part));
      } else {
        KERF_TRY(compiled.load({stages[stage - 1]->output()}, whole));
      }
      compiled.run();
      if (stage < first_kept) continue;
      const Tensor& output = compiled.output();
      const std::size_t row = output.bytes() / batch;
      if (row > 0) std::memcpy(to[stage - first_kept] + begin * row, output.raw(), part.size() * row);
    }
  }
  return out;
}

}  // namespace kerf::measure
