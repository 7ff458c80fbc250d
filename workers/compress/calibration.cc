#include "workers/compress/calibration.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>

#include "workers/compress/layer.h"
#include "workers/compress/model.h"
#include "workers/engine/executor.h"
#include "workers/graph/fingerprint.h"

namespace kerf::compress {
namespace {

using graph::DType;
using graph::Graph;
using graph::Tensor;

constexpr std::int64_t kBatchBytes = 2LL << 20U;  // a core's caches: what is observed is read at once
constexpr std::int64_t kLargestBatch = 32;
constexpr std::size_t kMostVariants = 24;

/// `count` of `samples` indices, evenly spaced from the first.
std::vector<std::int64_t> spread(std::int64_t samples, std::int64_t count) {
  count = std::min(samples, count);
  std::vector<std::int64_t> out(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) out[static_cast<std::size_t>(i)] = i * samples / count;
  return out;
}

/// Bytes of the observed values for one sample, as f32.
std::int64_t sample_bytes(const Graph& graph, const std::vector<std::string>& values) {
  std::int64_t bytes = 0;
  for (const std::string& name : values) {
    const graph::ValueInfo* info = graph.value(name);
    if (info == nullptr) continue;
    graph::Shape shape = info->shape;
    if (!shape.empty()) shape[0] = 1;
    bytes += 4 * graph::element_count(shape).value_or(0);
  }
  return bytes;
}

Error not_finite(const std::string& value) {
  return {
      ErrorCode::kFailedPrecondition,
      "the value '" + value + "' is not finite on the calibration data; its range can't be chosen"};
}

/// Those of `wanted` that `known` lacks, each once.
template <class Map>
std::vector<std::string> without(const std::vector<std::string>& wanted, const Map& known) {
  std::vector<std::string> out;
  for (const std::string& name : wanted) {
    if (!known.contains(name) && std::find(out.begin(), out.end(), name) == out.end()) {
      out.push_back(name);
    }
  }
  return out;
}

/// Buffers of one batch in the executor's own order.
struct Buffers {
  std::vector<Tensor> tensors;
  std::vector<void*> pointers;

