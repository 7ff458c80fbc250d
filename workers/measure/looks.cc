#include "workers/measure/looks.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "core/plan.h"
#include "workers/compress/compress.h"
#include "workers/compress/layer.h"
#include "workers/compress/plan_resolution.h"
#include "workers/measure/accuracy.h"
#include "workers/measure/baseline_points.h"
#include "workers/measure/batch_runner.h"
#include "workers/measure/label_look.h"
#include "workers/measure/look_length.h"
#include "workers/measure/step_times.h"

namespace kerf::measure {

using graph::Tensor;
using std::chrono::duration;
using std::chrono::steady_clock;

namespace {

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
  /// Measures one of several looks.
  class Stretch {
   public:
    Stretch(const Looker& looker, LookLength& length) : looker_(looker), length_(length), start_(looker.spent()) {}
    ~Stretch() { length_.add(looker_.spent() - start_); }
    Stretch(const Stretch&) = delete;
    Stretch& operator=(const Stretch&) = delete;

   private:
    const Looker& looker_;
    LookLength& length_;
    double start_;
  };

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
    out_.labels.resize(request_.labels.size());
    if (!request_.labels.empty() && calibration_ != nullptr) {
      labelled_ = labelled_samples(model_.graph, *calibration_, request_.label_samples);
    }
    KERF_TRY(see_activations());
    // What is timed needs the least of the time and says the most.
    if (!request_.cost.empty()) KERF_TRY(costs());
    if (!request_.damage.empty()) KERF_TRY(damages());
    if (!request_.labels.empty()) KERF_TRY(labels());
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
    const auto all = static_cast<double>(request_.damage.size() + request_.cost.size() + request_.labels.size());
    if (progress_) progress_(phase, static_cast<double>(done_) / std::max(1.0, all));
  }

  [[nodiscard]] double spent() const {
    return duration<double>(steady_clock::now() - start_).count() -
           (turn_.waited_ms() + waited_ms_) / 1000 - out_.statistics_seconds;
  }

  /// Whether a look would end in time that takes as long as is expected.
  [[nodiscard]] bool in_time(const LookLength& length) const {
    return request_.seconds <= 0 || spent() + length.expected() + times_.seconds_left() < request_.seconds;
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
                                                              LookResult::One<Look>& one,
                                                              compress::Sizing sizing = compress::Sizing::kPackedFile) {
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
    auto made = compress::compress(model_, *plan, calibration_, watch, sizing);
    if (lost) return *lost;
    if (!made.has_value()) {
      one.error = made.error().message;
      return none;
    }
    return std::optional(std::move(*made));
  }

  /// What all plans that round activations need, in one run of the f32 model.
  Result<void> see_activations() {
    if (calibration_ == nullptr) return {};
    std::set<std::string> values;
    const auto add = [&](const std::vector<Json>& plans) {
      for (const Json& document : plans) {
        const auto plan = CompressionPlan::parse(document);
        const auto resolved = plan.has_value() ? compress::resolve_plan(model_, *plan) : plan.error();
        if (!resolved.has_value() || !resolved->needs_ranges() || !resolved->variant().empty()) continue;
        for (const auto& [name, layer] : resolved->layers) {
          const graph::Node* node = compress::find_node(model_.graph, name);
          const bool wanted = layer.runs_as_integers() && layer.activation_range != "dynamic";
          if (wanted && node != nullptr) values.insert(node->inputs[0]);
        }
      }
    };
    add(request_.damage);
    add(request_.cost);
    if (labelled_) {
      add({request_.beside});
      add(request_.labels);
    }
    if (values.empty()) return {};
    report("look");
    KERF_TRY(between());
    const auto start = steady_clock::now();
    // What can't be seen is the error of the looks that need it.
    (void)calibration_->statistics(model_.graph, "", {values.begin(), values.end()}, false);
    out_.statistics_seconds = duration<double>(steady_clock::now() - start).count();
    return {};
  }

  // Damage.

