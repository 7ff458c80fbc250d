#include "workers/engine/executor.h"

#include <dnnl.h>

#include <algorithm>

#include "workers/engine/kernels/packed_weights.h"
#include "workers/engine/lanes.h"
#include "workers/engine/tuning.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine {

using graph::Graph;

namespace {

/// Which cut to take where nothing is to be timed.
Cut untimed_cut(std::int64_t batch, bool rows, const ExecutorOptions& options) {
  if (options.cut) {
    return {rows ? divisor(batch, options.cut->micro) : batch,
            rows ? std::clamp(options.cut->lanes, 1, options.threads) : 1, options.cut->teams};
  }
  if (rows && options.threads > 1 && batch >= options.threads) {
    return {divisor(batch, batch / options.threads), options.threads, {}};
  }
  return {batch, 1, {}};
}

}  // namespace

Executor::Executor(std::unique_ptr<Lanes> lanes) : lanes_(std::move(lanes)) {}
Executor::~Executor() = default;

Result<std::unique_ptr<Executor>> Executor::compile(const Graph& graph, const ExecutorOptions& options) {
  if (options.threads < 1 || options.threads > 4096) {
    return invalid_argument("threads is " + std::to_string(options.threads) + ", expected 1 to 4096");
  }
  const std::int64_t own = own_batch(graph);
  const std::int64_t batch = options.batch > 0 ? options.batch : own > 0 ? own : 1;
  // Fails where the graph mixes samples; then there is nothing to cut.
  const bool may_cut = batch > 1 && (options.tune || options.cut || options.threads > 1);
  const bool rows = may_cut && graph::with_batch(graph, 1).has_value() && graph::with_batch(graph, batch).has_value();
  auto lanes = options.tune && !options.cut
                   ? tuned_lanes(graph, batch, options.threads, rows)
                   : Lanes::make(graph, batch, options.threads, untimed_cut(batch, rows, options));
  if (!lanes.has_value()) return lanes.error();
  return std::unique_ptr<Executor>(new Executor(std::move(*lanes)));
}

const std::vector<graph::ValueInfo>& Executor::inputs() const { return lanes_->inputs(); }
const std::vector<graph::ValueInfo>& Executor::outputs() const { return lanes_->outputs(); }
const std::vector<StepInfo>& Executor::steps() const { return lanes_->steps(); }
std::int64_t Executor::weight_bytes() const { return lanes_->weight_bytes(); }
std::int64_t Executor::activation_peak_bytes() const { return lanes_->arena_bytes(); }
Cut Executor::cut() const { return lanes_->cut(); }

void Executor::run(std::span<const void* const> inputs, std::span<void* const> outputs) { lanes_->run(inputs, outputs); }

std::vector<double> Executor::run_profiled(std::span<const void* const> inputs, std::span<void* const> outputs) {
  return lanes_->run_profiled(inputs, outputs);
}

void release_caches() { forget_packed_weights(); }

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
}

bool has_vnni() {
  const int isa = dnnl_get_effective_cpu_isa();
  const auto allowed = [isa](int wanted) { return (isa & wanted) == wanted; };
  return allowed(dnnl_cpu_isa_avx2_vnni) || allowed(dnnl_cpu_isa_avx512_core_vnni);
}

std::string isa_in_use() {
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41: return "sse41";
    case dnnl_cpu_isa_avx: return "avx";
    case dnnl_cpu_isa_avx2: return "avx2";
    case dnnl_cpu_isa_avx2_vnni: return "avx2_vnni";
    case dnnl_cpu_isa_avx2_vnni_2: return "avx2_vnni_2";
    case dnnl_cpu_isa_avx512_core: return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni: return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16: return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_fp16: return "avx512_core_fp16";
    case dnnl_cpu_isa_avx512_core_amx: return "avx512_core_amx";
    case dnnl_cpu_isa_avx512_core_amx_fp16: return "avx512_core_amx_fp16";
    default: return "generic";
  }
}

}  // namespace kerf::engine
