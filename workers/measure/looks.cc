#include "workers/measure/looks.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "core/plan.h"
#include "workers/compress/compress.h"
#include "workers/measure/accuracy.h"
#include "workers/measure/baseline_points.h"
#include "workers/measure/batch_runner.h"
#include "workers/measure/intervals.h"
#include "workers/measure/latency.h"

namespace kerf::measure {

using graph::Tensor;
using std::chrono::duration;
using std::chrono::steady_clock;

namespace {

constexpr double kRoundSeconds = 0.1;   // of one turn with the machine alone
constexpr double kSecondsEach = 0.025;  // of profiled runs of one plan
constexpr int kFewestRuns = 8;
constexpr std::size_t kFewestLooks = 8; // whatever the time
constexpr int kMostRuns = 400;
constexpr double kQuantile = 0.25;      // what disturbs a run only makes it longer

/// A plan's executor and the times of its steps so far.
struct Timed {
  std::size_t index = 0;  ///< In the request.
  Compiled compiled;
  CostLook look;
  std::vector<std::vector<double>> times;  ///< By step.
  double spent_us = 0;
};

/// The model's layer that a step belongs to; a factorized one runs as "name.1", "name.2".
std::string layer_of(const compress::PreparedModel& model, const engine::StepInfo& step) {
  if (!step.is_layer) return "";
  const auto known = [&](const std::string& name) {
    return std::any_of(model.info.layers.begin(), model.info.layers.end(),
                       [&](const LayerInfo& layer) { return layer.name == name; });
  };
  if (known(step.name)) return step.name;
  const auto dot = step.name.rfind('.');
  const std::string whole = dot == std::string::npos ? "" : step.name.substr(0, dot);
  return known(whole) ? whole : "";
}

class Looker {
 public:
  Looker(const compress::PreparedModel& model, compress::Calibration* calibration,
         const std::vector<Tensor>& samples, const LookRequest& request,
         const LookSettings& settings, HostLock* lock, const Progress& progress)
      : model_(model),
        calibration_(calibration),
        samples_(samples),
        request_(request),
        settings_(settings),
        lock_(lock),
        progress_(progress),
        wait_(settings.wait),
        turn_(lock, with_report()) {}

  Result<LookResult> run() {
    out_.damage.resize(request_.damage.size());
    out_.cost.resize(request_.cost.size());
    // What is timed needs the least of the time and says the most.
    if (!request_.cost.empty()) KERF_TRY(costs());
    if (!request_.damage.empty()) KERF_TRY(damages());
    out_.seconds = spent();
    return std::move(out_);
  }

 private:
  WaitLimits with_report() {
    if (!wait_.cancelled) wait_.cancelled = settings_.cancelled;
    const auto tell = wait_.waiting;
    wait_.waiting = [this, tell](double seconds) {
      report("wait_lock");
      if (tell) tell(seconds);
    };
    return wait_;
  }

  void report(const char* phase) const {
    const auto all = static_cast<double>(request_.damage.size() + request_.cost.size());
    if (progress_) progress_(phase, static_cast<double>(done_) / std::max(1.0, all));
  }

  [[nodiscard]] double spent() const {
    return duration<double>(steady_clock::now() - start_).count() -
           (turn_.waited_ms() + waited_ms_) / 1000;
  }

  [[nodiscard]] bool out_of_time() const {
    return request_.seconds > 0 && done_ >= kFewestLooks && spent() >= request_.seconds;
  }

  Result<void> between() {
    if (settings_.cancelled && settings_.cancelled()) {
      return Error{ErrorCode::kCancelled, "looks: cancelled"};
    }
    return turn_.next();
  }

