#include "workers/measure/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <utility>

#include "workers/measure/accuracy.h"
#include "workers/measure/batch_runner.h"
#include "workers/measure/race.h"
#include "workers/measure/staged_run.h"

namespace kerf::measure {

using graph::DType;
using graph::Tensor;
using std::chrono::duration;
using std::chrono::steady_clock;

/// What the baseline keeps between candidates.
struct Baseline::Impl {
  explicit Impl(graph::Graph own) : graph(std::move(own)) {}

  graph::Graph graph;
  std::optional<Compiled> timed;  // for the latency batch
  std::int64_t timed_batch = 0;   // as asked for
  int timed_threads = 0;
  std::vector<graph::Shape> timed_shapes;  // of the data, without the samples
  std::optional<Compiled> evaluated;  // for the evaluation set
  int evaluated_threads = 0;
  data::BoundData evaluation;  // that the outputs belong to
  std::map<std::size_t, Tensor> outputs;  // by shard
  std::size_t output_bytes = 0;
  PrefixCache prefixes;  // of candidates on the same data
};

namespace {

constexpr std::size_t kShard = 256;
constexpr std::size_t kMostKeptOutputs = 512U << 20U;
constexpr std::int64_t kMostBatch = 65536;
constexpr int kMostThreads = 1024;
// A run beside others, right after compiling, is no measurement of latency; that the median of many
// undisturbed ones is below half of it isn't seen.
constexpr double kLeastOfFirstRun = 0.5;

/// Adds the time of a scope to a phase, without what `turn` waited for the host meanwhile.
class PhaseTimer {
 public:
  PhaseTimer(std::map<std::string, double>& phases, std::string name,
             const SharedTurn* turn = nullptr)
      : phases_(phases),
        name_(std::move(name)),
        turn_(turn),
        waited_before_(turn == nullptr ? 0 : turn->waited_ms()),
        start_(steady_clock::now()) {}
  ~PhaseTimer() {
    const double waited = turn_ == nullptr ? 0 : turn_->waited_ms() - waited_before_;
    phases_[name_] += duration<double, std::milli>(steady_clock::now() - start_).count() - waited;
  }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  std::map<std::string, double>& phases_;
  std::string name_;
  const SharedTurn* turn_;
  double waited_before_;
  steady_clock::time_point start_;
};

bool same_data(const data::BoundData& a, const data::BoundData& b) {
  return a.samples == b.samples &&
         std::equal(a.inputs.begin(), a.inputs.end(), b.inputs.begin(), b.inputs.end(),
                    [](const Tensor& x, const Tensor& y) {
                      return x.raw() == y.raw() && x.shape() == y.shape();
                    });
}

/// A fixed permutation of the samples, the same for every candidate.
std::vector<std::int64_t> evaluation_order(std::int64_t samples) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(samples));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(0x6b657266);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

data::BoundData labels_of(const data::BoundData& data, std::span<const std::int64_t> samples) {
  data::BoundData out;
  out.samples = static_cast<std::int64_t>(samples.size());
  const auto each = static_cast<std::size_t>(data.targets_per_sample());
  for (const std::int64_t sample : samples) {
    const auto at = static_cast<std::size_t>(sample);
    if (!data.classes.empty()) out.classes.push_back(data.classes[at]);
    for (std::size_t i = 0; i < each; ++i) out.targets.push_back(data.targets[at * each + i]);
  }
  return out;
}

Result<void> check_request(const MeasureRequest& request) {
  if (request.threads < 1 || request.threads > kMostThreads) {
    return invalid_argument("measure.threads: " + std::to_string(request.threads) +
                            "; expected 1 to " + std::to_string(kMostThreads));
  }
  if (request.batch < 1 || request.batch > kMostBatch) {
    return invalid_argument("measure.batch: " + std::to_string(request.batch) +
                            "; expected 1 to " + std::to_string(kMostBatch));
  }
  for (const std::string& metric : request.metrics) {
    if (find_metric(metric) == nullptr) {
      return invalid_argument("measure.metrics: '" + metric + "' isn't a metric");
    }
  }
  return {};
}

/// One candidate's measurement.
class Measurer {
 public:
  Measurer(const compress::CompressedModel& candidate, Baseline* baseline,
           const data::BoundData* evaluation, const MeasureRequest& request, HostLock* lock,
           const Progress& progress, Instruments& instruments)
      : candidate_(candidate),
        baseline_(baseline == nullptr ? nullptr : &baseline->impl()),
        evaluation_(evaluation),
        request_(request),
        lock_(lock),
        progress_(progress),
        instruments_(instruments),
        wait_(request.wait) {
    if (!wait_.cancelled) wait_.cancelled = request.cancelled;
    const auto tell = wait_.waiting;
    wait_.waiting = [this, tell](double seconds) {
      report("wait_lock", 0);
      if (tell) tell(seconds);
    };
  }

