#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

class Lanes;

/// How a batch is cut: `micro` samples at a time, on `lanes` threads that each run whole
/// micro-batches. One lane runs them with the whole team, or with fewer threads where `teams` says so,
/// step by step: a small layer takes less time than a team takes to come together.
struct Cut {
  std::int64_t micro = 1;
  int lanes = 1;
  std::vector<int> teams;  ///< Threads of each step; empty = all of them for each.

  friend bool operator==(const Cut&, const Cut&) = default;
};

struct ExecutorOptions {
  std::int64_t batch = 1;  ///< Samples a run; 0 = the graph's own batch (1 where it is free).
  int threads = 1;         ///< OpenMP threads of the calling thread's team; at least 1.
  /// Cuts the batch into micro-batches, and spreads them, or the layers' work, over the threads in the
  /// way that is fastest here, found by timing a few. Rounding may then differ from machine to machine as f32
  /// kernels of another batch sum in another order; without it the cut follows from the sizes alone.
  bool tune = false;
  std::optional<Cut> cut;  ///< As another executor found it; nothing is timed then.
};

/// What one step of a compiled model does.
struct StepInfo {
  std::string name;         ///< The layer's node name, or the op's.
  bool is_layer = false;
  std::string op;           ///< "Conv", "MaxPool", "reorder", …
  std::string kernel;       ///< oneDNN's name of the kernel, or "kerf:…" for our own.
  std::string executes_as;  ///< "f32", "bf16", "s8", "f32 (4-bit weights)", "f32 (reference)", …
  std::int64_t weight_bytes = 0;  ///< Of Executor::weight_bytes(), what this step has packed.
};

/// A model compiled for one batch size: prepared oneDNN primitives, packed weights and one planned
/// arena for all activations.
///
/// Threads:  not thread-safe; distinct executors may run on distinct threads.
/// Cost:     compile() does all shape work and packs the weights; run() allocates nothing.
/// Errors:   run() throws where oneDNN does (a broken world).
class Executor {
 public:
  /// `graph` is the output of simplify(), in f32 or QDQ form.
  ///
  /// Errors:   failed_precondition where the graph mixes samples and batch isn't its own;
  ///           invalid_argument or unimplemented naming the node otherwise.
  [[nodiscard]] static Result<std::unique_ptr<Executor>> compile(const graph::Graph& graph,
                                                                 const ExecutorOptions& options);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  /// Names, types and static shapes, batch first.
  [[nodiscard]] const std::vector<graph::ValueInfo>& inputs() const;
  [[nodiscard]] const std::vector<graph::ValueInfo>& outputs() const;

  /// Plain row-major NCHW buffers in the types of inputs() and outputs(), in their order.
  void run(std::span<const void* const> inputs, std::span<void* const> outputs);

  /// Like run(); microseconds of each step, in the order of steps().
  [[nodiscard]] std::vector<double> run_profiled(std::span<const void* const> inputs,
                                                 std::span<void* const> outputs);

  [[nodiscard]] const std::vector<StepInfo>& steps() const;
  [[nodiscard]] std::int64_t weight_bytes() const;  ///< Packed weights, biases and scales as resident.
  [[nodiscard]] std::int64_t activation_peak_bytes() const;  ///< Of the arenas together.
  [[nodiscard]] Cut cut() const;


 private:
  explicit Executor(std::unique_ptr<Lanes> lanes);
  std::unique_ptr<Lanes> lanes_;
};

/// Runs all samples and gives the outputs concatenated along axis 0.
///
/// Runs batches of `batch_hint` samples (0 = chosen for throughput), the rest in a smaller one;
/// where the graph mixes samples, the model's own batch (samples must then be a multiple of it).
///
/// Errors:   invalid_argument where inputs don't fit the graph; those of Executor::compile.
[[nodiscard]] Result<std::vector<graph::Tensor>> run_all(const graph::Graph& graph,
                                                         const std::vector<graph::Tensor>& inputs,
                                                         int threads, std::int64_t batch_hint = 0);

/// Drops what is kept for the next model (packed weights that no executor uses), so that a model's
/// own memory can be measured.
void release_caches();

[[nodiscard]] std::string onednn_version();  ///< "3.2.1"
[[nodiscard]] std::string isa_in_use();      ///< "avx512_core_bf16", …

/// Whether the processor adds products of bytes in 32 bits. Where it doesn't, oneDNN's 8-bit kernels add pairs in
/// 16 bits, which saturate (u8), or halve the weights first (s8): sums aren't exact there.
[[nodiscard]] bool has_vnni();

}  // namespace kerf::engine