  Result<void> damages() {
    if (!in_time(LookLength())) return {};
    report("look");
    KERF_TRY(between());
    const auto go_on = [this] { return between(); };
    KERF_ASSIGN(BaselinePoints baseline,
                BaselinePoints::make(model_.graph, samples_, settings_.threads, go_on));
    LookLength length;
    for (std::size_t i = 0; i < request_.damage.size(); ++i, ++done_) {
      if (!in_time(length)) return {};
      const Stretch stretch(*this, length);
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
    look.scores = score_noise(reference, rows, output_kind(model_.graph));
    look.noise = std::pow(10.0, -metric("sqnr_db") / 10);
    look.flips = 1 - metric("agreement");
    return look;
  }

  // Labels.

  Result<void> labels() {
    const auto nothing_to_say = [this]() -> Result<void> {
      for (auto& one : out_.labels) one.look = LabelLook{};
      return {};
    };
    if (!labelled_) return nothing_to_say();
    if (!in_time({})) return {};
    report("look");
    KERF_TRY(between());
    const auto go_on = [this] { return between(); };
    LookResult::One<LabelLook> first;
    KERF_ASSIGN(const auto beside, compressed(request_.beside, first, compress::Sizing::kNone));
    if (!beside) {
      for (auto& one : out_.labels) one.error = first.error;
      return {};
    }
    KERF_ASSIGN(BaselinePoints baseline,
                BaselinePoints::make(beside->graph, labelled_->inputs, settings_.threads, go_on));
    if (request_.if_overconfident &&
        !overconfident(baseline.output(), labelled_->classes, output_kind(model_.graph))) {
      return nothing_to_say();
    }
    LookLength length;
    for (std::size_t i = 0; i < request_.labels.size(); ++i, ++done_) {
      if (!in_time(length)) return {};
      const Stretch stretch(*this, length);
      report("look");
      KERF_TRY(between());
      LookResult::One<LabelLook>& one = out_.labels[i];
      KERF_ASSIGN(const auto made, compressed(request_.labels[i], one, compress::Sizing::kNone));
      if (!made) continue;
      auto rows = baseline.run(made->graph, go_on);
      if (!rows.has_value() && is_ours(rows.error())) return rows.error();
      const auto seen = rows.has_value() ? label_look(baseline.output(), *rows, labelled_->classes, output_kind(model_.graph))
                                         : Result<LabelLook>(rows.error());
      if (seen.has_value()) {
        one.look = *seen;
      } else {
        one.error = seen.error().message;
      }
    }
    return {};
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
    LookLength length;
    std::vector<std::optional<std::size_t>> timed(request_.cost.size());
    for (std::size_t i = 0; i < request_.cost.size(); ++i, ++done_) {
      if (!in_time(length)) break;
      const Stretch stretch(*this, length);
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
      timed[i] = times_.add(std::move(*compiled));
      CostLook look;
      look.storage_bytes = made->storage_bytes;
      look.macs = made->macs;
      look.weight_bytes = times_.executor(*timed[i]).weight_bytes();
      one.look = std::move(look);
    }
    turn_.release();
    if (request_.timed) {
      const StepTimes::Lock lock{lock_, wait_, [this](const char* phase) { report(phase); },
                                 [this](double ms) { waited_ms_ += ms; }};
      KERF_TRY(times_.time(settings_.threads, settings_.cancelled, lock));
    }
    for (std::size_t i = 0; i < timed.size(); ++i) {
      if (timed[i]) sum_up(*timed[i], *out_.cost[i].look);
    }
    times_ = StepTimes();
    return {};
  }

  void sum_up(std::size_t index, CostLook& look) const {
    const auto& steps = times_.executor(index).steps();
    const std::vector<double> us = times_.us(index);
    double before = 0;
    for (std::size_t step = 0; step < steps.size(); ++step) {
      const std::string layer = layer_of(model_, steps[step]);
      if (layer.empty()) {
        before += us[step];
        continue;
      }
      CostLook::Layer& entry = look.layers[layer];
      entry.us += us[step];
      entry.before_us += std::exchange(before, 0);
      entry.weight_bytes += steps[step].weight_bytes;
    }
    look.rest_us = before;
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
  StepTimes times_;
  std::optional<LabelledSamples> labelled_;
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