  Result<Measurement> run() {
    KERF_TRY(check_request(request_));
    out_.phase_ms = candidate_.phase_ms;
    out_.warnings = candidate_.warnings;
    out_.hardware = instruments_.hardware;
    out_.hardware.threads = request_.threads;
    KERF_TRY(compile());
    if (evaluation_ != nullptr && evaluation_->samples > 0 && wants_quality()) KERF_TRY(quality());
    if (out_.pruned.empty() && wants_latency()) KERF_TRY(latency());
    return std::move(out_);
  }

 private:
  void report(const char* phase, double share) const {
    if (progress_) progress_(phase, share);
  }

  [[nodiscard]] Result<void> check_cancelled() const {
    if (!request_.cancelled || !request_.cancelled()) return {};
    return Error{ErrorCode::kCancelled, "measurement: cancelled"};
  }

  [[nodiscard]] bool wants_latency() const {
    return std::any_of(metrics().begin(), metrics().end(), [&](const MetricInfo& metric) {
      return metric.needs_latency && request_.wants(std::string(metric.name));
    });
  }

  [[nodiscard]] bool wants_quality() const {
    return std::any_of(metrics().begin(), metrics().end(), [&](const MetricInfo& metric) {
      return metric.of_outputs && request_.wants(std::string(metric.name));
    });
  }

  /// The executor that is timed; what is known without running much comes with it.
  Result<void> compile() {
    report("compile", 0);
    SharedTurn turn(lock_, wait_);
    KERF_TRY(turn.next());
    {
      const PhaseTimer timer(out_.phase_ms, "compile");
      if (evaluation_ == nullptr || evaluation_->samples == 0) {
        KERF_ASSIGN(random_inputs_, random_inputs(candidate_.graph, request_.batch, request_.seed));
      }
      engine::ExecutorOptions options = for_timing();
      if (options.batch > 1 || options.threads > 1) {
        // What is tried to find the best cut isn't memory that the candidate needs.
        KERF_ASSIGN(const Compiled tried, Compiled::make(candidate_.graph, inputs(), options));
        options.cut = tried.executor().cut();
      }
      engine::release_caches();
      instruments_.memory.set_floor();
      KERF_ASSIGN(Compiled compiled, Compiled::make(candidate_.graph, inputs(), options));
      timed_.emplace(std::move(compiled));
      KERF_TRY(load_timed(*timed_));
      timed_->run();
      const auto start = steady_clock::now();
      timed_->run();
      first_run_us_ = duration<double, std::micro>(steady_clock::now() - start).count();
      if (const auto peak = instruments_.memory.peak_over_floor()) {
        out_.metrics["rss_peak_bytes"] = static_cast<double>(*peak);
      }
    }
    if (!timed_->fits_batch()) {
      out_.warnings.push_back("the model mixes the samples of a batch: it was timed with its own "
                              "batch of " + std::to_string(timed_->batch()) + ", not " +
                              std::to_string(request_.batch));
    }
    const engine::Executor& executor = timed_->executor();
    out_.metrics["weight_bytes"] = static_cast<double>(executor.weight_bytes());
    out_.metrics["activation_peak_bytes"] = static_cast<double>(executor.activation_peak_bytes());
    out_.metrics["storage_bytes"] = static_cast<double>(candidate_.storage_bytes);
    out_.metrics["macs"] = static_cast<double>(candidate_.macs);
    out_.metrics["recovery_seconds"] = candidate_.recovery_seconds;
    out_.phase_ms["wait_lock"] += turn.waited_ms();
    return {};
  }

