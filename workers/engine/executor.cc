#include "workers/engine/executor.h"

#include <dnnl.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "workers/engine/kernels/packed_weights.h"
#include "workers/engine/lane_pool.h"
#include "workers/engine/lowering/prepare.h"
#include "workers/engine/program.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine {

using graph::Graph;

namespace {

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

/// The largest divisor of `batch` that isn't above `limit`.
std::int64_t divisor(std::int64_t batch, std::int64_t limit) {
  std::int64_t found = std::clamp<std::int64_t>(limit, 1, batch);
  while (batch % found != 0) --found;
  return found;
}

}  // namespace

struct Executor::Impl {
  std::vector<std::unique_ptr<Program>> lanes;
  std::int64_t pieces = 1;  ///< Micro-batches of a run.
  std::vector<graph::ValueInfo> inputs, outputs;
  std::vector<StepInfo> infos;
  int threads = 1;
  Cut cut;
  std::unique_ptr<LanePool> pool;      ///< Where there are several lanes.
  std::optional<Placement> placement;  ///< Of OpenMP's threads, where there is one lane for several.

  /// A team of one lane's.
  [[nodiscard]] int team() const { return lanes.size() > 1 ? 1 : threads; }

  static Result<std::unique_ptr<Impl>> make(const Graph& graph, std::int64_t batch, int threads, const Cut& cut) {
    KERF_ASSIGN(Graph sized, for_batch(graph, cut.micro));
    KERF_ASSIGN(sized, prepare(std::move(sized)));
    auto impl = std::make_unique<Impl>();
    impl->threads = threads;
    impl->cut = cut;
    impl->pieces = batch / cut.micro;
    const int team = cut.lanes > 1 ? 1 : threads;
    for (int lane = 0; lane < cut.lanes; ++lane) {
      KERF_ASSIGN(auto program, Program::make(sized, team, cut.teams));
      impl->lanes.push_back(std::move(program));
    }
    if (cut.lanes > 1) {
      try {
        impl->pool = std::make_unique<LanePool>(cut.lanes);
      } catch (const std::system_error& error) {
        return Error{ErrorCode::kResourceExhausted, std::to_string(cut.lanes) + " threads: " + error.what()};
      }
    }
    const Plan& plan = impl->lanes[0]->plan();
    const auto whole = [&](std::vector<graph::ValueInfo> values) {
      if (impl->pieces > 1) {
        for (graph::ValueInfo& value : values) value.shape[0] *= impl->pieces;
      }
      return values;
    };
    impl->inputs = whole(plan.inputs);
    impl->outputs = whole(plan.outputs);
    for (const auto& step : plan.steps) {
      impl->infos.push_back(step->info);
      impl->infos.back().weight_bytes = step->weight_bytes();
    }
    return impl;
  }

  void run(std::span<const void* const> from, std::span<void* const> to) {
    omp_set_num_threads(team());
    if (!pool) {
      if (threads > 1) place_team();
      for (std::int64_t piece = 0; piece < pieces; ++piece) {
        lanes[0]->point_to(from, to, piece);
        lanes[0]->run();
      }
      return;
    }
    const auto count = static_cast<std::int64_t>(lanes.size());
    auto share = [&](int lane) {
      for (std::int64_t piece = lane; piece < pieces; piece += count) {
        lanes[static_cast<std::size_t>(lane)]->point_to(from, to, piece);
        lanes[static_cast<std::size_t>(lane)]->run();
      }
    };
    pool->run(share);
  }

  std::vector<double> run_profiled(std::span<const void* const> from, std::span<void* const> to) {
    omp_set_num_threads(team());
    if (!pool && threads > 1) place_team();
    std::vector<double> times;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      lanes[0]->point_to(from, to, piece);
      lanes[0]->run_profiled(times);
    }
    // Lanes work side by side: a step's share of the time is what one of them spends on it.
    for (double& time : times) time /= static_cast<double>(lanes.size());
    return times;
  }

  /// OpenMP keeps the threads of a team as long as its size stays.
  void place_team() {
    if (!placement) {
      placement.emplace();
#pragma omp parallel num_threads(threads)
      {
        const int index = omp_get_thread_num();
#pragma omp critical
        if (index > 0) placement->set_helper(static_cast<std::size_t>(index) - 1, gettid());
      }
    }
    placement->follow();
  }
};

namespace {

/// Times runs on zeros.
class Stopwatch {
 public:
  explicit Stopwatch(Executor::Impl& impl) : impl_(impl) {
    for (const graph::ValueInfo& input : impl.inputs) from_.push_back(buffer(input));
    for (const graph::ValueInfo& output : impl.outputs) to_.push_back(buffer(output));
  }