  /// The compressed model; the plan's failure is the look's, the lock's is ours.
  template <class Look>
  Result<std::optional<compress::CompressedModel>> compressed(const Json& document,
                                                              LookResult::One<Look>& one) {
    std::optional<compress::CompressedModel> none;
    auto plan = CompressionPlan::parse(document);
    if (!plan.has_value()) {
      one.error = plan.error().message;
      return none;
    }
    std::optional<Error> lost;
    const auto watch = [&](const std::string&, double) {
      report("look");
      if (const auto again = between(); !again.has_value()) lost = again.error();
      return !lost;
    };
    auto made = compress::compress(model_, *plan, calibration_, watch);
    if (lost) return *lost;
    if (!made.has_value()) {
      one.error = made.error().message;
      return none;
    }
    return std::optional(std::move(*made));
  }

  // Damage.

  Result<void> damages() {
    report("look");
    KERF_TRY(between());
    const auto go_on = [this] { return between(); };
    KERF_ASSIGN(const BaselinePoints baseline,
                BaselinePoints::make(model_.graph, samples_, settings_.threads, go_on));
    for (std::size_t i = 0; i < request_.damage.size(); ++i, ++done_) {
      if (out_of_time()) return {};
      report("look");
      KERF_TRY(between());
      LookResult::One<DamageLook>& one = out_.damage[i];
      KERF_ASSIGN(const auto made, compressed(request_.damage[i], one));
      if (!made) continue;
      auto rows = baseline.run(made->graph, go_on);
      if (!rows.has_value()) {
        if (is_ours(rows.error())) return rows.error();
        one.error = rows.error().message;
        continue;
      }
      if (auto seen = compare(baseline.output(), *rows, *made); seen.has_value()) {
        one.look = *seen;
      } else {
        one.error = seen.error().message;
      }
    }
    return {};
  }

  static bool is_ours(const Error& error) {
    return error.code == ErrorCode::kCancelled || error.code == ErrorCode::kDeadlineExceeded;
  }

  Result<DamageLook> compare(const Tensor& reference, const Tensor& rows,
                             const compress::CompressedModel& made) const {
    QualityMeter meter(output_kind(model_.graph));
    data::BoundData unlabelled;
    unlabelled.samples = reference.rank() == 0 ? 1 : reference.dim(0);
    KERF_TRY(meter.add(rows, &reference, unlabelled));
    Measurement measured;
    meter.report(measured);
    DamageLook look;
    look.storage_bytes = made.storage_bytes;
    look.macs = made.macs;
    const auto metric = [&](const char* name) {
      const auto found = measured.metrics.find(name);
      return found == measured.metrics.end() ? DamageLook::kUnknown : found->second;
    };
    look.kl = metric("kl");
    look.noise = std::pow(10.0, -metric("sqnr_db") / 10);
    look.flips = 1 - metric("agreement");
    return look;
  }

  // Cost.

  Result<void> costs() {
    report("look");
    KERF_TRY(between());
    std::optional<engine::Cut> cut;
    if (request_.timed && (settings_.batch > 1 || settings_.threads > 1)) {
      KERF_ASSIGN(const Compiled tried,
                  Compiled::make(model_.graph, samples_,
                                 {.batch = settings_.batch, .threads = settings_.threads, .tune = true}));
      cut = tried.executor().cut();
      cut->teams.clear();  // of other steps
    }
    std::vector<Timed> all;
    for (std::size_t i = 0; i < request_.cost.size(); ++i, ++done_) {
      if (out_of_time()) break;
      report("look");
      KERF_TRY(between());
      LookResult::One<CostLook>& one = out_.cost[i];
      KERF_ASSIGN(const auto made, compressed(request_.cost[i], one));
      if (!made) continue;
      auto compiled = Compiled::make(made->graph, samples_,
                                     {.batch = settings_.batch, .threads = settings_.threads, .cut = cut});
      if (!compiled.has_value()) {
        one.error = compiled.error().message;
        continue;
      }
      std::vector<std::int64_t> first(static_cast<std::size_t>(compiled->batch()));
      for (std::size_t n = 0; n < first.size(); ++n) {
        first[n] = static_cast<std::int64_t>(n) % samples_.front().dim(0);
      }
      KERF_TRY(compiled->load(samples_, first));
      Timed timed{i, std::move(*compiled), {}, {}, 0};
      timed.look.storage_bytes = made->storage_bytes;
      timed.look.macs = made->macs;
      timed.look.weight_bytes = timed.compiled.executor().weight_bytes();
      timed.times.resize(timed.compiled.executor().steps().size());
      all.push_back(std::move(timed));
    }
    turn_.release();
    if (request_.timed) KERF_TRY(time_rounds(all));
    for (Timed& timed : all) {
      sum_up(timed);
      out_.cost[timed.index].look = std::move(timed.look);
    }
    return {};
  }