  /// The evaluation set's inputs, or random ones where there is none.
  [[nodiscard]] const std::vector<Tensor>& inputs() const {
    return random_inputs_.empty() ? evaluation_->inputs : random_inputs_;
  }

  /// The first samples, and again from the first where the batch takes more.
  Result<void> load_timed(Compiled& compiled) const {
    const std::int64_t available = inputs().empty() ? 1 : inputs().front().dim(0);
    std::vector<std::int64_t> first(static_cast<std::size_t>(compiled.batch()));
    for (std::size_t i = 0; i < first.size(); ++i) {
      first[i] = static_cast<std::int64_t>(i) % available;
    }
    return compiled.load(inputs(), first);
  }

  [[nodiscard]] engine::ExecutorOptions for_timing() const {
    return {.batch = request_.batch, .threads = request_.threads, .tune = true};
  }

  /// The batch follows from the candidate's activations, the baseline's too.
  [[nodiscard]] engine::ExecutorOptions for_evaluation() const {
    const engine::Executor& timed = timed_->executor();
    const std::int64_t together = timed_->fits_batch() ? timed.cut().micro * timed.cut().lanes : timed_->batch();
    return {.batch = evaluation_batch(timed.activation_peak_bytes() / together, evaluation_->samples),
            .threads = request_.threads};
  }

  Result<void> prepare_baseline() {
    if (!same_data(baseline_->evaluation, *evaluation_)) {
      baseline_->outputs.clear();
      baseline_->output_bytes = 0;
      baseline_->prefixes.clear();
      baseline_->evaluation = *evaluation_;
      baseline_->evaluated.reset();  // its open sizes may be others
    }
    if (baseline_->evaluated_threads != request_.threads) baseline_->evaluated.reset();
    if (!baseline_->evaluated) {
      const PhaseTimer timer(out_.phase_ms, "baseline");
      KERF_ASSIGN(Compiled compiled,
                  Compiled::make(baseline_->graph, inputs(), for_evaluation()));
      baseline_->evaluated.emplace(std::move(compiled));
      baseline_->evaluated_threads = request_.threads;
    }
    return {};
  }

  Result<Tensor> baseline_shard(std::size_t shard, std::span<const std::int64_t> samples,
                                const SharedTurn& turn,
                                const std::function<Result<void>()>& between) {
    const auto kept = baseline_->outputs.find(shard);
    if (kept != baseline_->outputs.end()) return kept->second;
    const PhaseTimer timer(out_.phase_ms, "baseline", &turn);
    KERF_ASSIGN(Tensor rows,
                run_samples(*baseline_->evaluated, evaluation_->inputs, samples, between));
    if (baseline_->output_bytes + rows.bytes() <= kMostKeptOutputs) {
      baseline_->output_bytes += rows.bytes();
      baseline_->outputs[shard] = rows;
    }
    return rows;
  }

  /// What a race may count on before the samples.
  [[nodiscard]] KnownCosts known_costs() const {
    KnownCosts costs;
    costs.metrics = out_.metrics;  // sizes, and what recovery took: nothing else is there yet
    costs.batch = timed_->batch();
    if (first_run_us_ > 0) costs.least_latency_us = kLeastOfFirstRun * first_run_us_;
    return costs;
  }

