#include <algorithm>
#include <cstring>

#include "workers/engine/executor.h"

namespace kerf::engine {

using graph::Graph;
using graph::Tensor;

namespace {

/// Samples a batch where the caller has no wish: larger ones gain nothing once the weights are in
/// cache, and push the activations out of it (docs/decisions/0002-activation-layout.md).
constexpr std::int64_t kThroughputBatch = 8;

Result<std::int64_t> sample_count(const Graph& graph, const std::vector<Tensor>& inputs) {
  if (inputs.size() != graph.inputs.size() || inputs.empty()) {
    return invalid_argument("the model has " + std::to_string(graph.inputs.size()) + " inputs, not " + std::to_string(inputs.size()));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const graph::ValueInfo& wanted = graph.inputs[i];
    const graph::Shape& shape = inputs[i].shape();
    bool fits = inputs[i].dtype() == wanted.dtype && shape.size() == wanted.shape.size() && !shape.empty() &&
                shape[0] == inputs[0].dim(0);
    for (std::size_t d = 1; fits && d < shape.size(); ++d) fits = wanted.shape[d] < 0 || wanted.shape[d] == shape[d];
    if (!fits) {
      return invalid_argument("input '" + wanted.name + "': " + std::string(graph::to_string(inputs[i].dtype())) + " " +
                              graph::to_string(shape) + ", expected " + std::string(graph::to_string(wanted.dtype)) + " " +
                              graph::to_string(wanted.shape));
    }
  }
  return inputs[0].dim(0);
}

/// Runs samples [begin, end) in whole batches of the executor's.
void run_range(Executor& executor, std::int64_t batch, const std::vector<Tensor>& inputs, std::int64_t begin,
               std::int64_t end, std::vector<Tensor>& outputs, const std::vector<std::size_t>& output_bytes) {
  std::vector<const void*> from(inputs.size());
  std::vector<void*> to(outputs.size());
  for (std::int64_t first = begin; first < end; first += batch) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::size_t sample = inputs[i].bytes() / static_cast<std::size_t>(inputs[i].dim(0));
      from[i] = inputs[i].raw() + static_cast<std::size_t>(first) * sample;
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      to[i] = outputs[i].mutable_raw() + static_cast<std::size_t>(first / batch) * output_bytes[i];
    }
    executor.run(from, to);
  }
}

}  // namespace

Result<std::vector<Tensor>> run_all(const Graph& graph, const std::vector<Tensor>& inputs, int threads, std::int64_t batch_hint) {
  KERF_ASSIGN(const std::int64_t samples, sample_count(graph, inputs));
  if (samples < 1) return invalid_argument("no samples");
  // Dimensions that the graph leaves free are those of the data.
  Graph fixed = graph;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    for (std::size_t d = 1; d < inputs[i].rank(); ++d) fixed.inputs[i].shape[d] = inputs[i].dim(d);
  }
  const std::int64_t wanted = std::min(samples, batch_hint > 0 ? batch_hint : kThroughputBatch);
  std::int64_t batch = wanted;
  auto compiled = Executor::compile(fixed, {wanted, threads});
  if (!compiled.has_value() && compiled.error().code == ErrorCode::kFailedPrecondition) {
    compiled = Executor::compile(fixed, {0, threads});
    if (!compiled.has_value()) return compiled.error();
    batch = (*compiled)->inputs()[0].shape.at(0);
    if (batch < 1 || samples % batch != 0) {
      return invalid_argument("the model mixes samples and takes " + std::to_string(batch) + " at once; " +
                              std::to_string(samples) + " samples aren't a multiple of that");
    }
  }
  if (!compiled.has_value()) return compiled.error();
  Executor& executor = **compiled;
  const std::int64_t whole = samples / batch * batch;
  const std::int64_t rest = samples - whole;
  std::vector<Tensor> outputs;
  std::vector<std::size_t> bytes;
  for (const graph::ValueInfo& output : executor.outputs()) {
    graph::Shape shape = output.shape;
    if (shape.empty() || shape[0] % batch != 0) {
      if (samples != batch) {
        return invalid_argument("output '" + output.name + "' of shape " + graph::to_string(shape) + " isn't one a sample");
      }
    } else {
      shape[0] = shape[0] / batch * samples;
    }
    outputs.emplace_back(output.dtype, shape);
    bytes.push_back(static_cast<std::size_t>(*graph::element_count(output.shape)) * graph::element_size(output.dtype));
  }
  run_range(executor, batch, inputs, 0, whole, outputs, bytes);
  if (rest == 0) return outputs;
  compiled = Executor::compile(fixed, {rest, threads});
  if (!compiled.has_value()) return compiled.error();
  std::vector<const void*> from(inputs.size());
  std::vector<void*> to(outputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    from[i] = inputs[i].raw() + inputs[i].bytes() / static_cast<std::size_t>(samples) * static_cast<std::size_t>(whole);
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    to[i] = outputs[i].mutable_raw() + static_cast<std::size_t>(whole / batch) * bytes[i];
  }
  (*compiled)->run(from, to);
  return outputs;
}

}  // namespace kerf::engine