  explicit Buffers(const std::vector<graph::ValueInfo>& ports) {
    for (const graph::ValueInfo& port : ports) tensors.emplace_back(port.dtype, port.shape);
    for (Tensor& tensor : tensors) pointers.push_back(tensor.mutable_raw());
  }
};

}  // namespace

Error needs_calibration_data(const std::string& what) {
  return invalid_argument(what + " needs calibration data (--calibration, or data.calibration in a study)");
}

Calibration::Calibration(const PreparedModel& model, std::vector<Tensor> inputs, int threads)
    : model_(model.graph),
      model_prints_(graph::fingerprints(model.graph)),
      inputs_(std::move(inputs)),
      threads_(std::max(1, threads)) {
  if (!inputs_.empty() && inputs_[0].rank() > 0) samples_ = inputs_[0].dim(0);
}

Calibration::Variant& Calibration::variant_of(const std::string& key) {
  auto entry = std::find_if(variants_.begin(), variants_.end(),
                            [&](const Variant& known) { return known.key == key; });
  if (entry == variants_.end()) {
    variants_.push_front({key, {}, {}, {}});
    if (variants_.size() > kMostVariants) {
      auto oldest = std::prev(variants_.end());
      if (oldest->key.empty()) --oldest;
      variants_.erase(oldest);
    }
  } else {
    variants_.splice(variants_.begin(), variants_, entry);
  }
  return variants_.front();
}

Result<void> Calibration::check_inputs(const Graph& graph) const {
  if (samples_ == 0) return invalid_argument("the calibration data has no samples");
  if (inputs_.size() != graph.inputs.size()) {
    return invalid_argument("the calibration data has " + std::to_string(inputs_.size()) +
                            " inputs; the model has " + std::to_string(graph.inputs.size()));
  }
  return {};
}

Result<std::map<std::string, const ValueStatistics*>> Calibration::statistics(
    const Graph& graph, const std::string& variant, const std::vector<std::string>& values,
    bool means) {
  KERF_TRY(check_inputs(graph));
  std::vector<std::string> unchanged;
  std::vector<std::string> own;
  if (variant.empty()) {
    own = values;
  } else {
    const auto prints = graph::fingerprints(graph);
    for (const std::string& value : values) {
      const auto here = prints.find(value);
      const auto there = model_prints_.find(value);
      const bool same = here != prints.end() && there != model_prints_.end() && here->second == there->second;
      (same ? unchanged : own).push_back(value);
    }
  }
  std::map<std::string, const ValueStatistics*> out;
  if (!unchanged.empty()) {
    Variant& model = variant_of("");
    KERF_TRY(complete(model_, unchanged, true, model));
    for (const std::string& value : unchanged) out[value] = &model.values.at(value);
  }
  if (!own.empty()) {
    Variant& changed = variant_of(variant);
    KERF_TRY(complete(graph, own, means || variant.empty(), changed));
    for (const std::string& value : own) out[value] = &changed.values.at(value);
  }
  return out;
}

/// Observes those of `values` that the variant doesn't have yet, or not with their means.
Result<void> Calibration::complete(const Graph& graph, const std::vector<std::string>& values,
                                   bool means, Variant& variant) {
  std::map<std::string, const ValueStatistics*> known;
  for (const auto& [value, statistics] : variant.values) {
    if (!means || statistics.samples > 0) known[value] = &statistics;
  }
  const std::vector<std::string> missing = without(values, known);
  if (missing.empty()) return {};
  std::map<std::string, ValueStatistics> found;
  const auto add = [&](const std::string& value, std::span<const float> data,
                       const graph::Shape& sample, std::int64_t samples) -> Result<void> {
    ValueStatistics& statistics = found[value];
    if (statistics.sample_shape.empty()) statistics.sample_shape = sample;
    if (!statistics.add(data, samples, means)) return not_finite(value);
    return {};
  };
  KERF_TRY(visit(graph, variant.key.empty() ? kModelSamples : variant_samples_, missing, add));
  for (auto& [value, statistics] : found) variant.values[value] = std::move(statistics);
  return {};
}

Result<std::map<std::string, const ElementMoments*>> Calibration::element_moments(
    const Graph& graph, const std::string& variant, const std::vector<std::string>& values) {
  KERF_TRY(check_inputs(graph));
  Variant& entry = variant_of(variant);
  const std::vector<std::string> missing = without(values, entry.elements);
  if (!missing.empty()) {
    std::map<std::string, ElementMoments> found;
    const auto add = [&](const std::string& value, std::span<const float> data,
                         const graph::Shape& sample, std::int64_t samples) -> Result<void> {
      ElementMoments& moments = found[value];
      const std::size_t size = data.size() / static_cast<std::size_t>(samples);
      if (moments.squares.empty()) {
        moments.sample_shape = sample;
        moments.squares.assign(size, 0.0);
        moments.non_zeros.assign(size, 0);
      }
      if (size != moments.squares.size()) return {};
      for (std::size_t i = 0; i < data.size(); ++i) {
        if (!std::isfinite(data[i])) return not_finite(value);
        moments.squares[i % size] += static_cast<double>(data[i]) * static_cast<double>(data[i]);
        moments.non_zeros[i % size] += data[i] != 0.0F ? 1 : 0;
      }
      moments.samples += samples;
      return {};
    };
    KERF_TRY(visit(graph, kMomentSamples, missing, add));
    for (auto& [value, moments] : found) entry.elements[value] = std::move(moments);
  }
  std::map<std::string, const ElementMoments*> out;
  for (const std::string& value : values) out[value] = &entry.elements.at(value);
  return out;
}

Result<std::map<std::string, std::shared_ptr<const SecondMoments>>> Calibration::second_moments(
    const Graph& graph, const std::string& variant, const std::vector<std::string>& layers) {
  KERF_TRY(check_inputs(graph));
  std::map<std::string, std::shared_ptr<const SecondMoments>> out;
  std::map<std::string, std::vector<std::pair<std::string, MomentCollector>>> readers;  // by value
  std::vector<std::string> values;
  Variant& entry = variant_of(variant);
  for (const std::string& name : layers) {
    const auto known = entry.moments.find(name);
    if (known != entry.moments.end()) {
      out[name] = known->second;
      continue;
    }
    const graph::Node* node = find_node(graph, name);
    const auto input = node == nullptr ? std::nullopt : LayerInput::of(graph, *node);
    if (!input) continue;
    const graph::ValueInfo* value = graph.value(node->inputs[0]);
    std::int64_t items = std::min(samples_, kMomentSamples);
    if (node->op != "Conv" && value != nullptr) {  // a matrix has rows of its own
      for (std::size_t d = 1; d + 1 < value->shape.size(); ++d)
        items *= std::max<std::int64_t>(1, value->shape[d]);
    }
    if (readers[node->inputs[0]].empty()) values.push_back(node->inputs[0]);
    readers[node->inputs[0]].emplace_back(name, MomentCollector(*input, items));
  }
  const auto add = [&](const std::string& value, std::span<const float> data, const graph::Shape&,
                       std::int64_t) -> Result<void> {
    for (auto& [layer, collector] : readers.at(value)) {
      if (!collector.add(data)) return not_finite(value);
    }
    return {};
  };
  KERF_TRY(visit(graph, kMomentSamples, values, add));
  for (auto& [value, list] : readers) {
    for (auto& [layer, collector] : list) {
      auto moments = std::make_shared<const SecondMoments>(collector.finish());
      out[layer] = moments;
      entry.moments[layer] = std::move(moments);
    }
  }
  // Second moments are large: the oldest variants' go first, and none is kept beyond the limit.
  std::size_t bytes = 0;
  for (Variant& kept : variants_) {
    for (auto at = kept.moments.begin(); at != kept.moments.end();) {
      bytes += at->second->bytes();
      at = bytes > kMomentBytes ? kept.moments.erase(at) : std::next(at);
    }
  }
  return out;
}

std::vector<Tensor> Calibration::some_samples(std::int64_t most) const { return samples_at(spread(samples_, most)); }

std::vector<Tensor> Calibration::samples_at(std::span<const std::int64_t> chosen) const {
  std::vector<Tensor> out;
  for (const Tensor& input : inputs_) {
    graph::Shape shape = input.shape();
    shape[0] = static_cast<std::int64_t>(chosen.size());
    Tensor part(input.dtype(), shape);
    const std::size_t bytes = input.bytes() / static_cast<std::size_t>(samples_);
    std::byte* target = part.mutable_raw();
    for (const std::int64_t sample : chosen) {
      std::memcpy(target, input.raw() + static_cast<std::size_t>(sample) * bytes, bytes);
      target += bytes;
    }
    out.push_back(std::move(part));
  }
  return out;
}

Result<void> Calibration::visit(const Graph& graph, std::int64_t most_samples,
                                const std::vector<std::string>& values,
                                const Visitor& visitor) const {
  const std::vector<std::int64_t> chosen = spread(samples_, most_samples);
  std::vector<std::string> computed;
  for (const std::string& value : values) {
    const auto input =
        std::find_if(graph.inputs.begin(), graph.inputs.end(),
                     [&](const graph::ValueInfo& port) { return port.name == value; });
    if (input == graph.inputs.end()) {
      computed.push_back(value);
      continue;
    }
    const Tensor data = inputs_[static_cast<std::size_t>(input - graph.inputs.begin())].to_f32();
    const auto size = static_cast<std::size_t>(data.elements() / samples_);
    const graph::Shape sample_shape(data.shape().begin() + 1, data.shape().end());
    for (const std::int64_t sample : chosen) {
      KERF_TRY(visitor(value,
                       data.as<float>().subspan(static_cast<std::size_t>(sample) * size, size),
                       sample_shape, 1));
    }
  }
  if (!computed.empty()) {
    Graph observed = graph;
    observed.outputs.clear();
    for (const std::string& value : computed) {
      const graph::ValueInfo* info = graph.value(value);
      observed.outputs.push_back(info != nullptr ? *info
                                                 : graph::ValueInfo{value, DType::kF32, {}});
    }
    observed.cut_to_outputs();
    engine::ExecutorOptions options;
    options.threads = threads_;
    const auto fitting = static_cast<std::uint64_t>(std::clamp<std::int64_t>(
        kBatchBytes / std::max<std::int64_t>(1, sample_bytes(graph, computed)), 1,
        std::min<std::int64_t>(kLargestBatch, static_cast<std::int64_t>(chosen.size()))));
    // A power of two: the last batch of a usual number of samples is full.
    options.batch = static_cast<std::int64_t>(std::bit_floor(fitting));
    auto compiled = engine::Executor::compile(observed, options);
    if (!compiled.has_value() && compiled.error().code == ErrorCode::kFailedPrecondition) {
      options.batch = 0;  // the model mixes samples: its own batch
      compiled = engine::Executor::compile(observed, options);
    }
    if (!compiled.has_value()) return with_context("calibration", compiled.error());
    engine::Executor& executor = **compiled;

    Buffers in(executor.inputs());
    Buffers out(executor.outputs());
    const std::int64_t batch = executor.inputs().empty() || executor.inputs()[0].shape.empty()
                                   ? 1
                                   : executor.inputs()[0].shape[0];
    for (std::size_t begin = 0; begin < chosen.size(); begin += static_cast<std::size_t>(batch)) {
      const std::size_t used = std::min(static_cast<std::size_t>(batch), chosen.size() - begin);
      for (std::size_t i = 0; i < in.tensors.size(); ++i) {
        const std::size_t bytes = inputs_[i].bytes() / static_cast<std::size_t>(samples_);
        if (in.tensors[i].bytes() != bytes * static_cast<std::size_t>(batch)) {
          return invalid_argument("calibration input " + std::to_string(i) + " has shape " +
                                  graph::to_string(inputs_[i].shape()) + "; expected samples of " +
                                  graph::to_string(executor.inputs()[i].shape));
        }
        auto* target = static_cast<std::byte*>(in.pointers[i]);
        for (std::size_t s = 0; s < static_cast<std::size_t>(batch); ++s) {
          // A batch that isn't full repeats its last sample; what comes of that isn't counted.
          const auto sample = static_cast<std::size_t>(chosen[begin + std::min(s, used - 1)]);
          std::memcpy(target + s * bytes, inputs_[i].raw() + sample * bytes, bytes);
        }
      }
      executor.run(std::vector<const void*>(in.pointers.begin(), in.pointers.end()), out.pointers);
      for (std::size_t v = 0; v < computed.size(); ++v) {
        const Tensor data = out.tensors[v].to_f32();
        const auto all = static_cast<std::size_t>(data.elements());
        const bool by_sample = all % static_cast<std::size_t>(batch) == 0;
        const std::size_t counted = by_sample ? all / static_cast<std::size_t>(batch) * used : all;
        graph::Shape sample_shape;
        if (data.rank() > 0) sample_shape.assign(data.shape().begin() + 1, data.shape().end());
        KERF_TRY(visitor(computed[v], data.as<float>().first(counted), sample_shape,
                         static_cast<std::int64_t>(by_sample ? used : 1)));
      }
    }
  }
  return {};
}

}  // namespace kerf::compress