  Result<void> quality() {
    report("accuracy", 0);
    SharedTurn turn(lock_, wait_);
    const auto between = [&]() -> Result<void> {
      KERF_TRY(check_cancelled());
      return turn.next();
    };
    KERF_TRY(between());
    if (baseline_ != nullptr) KERF_TRY(prepare_baseline());
    QualityMeter meter(output_kind(baseline_ != nullptr ? baseline_->graph : candidate_.graph));
    const std::vector<std::int64_t> order = evaluation_order(evaluation_->samples);
    // A model that mixes samples takes whole batches of its own.
    const auto own = static_cast<std::size_t>(timed_->fits_batch() ? 1 : timed_->batch());
    const std::size_t shard_samples = (kShard + own - 1) / own * own;
    std::optional<Race> race;
    if (request_.racing && !request_.racing->empty()) {
      race.emplace(*request_.racing, known_costs(), static_cast<std::int64_t>(order.size()));
    }
    PrefixCache none;
    std::optional<StagedRun> staged;
    {
      const PhaseTimer timer(out_.phase_ms, "compile");
      KERF_ASSIGN(StagedRun made, StagedRun::make(candidate_.graph, inputs(), for_evaluation(), order, shard_samples,
                                                  baseline_ != nullptr ? baseline_->prefixes : none));
      staged.emplace(std::move(made));
    }
    for (std::size_t begin = 0; begin < order.size(); begin += shard_samples) {
      const auto samples = std::span(order).subspan(begin, std::min(shard_samples, order.size() - begin));
      Tensor reference;
      if (baseline_ != nullptr) {
        KERF_ASSIGN(reference, baseline_shard(begin / shard_samples, samples, turn, between));
      }
      const PhaseTimer timer(out_.phase_ms, "accuracy", &turn);
      KERF_ASSIGN(const Tensor rows, staged->rows(begin / shard_samples, samples, between));
      KERF_TRY(meter.add(rows, baseline_ != nullptr ? &reference : nullptr,
                         labels_of(*evaluation_, samples), race ? &*race : nullptr));
      report("accuracy", static_cast<double>(begin + samples.size()) / static_cast<double>(order.size()));
      // With the last sample everything is known but times; without those it is complete.
      const bool last = begin + samples.size() == order.size();
      if (race && !race->lost().empty() && (!last || wants_latency())) {
        out_.pruned = race->lost();
        break;
      }
    }
    meter.report(out_);
    if (meter.not_finite() > 0) {
      out_.warnings.push_back("outputs hold NaN or Inf in " + std::to_string(meter.not_finite()) +
                              " of " + std::to_string(meter.samples()) + " samples");
    }
    out_.phase_ms["wait_lock"] += turn.waited_ms();
    return {};
  }

  Result<Compiled*> timed_baseline() {
    std::vector<graph::Shape> shapes;
    for (const Tensor& input : inputs()) {
      shapes.push_back(input.shape());
      if (!shapes.back().empty()) shapes.back()[0] = 0;
    }
    if (baseline_->timed && baseline_->timed_batch == request_.batch &&
        baseline_->timed_threads == request_.threads && baseline_->timed_shapes == shapes) {
      return &*baseline_->timed;
    }
    const PhaseTimer timer(out_.phase_ms, "compile");
    SharedTurn turn(lock_, wait_);
    KERF_TRY(turn.next());
    KERF_ASSIGN(Compiled compiled,
                Compiled::make(baseline_->graph, inputs(), for_timing()));
    baseline_->timed.emplace(std::move(compiled));
    baseline_->timed_batch = request_.batch;
    baseline_->timed_threads = request_.threads;
    baseline_->timed_shapes = std::move(shapes);
    return &*baseline_->timed;
  }

  Result<void> latency() {
    Compiled* other = nullptr;
    if (baseline_ != nullptr) {
      KERF_ASSIGN(other, timed_baseline());
      KERF_TRY(load_timed(*other));
    }
    HostLock::Turn turn;
    if (lock_ != nullptr) {
      report("wait_lock", 0);
      KERF_ASSIGN(turn, lock_->exclusive(wait_));
      out_.phase_ms["wait_lock"] += turn.waited_ms();
    }
    report("latency", 0);
    const PinnedThread pin(request_.threads);
    if (!pin.pinned()) out_.warnings.push_back("latency: the thread couldn't be pinned to a core");
    if (pin.cores().size() < static_cast<std::size_t>(request_.threads)) {
      out_.warnings.push_back("latency: " + std::to_string(request_.threads) + " threads on " +
                              std::to_string(pin.cores().size()) + " allowed cores");
    }
    {
      const PhaseTimer timer(out_.phase_ms, "latency");
      KERF_TRY(time_runs(other));
    }
    report("layers", 0);
    {
      const PhaseTimer timer(out_.phase_ms, "layers");
      KERF_TRY(time_layers());
    }
    if (request_.wants("energy_uj") && instruments_.energy.readable()) {
      const PhaseTimer timer(out_.phase_ms, "energy");
      KERF_TRY(energy());
    }
    return {};
  }

