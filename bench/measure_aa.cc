// How far the latency protocol errs where the truth is known: a model against itself (A/A), with the
// machine quiet and with a neighbour that keeps the same core busy.
//
// usage: bench_measure_aa MODEL.onnx [REPEATS] [SECONDS]
//
// Prints, for the protocol of workers/measure/latency.h and for two plain ways on the same time, the
// 95th percentile of |ratio - 1| over the repeats, and how often the reported interval holds 1.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "workers/engine/executor.h"
#include "workers/engine/passes.h"
#include "workers/measure/latency.h"
#include "workers/onnx/reader.h"

namespace {

using kerf::graph::Tensor;

/// A compiled model with buffers of its own.
class Side {
 public:
  explicit Side(const kerf::graph::Graph& graph) {
    auto compiled = kerf::engine::Executor::compile(graph, {});
    if (!compiled.has_value()) {
      std::fprintf(stderr, "%s\n", compiled.error().message.c_str());
      std::exit(1);
    }
    executor_ = std::move(*compiled);
    for (const auto& input : executor_->inputs()) from_.emplace_back(input.dtype, input.shape);
    for (const auto& output : executor_->outputs()) to_.emplace_back(output.dtype, output.shape);
    for (Tensor& tensor : from_) inputs_.push_back(tensor.mutable_raw());
    for (Tensor& tensor : to_) outputs_.push_back(tensor.mutable_raw());
  }
  void run() { executor_->run(inputs_, outputs_); }

  /// Median of blocks of about 100 µs, one after the other for `seconds`.
  double plain_median(double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    std::vector<double> blocks;
    while (Clock::now() < end) {
      const auto start = Clock::now();
      run();
      blocks.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    }
    std::nth_element(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(blocks.size() / 2), blocks.end());
    return blocks[blocks.size() / 2];
  }

 private:
  std::unique_ptr<kerf::engine::Executor> executor_;
  std::vector<Tensor> from_, to_;
  std::vector<const void*> inputs_;
  std::vector<void*> outputs_;
};

/// A child that keeps the cores of this process busy until it is destroyed.
class Neighbour {
 public:
  explicit Neighbour(bool wanted) {
    if (!wanted) return;
    child_ = ::fork();
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::vector<double> numbers(1U << 17U, 1.0);
      for (volatile double sum = 0;;) {
        for (double& x : numbers) x = x * 0.999 + sum * 1e-9;
        sum = numbers[0];
      }
    }
  }
  ~Neighbour() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  Neighbour(const Neighbour&) = delete;
  Neighbour& operator=(const Neighbour&) = delete;

 private:
  pid_t child_ = -1;
};

double percentile_95(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(std::ceil(0.95 * static_cast<double>(values.size()))) - 1];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_measure_aa MODEL.onnx [REPEATS] [SECONDS]\n");
    return 2;
  }
  const int repeats = argc > 2 ? std::max(2, std::atoi(argv[2])) : 40;
  const double seconds = argc > 3 ? std::atof(argv[3]) : 1.0;
  auto graph = kerf::onnx::read_model(argv[1]);
  auto simple = graph.has_value() ? kerf::engine::simplify(std::move(*graph)) : std::move(graph);
  if (!simple.has_value()) {
    std::fprintf(stderr, "%s\n", simple.error().message.c_str());
    return 1;
  }
  const kerf::measure::PinnedThread pinned(1);
  std::printf("%d repeats of %.1f s; 95th percentile of |ratio - 1|\n", repeats, seconds);
  std::printf("%-11s%14s%14s%14s%16s%14s\n", "neighbour", "one by one", "ratio of p50", "kerf's ratio", "interval has 1", "half width");
  for (const bool busy : {false, true}) {
    const Neighbour neighbour(busy);
    std::vector<double> plain, medians, ours, widths;
    int held = 0;
    for (int i = 0; i < repeats; ++i) {
      Side a(*simple), b(*simple);
      plain.push_back(std::abs(a.plain_median(seconds / 2) / b.plain_median(seconds / 2) - 1));
      kerf::measure::ThreadClock clock(1);
      kerf::measure::LatencySettings settings;
      settings.max_seconds = seconds;
      settings.seed = static_cast<std::uint64_t>(i + 1);
      const kerf::measure::TimedRun first = [&] { a.run(); };
      const kerf::measure::TimedRun second = [&] { b.run(); };
      const auto result = kerf::measure::measure_latency(first, &second, clock, settings);
      if (!result.has_value()) {
        std::fprintf(stderr, "%s\n", result.error().message.c_str());
        return 1;
      }
      medians.push_back(std::abs(result->candidate.p50_us / result->baseline->p50_us - 1));
      ours.push_back(std::abs(*result->ratio - 1));
      widths.push_back((result->ratio_ci95[1] - result->ratio_ci95[0]) / 2);
      if (result->ratio_ci95[0] <= 1 && result->ratio_ci95[1] >= 1) ++held;
    }
    std::printf("%-11s%13.2f%%%13.2f%%%13.2f%%%12d/%d%13.2f%%\n", busy ? "busy" : "none", 100 * percentile_95(plain),
                100 * percentile_95(medians), 100 * percentile_95(ours), held, repeats, 100 * percentile_95(widths));
    std::fflush(stdout);
  }
  return 0;
}