  /// Some milliseconds of runs after one that isn't timed; the least time of all calls counts.
  void block() {
    constexpr int kFewestRuns = 3;
    constexpr double kLeastUs = 4000;
    const double before_us = spent_us_;
    impl_.run(from_, to_);
    for (int i = 0; i < kFewestRuns || spent_us_ - before_us < kLeastUs; ++i) {
      const auto start = std::chrono::steady_clock::now();
      impl_.run(from_, to_);
      const double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
      least_us_ = std::min(least_us_, us);
      spent_us_ += us;
    }
    // OpenMP's threads go on looking for work for milliseconds, on cores that the next one needs.
    if (!impl_.pool && impl_.threads > 1) {
      omp_pause_resource_all(omp_pause_soft);
      impl_.placement.reset();
    }
  }

  /// The least time of each step over some runs and over `least`.
  void profile(int runs, std::vector<double>& least) {
    impl_.run(from_, to_);
    for (int i = 0; i < runs; ++i) {
      const std::vector<double> times = impl_.run_profiled(from_, to_);
      for (std::size_t step = 0; step < least.size(); ++step) {
        least[step] = std::min(least[step], times[step]);
        spent_us_ += times[step];
      }
    }
  }

  [[nodiscard]] double least_us() const { return least_us_; }
  [[nodiscard]] double spent_us() const { return spent_us_; }

 private:
  std::byte* buffer(const graph::ValueInfo& value) {
    memory_.emplace_back(static_cast<std::size_t>(*graph::element_count(value.shape)) * graph::element_size(value.dtype) + 64);
    return memory_.back().data();
  }

  Executor::Impl& impl_;
  std::vector<std::vector<std::byte>> memory_;
  std::vector<const void*> from_;
  std::vector<void*> to_;
  double least_us_ = 1e300;
  double spent_us_ = 0;
};

/// They take turns, so that neither a drifting clock nor a neighbour's burst decides.
bool is_faster(Executor::Impl& challenger, Executor::Impl& champion) {
  constexpr int kMostRounds = 4;
  constexpr double kMostUs = 60000;
  constexpr double kHopeless = 1.3;
  Stopwatch first(challenger);
  Stopwatch second(champion);
  for (int round = 0; round < kMostRounds && first.spent_us() + second.spent_us() < kMostUs; ++round) {
    first.block();
    second.block();
    if (first.least_us() > kHopeless * second.least_us()) return false;
  }
  return first.least_us() < second.least_us();
}

/// Keeps as many cores busy as will be timed, for some tens of milliseconds: a virtual machine's second
/// core may be the first one's sibling thread until its host sees that both are wanted.
void wake_cores(int threads) {
  constexpr auto kLong = std::chrono::milliseconds(40);
  LanePool pool(threads);
  const auto end = std::chrono::steady_clock::now() + kLong;
  auto spin = [&](int) {
    while (std::chrono::steady_clock::now() < end) {
    }
  };
  pool.run(spin);
}

/// Threads for each step, 1 or all, by what a few runs of each kind took; empty where all are best.
std::vector<int> best_teams(Executor::Impl& alone, Executor::Impl& together) {
  constexpr int kRounds = 4;
  constexpr int kRuns = 8;
  constexpr double kMostUs = 60000;
  // What a team doesn't gain clearly isn't worth keeping a core busy for.
  constexpr double kGain = 0.95;
  if (alone.infos.size() != together.infos.size()) return {};
  std::vector<std::vector<double>> least(2, std::vector<double>(alone.infos.size(), 1e300));
  Stopwatch watches[] = {Stopwatch(alone), Stopwatch(together)};
  for (int round = 0; round < kRounds && watches[0].spent_us() + watches[1].spent_us() < kMostUs; ++round) {
    for (std::size_t kind = 0; kind < 2; ++kind) watches[kind].profile(kRuns, least[kind]);
  }
  std::vector<int> teams(alone.infos.size(), together.threads);
  bool mixed = false;
  for (std::size_t i = 0; i < teams.size(); ++i) {
    if (least[1][i] < kGain * least[0][i]) continue;
    teams[i] = 1;
    mixed = true;
  }
  return mixed ? teams : std::vector<int>{};
}

/// Ways to cut a batch that may pay. A micro-batch whose activations stay in the second-level cache
/// beats a long batch; whole samples on each thread beat threads that share every layer.
std::vector<Cut> cuts(std::int64_t batch, int threads, std::int64_t arena_bytes_of_sample) {
  constexpr std::int64_t kCache = 1LL << 20U;
  std::vector<Cut> out;
  const auto add = [&](Cut cut) {
    if (std::find(out.begin(), out.end(), cut) == out.end()) out.push_back(cut);
  };
  const std::int64_t each = std::max<std::int64_t>(arena_bytes_of_sample, 1);
  for (const int lanes : {threads, 1}) {
    const std::int64_t share = batch / lanes;
    if (share < 1) continue;
    add({divisor(batch, std::min(share, std::max<std::int64_t>(kCache / each, 1))), lanes, {}});
    add({divisor(batch, std::min(share, std::max<std::int64_t>(kCache / 4 / each, 1))), lanes, {}});
    add({1, lanes, {}});
    add({divisor(batch, share), lanes, {}});
  }
  return out;
}

}  // namespace