  Result<void> time_runs(Compiled* other) {
    LatencySettings settings;
    settings.max_seconds = request_.latency_seconds;
    settings.least_seconds = std::min(settings.least_seconds, request_.latency_seconds);
    settings.seed = request_.seed;
    settings.cancelled = request_.cancelled;
    const TimedRun run = [this] { timed_->run(); };
    const TimedRun run_other = [other] { other->run(); };
    ThreadClock clock(request_.threads);
    KERF_ASSIGN(const LatencyResult result,
                measure_latency(run, other != nullptr ? &run_other : nullptr, clock, settings));
    const RunTimes& times = result.candidate;
    out_.metrics["latency_p50_us"] = times.p50_us;
    out_.metrics["latency_p90_us"] = times.p90_us;
    out_.metrics["latency_p99_us"] = times.p99_us;
    out_.ci95["latency_p50_us"] = times.p50_ci95;
    const double batch_us = static_cast<double>(timed_->batch()) * 1e6;
    out_.metrics["throughput_sps"] = batch_us / times.p50_us;
    out_.ci95["throughput_sps"] = {batch_us / times.p50_ci95[1], batch_us / times.p50_ci95[0]};
    if (result.ratio) {
      out_.metrics["latency_ratio"] = *result.ratio;
      out_.ci95["latency_ratio"] = result.ratio_ci95;
    }
    out_.runs = times.blocks;
    out_.noisy = result.noisy;
    out_.warnings.insert(out_.warnings.end(), result.warnings.begin(), result.warnings.end());
    return {};
  }

  /// Medians of the steps' times, scaled so that they sum to the whole: single steps are timed with
  /// a clock between them, which the whole doesn't have.
  Result<void> time_layers() {
    constexpr int kFewest = 5;
    constexpr int kMost = 200;
    constexpr double kShareOfTime = 0.2;
    const auto& steps = timed_->executor().steps();
    std::vector<std::vector<double>> times(steps.size());
    const auto start = steady_clock::now();
    for (int i = 0; i < kMost; ++i) {
      KERF_TRY(check_cancelled());
      const duration<double> spent = steady_clock::now() - start;
      if (i >= kFewest && spent.count() > kShareOfTime * request_.latency_seconds) break;
      const std::vector<double> us = timed_->run_profiled();
      for (std::size_t step = 0; step < steps.size() && step < us.size(); ++step) {
        times[step].push_back(us[step]);
      }
    }
    double sum = 0;
    for (std::size_t step = 0; step < steps.size(); ++step) {
      const double median = times[step].empty() ? 0 : median_of(std::move(times[step]));
      sum += median;
      out_.layers.push_back({steps[step].name, steps[step].kernel, steps[step].executes_as, median});
    }
    if (sum > 0) {
      const double scale = out_.metrics["latency_p50_us"] / sum;
      for (LayerMeasurement& layer : out_.layers) layer.us *= scale;
    }
    return {};
  }

  /// Counters move about once a millisecond, so runs go on for long enough to make that small.
  Result<void> energy() {
    constexpr double kSeconds = 0.3;
    const auto start = steady_clock::now();
    std::int64_t runs = 0;
    instruments_.energy.start();
    while (duration<double>(steady_clock::now() - start).count() < kSeconds) {
      KERF_TRY(check_cancelled());
      timed_->run();
      ++runs;
    }
    if (const auto taken = instruments_.energy.taken_uj()) {
      out_.metrics["energy_uj"] = *taken / static_cast<double>(runs);
    }
    return {};
  }

