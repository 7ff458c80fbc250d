#include "workers/engine/executor.h"

#include <dnnl.h>
#include <omp.h>

#include <chrono>
#include <cstdlib>
#include <new>

#include "workers/engine/lowering/lowering.h"
#include "workers/engine/lowering/prepare.h"
#include "workers/engine/plan.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine {

using graph::Graph;

namespace {

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};

/// Zeroed memory at a multiple of 64; at least 64 bytes.
std::unique_ptr<std::byte, Free> aligned(std::int64_t bytes) {
  const auto size = static_cast<std::size_t>((std::max<std::int64_t>(bytes, 1) + 63) / 64 * 64);
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(64, size));
  if (memory == nullptr) throw std::bad_alloc();
  std::fill_n(memory, size, std::byte{0});
  return std::unique_ptr<std::byte, Free>(memory);
}

bool is_static(const Graph& graph) {
  for (const graph::ValueInfo& input : graph.inputs) {
    if (!graph::element_count(input.shape)) return false;
  }
  return true;
}

/// The batch of the graph's inputs; -1 where it is free, 0 where they don't have one in common.
std::int64_t own_batch(const Graph& graph) {
  std::int64_t batch = 0;
  for (const graph::ValueInfo& input : graph.inputs) {
    if (input.shape.empty() || (batch != 0 && input.shape[0] != batch)) return 0;
    batch = input.shape[0];
  }
  return batch;
}

Result<Graph> for_batch(const Graph& graph, std::int64_t batch) {
  const std::int64_t own = own_batch(graph);
  if (batch <= 0) batch = own > 0 ? own : 1;
  if (is_static(graph) && (own == batch || graph.inputs.empty() || own == 0)) {
    Graph copy = graph;
    KERF_TRY(graph::infer_shapes(copy));
    return copy;
  }
  return graph::with_batch(graph, batch);
}

}  // namespace

struct Executor::Impl {
  Plan plan;
  std::unique_ptr<std::byte, Free> arena, scratchpad;
  std::int64_t arena_bytes = 0, weight_bytes = 0;
  std::vector<std::byte*> pointers;
  std::vector<StepInfo> infos;
  /// Slots that lie in the caller's buffers, with the index of the buffer.
  std::vector<std::pair<SlotId, std::size_t>> from_caller, to_caller;
  int threads = 1;

  void place() {
    arena_bytes = plan_memory(plan);
    arena = aligned(arena_bytes);
    std::int64_t scratch = 0;
    for (const auto& step : plan.steps) scratch = std::max(scratch, step->scratchpad_bytes());
    scratchpad = aligned(scratch);
    pointers.resize(plan.slots.size(), nullptr);
    for (std::size_t i = 0; i < plan.slots.size(); ++i) {
      const Slot& root = plan.slots[static_cast<std::size_t>(plan.root(static_cast<SlotId>(i)))];
      if (root.external_input >= 0) {
        from_caller.emplace_back(static_cast<SlotId>(i), root.external_input);
      } else if (root.external_output >= 0) {
        to_caller.emplace_back(static_cast<SlotId>(i), root.external_output);
      } else if (root.constant != nullptr) {
        // Steps only read constants.
        pointers[i] = const_cast<std::byte*>(root.constant);
      } else if (root.offset >= 0) {
        pointers[i] = arena.get() + root.offset;
      }
    }
    for (const auto& step : plan.steps) {
      step->bind(pointers.data(), scratchpad.get());
      weight_bytes += step->weight_bytes();
      infos.push_back(step->info);
    }
    for (const graph::Tensor& constant : plan.constants) weight_bytes += static_cast<std::int64_t>(constant.bytes());
  }

  void start(std::span<const void* const> inputs, std::span<void* const> outputs) {
    omp_set_num_threads(threads);
    for (const auto& [slot, i] : from_caller) {
      pointers[static_cast<std::size_t>(slot)] = static_cast<std::byte*>(const_cast<void*>(inputs[i]));
    }
    for (const auto& [slot, i] : to_caller) pointers[static_cast<std::size_t>(slot)] = static_cast<std::byte*>(outputs[i]);
  }
};

Executor::Executor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Executor::~Executor() = default;

Result<std::unique_ptr<Executor>> Executor::compile(const Graph& graph, const ExecutorOptions& options) {
  if (options.threads < 1 || options.threads > 4096) {
    return invalid_argument("threads is " + std::to_string(options.threads) + ", expected 1 to 4096");
  }
  KERF_ASSIGN(Graph batched, for_batch(graph, options.batch));
  KERF_ASSIGN(batched, prepare(std::move(batched)));
  auto impl = std::make_unique<Impl>();
  impl->threads = options.threads;
  // oneDNN chooses blockings for the team that will run them.
  omp_set_num_threads(options.threads);
  KERF_ASSIGN(impl->plan, lower(batched, options.threads));
  impl->place();
  return std::unique_ptr<Executor>(new Executor(std::move(impl)));
}

const std::vector<graph::ValueInfo>& Executor::inputs() const { return impl_->plan.inputs; }
const std::vector<graph::ValueInfo>& Executor::outputs() const { return impl_->plan.outputs; }
const std::vector<StepInfo>& Executor::steps() const { return impl_->infos; }
std::int64_t Executor::weight_bytes() const { return impl_->weight_bytes; }
std::int64_t Executor::activation_peak_bytes() const { return impl_->arena_bytes; }

void Executor::run(std::span<const void* const> inputs, std::span<void* const> outputs) {
  impl_->start(inputs, outputs);
  const Pointers pointers = impl_->pointers.data();
  for (const auto& step : impl_->plan.steps) step->run(pointers);
}

std::vector<double> Executor::run_profiled(std::span<const void* const> inputs, std::span<void* const> outputs) {
  using Clock = std::chrono::steady_clock;
  impl_->start(inputs, outputs);
  const Pointers pointers = impl_->pointers.data();
  std::vector<double> times;
  times.reserve(impl_->plan.steps.size());
  Clock::time_point before = Clock::now();
  for (const auto& step : impl_->plan.steps) {
    step->run(pointers);
    const Clock::time_point after = Clock::now();
    times.push_back(std::chrono::duration<double, std::micro>(after - before).count());
    before = after;
  }
  return times;
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
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