Executor::Executor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Executor::~Executor() = default;

Result<std::unique_ptr<Executor>> Executor::compile(const Graph& graph, const ExecutorOptions& options) {
  if (options.threads < 1 || options.threads > 4096) {
    return invalid_argument("threads is " + std::to_string(options.threads) + ", expected 1 to 4096");
  }
  const std::int64_t own = own_batch(graph);
  const std::int64_t batch = options.batch > 0 ? options.batch : own > 0 ? own : 1;
  const auto finished = [](std::unique_ptr<Impl> impl) { return std::unique_ptr<Executor>(new Executor(std::move(impl))); };
  // Fails where the graph mixes samples; then there is nothing to cut.
  const bool rows = batch > 1 && graph::with_batch(graph, 1).has_value() && graph::with_batch(graph, batch).has_value();
  if (options.cut || !options.tune) {
    Cut cut{batch, 1, {}};
    if (rows && options.threads > 1 && batch >= options.threads) cut = {divisor(batch, batch / options.threads), options.threads, {}};
    if (options.cut) {
      cut.teams = options.cut->teams;
      cut.lanes = rows ? std::clamp(options.cut->lanes, 1, options.threads) : 1;
      cut.micro = rows ? divisor(batch, options.cut->micro) : batch;
    }
    KERF_ASSIGN(auto impl, Impl::make(graph, batch, options.threads, cut));
    return finished(std::move(impl));
  }
  if (options.threads > 1) wake_cores(options.threads);
  // A lane for all threads, each step on as many of them as it gains from.
  const auto in_teams = [&](std::int64_t micro) -> Result<std::unique_ptr<Impl>> {
    KERF_ASSIGN(auto together, Impl::make(graph, batch, options.threads, {micro, 1, {}}));
    if (options.threads == 1) return together;
    KERF_ASSIGN(auto alone, Impl::make(graph, batch, 1, {micro, 1, {}}));
    // Steps that were timed one by one may do worse in a row: what is mixed has to show that it pays,
    // and so has the team.
    std::unique_ptr<Impl> best = std::move(together);
    for (const std::vector<int>& teams : {best_teams(*alone, *best), std::vector<int>(best->infos.size(), 1)}) {
      if (teams.empty()) continue;
      KERF_ASSIGN(auto mixed, Impl::make(graph, batch, options.threads, {micro, 1, teams}));
      if (is_faster(*mixed, *best)) best = std::move(mixed);
    }
    return best;
  };
  if (!rows) {
    KERF_ASSIGN(auto impl, in_teams(batch));
    return finished(std::move(impl));
  }
  KERF_ASSIGN(auto single, Impl::make(graph, 1, 1, {1, 1, {}}));
  std::unique_ptr<Impl> best;
  for (const Cut& cut : cuts(batch, options.threads, single->lanes[0]->arena_bytes())) {
    KERF_ASSIGN(auto impl, cut.lanes > 1 ? Impl::make(graph, batch, options.threads, cut) : in_teams(cut.micro));
    if (!best || is_faster(*impl, *best)) best = std::move(impl);
  }
  return finished(std::move(best));
}

const std::vector<graph::ValueInfo>& Executor::inputs() const { return impl_->inputs; }
const std::vector<graph::ValueInfo>& Executor::outputs() const { return impl_->outputs; }
const std::vector<StepInfo>& Executor::steps() const { return impl_->infos; }
std::int64_t Executor::weight_bytes() const { return impl_->lanes[0]->weight_bytes(); }
std::int64_t Executor::activation_peak_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& lane : impl_->lanes) bytes += lane->arena_bytes();
  return bytes;
}
Cut Executor::cut() const { return impl_->cut; }

void Executor::run(std::span<const void* const> inputs, std::span<void* const> outputs) { impl_->run(inputs, outputs); }

std::vector<double> Executor::run_profiled(std::span<const void* const> inputs, std::span<void* const> outputs) {
  return impl_->run_profiled(inputs, outputs);
}

void release_caches() { forget_packed_weights(); }

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