  const compress::CompressedModel& candidate_;
  Baseline::Impl* baseline_;
  const data::BoundData* evaluation_;
  const MeasureRequest& request_;
  HostLock* lock_;
  const Progress& progress_;
  Instruments& instruments_;
  WaitLimits wait_;
  std::vector<Tensor> random_inputs_;  // where there is no evaluation set
  std::optional<Compiled> timed_;
  double first_run_us_ = 0;
  Measurement out_;
};

Result<Measurement> measure(const compress::CompressedModel& candidate, Baseline* baseline,
                            const data::BoundData* evaluation, const MeasureRequest& request,
                            HostLock* lock, const Progress& progress, Instruments* instruments) {
  std::optional<Instruments> own;
  if (instruments == nullptr) instruments = &own.emplace(request.threads);
  return Measurer(candidate, baseline, evaluation, request, lock, progress, *instruments).run();
}

}  // namespace

Instruments::Instruments(int threads) : hardware(hardware_fingerprint(threads)) {}

Baseline::Baseline(graph::Graph graph) : impl_(std::make_unique<Impl>(std::move(graph))) {}
Baseline::~Baseline() = default;
Baseline::Baseline(Baseline&&) noexcept = default;
Baseline& Baseline::operator=(Baseline&&) noexcept = default;

const graph::Graph& Baseline::graph() const { return impl_->graph; }

Result<Measurement> measure_candidate(const compress::CompressedModel& candidate,
                                      Baseline& baseline, const data::BoundData& evaluation,
                                      const MeasureRequest& request, HostLock* lock,
                                      const Progress& progress, Instruments* instruments) {
  return measure(candidate, &baseline, &evaluation, request, lock, progress, instruments);
}

Result<Measurement> measure_alone(const compress::CompressedModel& candidate,
                                  const MeasureRequest& request, HostLock* lock,
                                  const Progress& progress, Instruments* instruments) {
  return measure(candidate, nullptr, nullptr, request, lock, progress, instruments);
}

Result<std::vector<Tensor>> random_inputs(const graph::Graph& graph, std::int64_t batch,
                                          std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<Tensor> inputs;
  for (const graph::ValueInfo& input : graph.inputs) {
    graph::Shape shape = input.shape;
    if (!shape.empty()) shape[0] = batch;
    if (std::any_of(shape.begin(), shape.end(), [](std::int64_t dim) { return dim < 0; })) {
      return invalid_argument("the model's input '" + input.name + "' takes " +
                              graph::to_string(input.shape) +
                              "; expected data, which would say the sizes that it leaves open");
    }
    const auto count = graph::element_count(shape);
    constexpr std::int64_t kMostElements = 1LL << 32U;
    if (!count || *count > kMostElements) {
      return invalid_argument("the model's input '" + input.name + "' of " +
                              graph::to_string(shape) + " is too large to fill");
    }
    std::vector<float> values(static_cast<std::size_t>(*count));
    const bool real = input.dtype == DType::kF32 || input.dtype == DType::kF64 ||
                      input.dtype == DType::kF16 || input.dtype == DType::kBF16;
    for (float& value : values) {
      value = real ? normal(random) : static_cast<float>(random() & 1U);
    }
    Tensor tensor(input.dtype, shape);
    for (std::size_t i = 0; i < values.size(); ++i) {
      std::byte* to = tensor.mutable_raw() + i * graph::element_size(input.dtype);
      const auto put = [&](auto value) { std::memcpy(to, &value, sizeof value); };
      switch (input.dtype) {
        case DType::kF32: put(values[i]); break;
        case DType::kF64: put(static_cast<double>(values[i])); break;
        case DType::kF16: put(graph::f32_to_f16(values[i])); break;
        case DType::kBF16: put(graph::f32_to_bf16(values[i])); break;
        default: *to = static_cast<std::byte>(values[i]);  // 0 or 1 in the lowest byte
      }
    }
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

}  // namespace kerf::measure