  Result<void> time_rounds(std::vector<Timed>& all) {
    const auto wants_more = [](const Timed& timed) {
      const std::size_t runs = timed.times.empty() ? kMostRuns : timed.times.front().size();
      if (runs >= static_cast<std::size_t>(kMostRuns)) return false;
      return runs < static_cast<std::size_t>(kFewestRuns) || timed.spent_us < kSecondsEach * 1e6;
    };
    bool more = !all.empty();
    while (more) {
      HostLock::Turn turn;
      if (lock_ != nullptr) {
        report("wait_lock");
        KERF_ASSIGN(turn, lock_->exclusive(wait_));
        waited_ms_ += turn.waited_ms();
      }
      report("look_latency");
      const PinnedThread pin(settings_.threads);
      more = false;
      for (Timed& timed : all) {
        if (settings_.cancelled && settings_.cancelled()) {
          return Error{ErrorCode::kCancelled, "looks: cancelled"};
        }
        if (!wants_more(timed)) continue;
        time_some(timed, kRoundSeconds / static_cast<double>(all.size()));
        more = more || wants_more(timed);
      }
    }
    return {};
  }

  // Runs of one plan after one that brings its data into the caches.
  static void time_some(Timed& timed, double seconds) {
    constexpr int kFewestInARow = 2;
    timed.compiled.run();
    double spent_us = 0;
    for (int i = 0; i < kFewestInARow || spent_us < seconds * 1e6; ++i) {
      const std::vector<double> us = timed.compiled.run_profiled();
      for (std::size_t step = 0; step < timed.times.size(); ++step) {
        timed.times[step].push_back(us[step]);
        spent_us += us[step];
      }
    }
    timed.spent_us += spent_us;
  }

  void sum_up(Timed& timed) const {
    const auto& steps = timed.compiled.executor().steps();
    double before = 0;
    for (std::size_t step = 0; step < steps.size(); ++step) {
      std::vector<double>& times = timed.times[step];
      std::sort(times.begin(), times.end());
      const double us = times.empty() ? 0 : quantile(times, kQuantile);
      const std::string layer = layer_of(model_, steps[step]);
      if (layer.empty()) {
        before += us;
        continue;
      }
      CostLook::Layer& entry = timed.look.layers[layer];
      entry.us += us;
      entry.before_us += std::exchange(before, 0);
      entry.weight_bytes += steps[step].weight_bytes;
    }
    timed.look.rest_us = before;
  }

  const compress::PreparedModel& model_;
  compress::Calibration* calibration_;
  const std::vector<Tensor>& samples_;
  const LookRequest& request_;
  const LookSettings& settings_;
  HostLock* lock_;
  const Progress& progress_;
  WaitLimits wait_;
  SharedTurn turn_;
  double waited_ms_ = 0;  // for the machine alone
  std::size_t done_ = 0;
  steady_clock::time_point start_ = steady_clock::now();
  LookResult out_;
};

}  // namespace

Result<LookResult> take_looks(const compress::PreparedModel& model,
                              compress::Calibration* calibration,
                              const std::vector<Tensor>& samples, const LookRequest& request,
                              const LookSettings& settings, HostLock* lock,
                              const Progress& progress) {
  if (samples.empty() || samples.front().rank() == 0 || samples.front().dim(0) < 1) {
    return invalid_argument("looks: no samples; expected at least one");
  }
  return Looker(model, calibration, samples, request, settings, lock, progress).run();
}

}  // namespace kerf::measure
