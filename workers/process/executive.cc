#include "workers/process/executive.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "core/plan.h"
#include "core/study.h"
#include "workers/compress/calibration.h"
#include "workers/compress/compress.h"
#include "workers/compress/export.h"
#include "workers/compress/model.h"
#include "workers/data/bind.h"
#include "workers/data/dataset.h"
#include "workers/data/split.h"
#include "workers/measure/channel_steps.h"
#include "workers/measure/hardware.h"
#include "workers/measure/inspect.h"
#include "workers/measure/looks.h"
#include "workers/measure/measure.h"
#include "workers/onnx/reader.h"
#include "workers/onnx/writer.h"

namespace kerf::process {
namespace {

// A single file is dealt into its three parts by this seed in every study, so that studies of one
// file can be compared.
constexpr std::uint64_t kSplitSeed = 1;

constexpr double kTellEveryMs = 250;

constexpr std::array kParts = {"calibration", "evaluation", "test"};

class Stopwatch {
 public:
  [[nodiscard]] double ms() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
        .count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

struct Executive::Impl {
  explicit Impl(Options its_options)
      : options(std::move(its_options)), instruments(options.threads) {
    auto opened = options.lock_dir.empty() ? measure::HostLock::open()
                                           : measure::HostLock::open(options.lock_dir);
    if (opened.has_value()) {
      lock.emplace(std::move(*opened));
    } else {
      lock_failure = opened.error();
    }
  }

  // One model and its data at a time: a runner serves one study for long.
  struct Loaded {
    std::string model;      ///< Its id.
    std::string data;       ///< Ids and preprocessing, as text.
    compress::PreparedModel prepared;
    std::map<std::string, data::BoundData> parts;
    std::optional<compress::Calibration> calibration;
    std::optional<measure::Baseline> baseline;       ///< On the evaluation part.
    std::optional<measure::Baseline> test_baseline;  ///< On the test part.
  };

  Result<std::string> path_of(const Json& id, const Json& paths) const {
    if (!id.is_string() || !paths.contains(id.get<std::string>())) {
      return invalid_argument("work without a path of file " + canonical_text(id).substr(0, 80));
    }
    return paths[id.get<std::string>()].get<std::string>();
  }

  Result<void> load_model(const Work& work, const Json& paths) {
    const Json id = work.payload.value("model", Json());
    if (loaded && id == Json(loaded->model)) return {};
    loaded.reset();
    tell("read", 0);
    KERF_ASSIGN(const std::string path, path_of(id, paths));
    auto graph = onnx::read_model(path, {.allow_external_data = false});
    if (!graph.has_value()) return named("model", path, graph.error());
    auto prepared = compress::prepare(std::move(*graph));
    if (!prepared.has_value()) return named("model", path, prepared.error());
    loaded.emplace();
    loaded->model = id.get<std::string>();
    loaded->prepared = std::move(*prepared);
    return {};
  }

  // A file lies in the store under a name that says nothing to its owner.
  static Error named(const std::string& what, const std::string& path, Error error) {
    for (std::size_t at; (at = error.message.find(path)) != std::string::npos;) {
      error.message.replace(at, path.size(), "study." + what);
    }
    if (error.message.find("study." + what) == std::string::npos) {
      return with_context("study." + what, std::move(error));
    }
    return error;
  }

  Result<void> load_data(const Work& work, const Json& paths) {
    const Json files = work.payload.value("data", Json::object());
    const Json wanted_preprocess = work.payload.value("preprocess", Json());
    const std::string key = canonical_text({files, wanted_preprocess});
    if (loaded->data == key) return {};
    loaded->parts.clear();
    loaded->calibration.reset();
    loaded->baseline.reset();
    loaded->test_baseline.reset();
    tell("data", 0);
    std::optional<Preprocess> preprocess;
    if (wanted_preprocess.is_object()) {
      KERF_ASSIGN(preprocess, Preprocess::parse(wanted_preprocess));
    }
    const auto bind = [&](const data::DataSet& set, const std::string& part,
                          const std::string& name, const std::string& path) -> Result<void> {
      auto bound = data::bind(set, loaded->prepared.graph, preprocess, "study." + name);
      if (!bound.has_value()) return named(name, path, bound.error());
      loaded->parts[part] = std::move(*bound);
      return {};
    };
    if (files.contains("single")) {
      KERF_ASSIGN(const std::string path, path_of(files["single"], paths));
      auto set = data::load_dataset(path);
      if (!set.has_value()) return named("data", path, set.error());
      auto parts = data::split(*set, kSplitSeed);
      if (!parts.has_value()) return named("data", path, parts.error());
      KERF_TRY(bind(parts->calibration, "calibration", "data", path));
      KERF_TRY(bind(parts->evaluation, "evaluation", "data", path));
      KERF_TRY(bind(parts->test, "test", "data", path));
    } else {
      for (const char* part : kParts) {
        if (!files.contains(part)) continue;
        KERF_ASSIGN(const std::string path, path_of(files[part], paths));
        const std::string name = std::string("data.") + part;
        auto set = data::load_dataset(path);
        if (!set.has_value()) return named(name, path, set.error());
        KERF_TRY(bind(*set, part, name, path));
      }
    }
    if (const auto set = loaded->parts.find("calibration"); set != loaded->parts.end()) {
      loaded->calibration.emplace(loaded->prepared, set->second.inputs, options.threads);
      loaded->calibration->set_labels({set->second.classes, set->second.targets});
    }
    loaded->data = key;
    return {};
  }

  // Heavy work that isn't timed runs beside other such work, never beside somebody's timing.
  Result<measure::HostLock::Turn> shared_turn() {
    if (!lock) return *lock_failure;
    measure::WaitLimits limits;
    limits.waiting = [this](double) { tell("wait_lock", 0); };
    return lock->shared(limits);
  }

  Result<compress::CompressedModel> compressed(const Work& work) {
    KERF_ASSIGN(const CompressionPlan plan,
                CompressionPlan::parse(work.payload.value("plan", Json::object())));
    tell("compress", 0.1);
    if (!lock) return *lock_failure;
    measure::WaitLimits limits;
    limits.waiting = [this](double) { tell("wait_lock", 0); };
    measure::SharedTurn turn(&*lock, limits);
    KERF_TRY(turn.next());
    // Long recoveries say that they live, and let those in who time something.
    const Stopwatch since;
    double told = 0;
    std::optional<Error> lost;
    const auto watch = [&](const std::string& phase, double share) {
      if (since.ms() - told > kTellEveryMs) {
        tell(phase, share);
        told = since.ms();
      }
      const auto again = turn.next();
      if (!again.has_value()) lost = again.error();
      return !lost;
    };
    auto made = compress::compress(loaded->prepared, plan,
                                   loaded->calibration ? &*loaded->calibration : nullptr, watch);
    if (lost) return *lost;
    return made;
  }

  Result<Json> inspect(const Work& work, const Json& paths) {
    KERF_TRY(load_model(work, paths));
    KERF_TRY(load_data(work, paths));
    tell("compile", 0.8);
    ModelInfo info;
    {
      KERF_ASSIGN(const measure::HostLock::Turn turn, shared_turn());
      KERF_ASSIGN(info, measure::inspect(loaded->prepared));
    }
    if (work.payload.value("scan_channels", false) && lock) {
      KERF_ASSIGN(const ChannelCosts costs, channel_costs(work));
      info.set_channel_costs(costs);
    }
    return info.to_json();
  }

  // Those that the scheduler knows of this hardware, else measured.
  Result<ChannelCosts> channel_costs(const Work& work) {
    const Json settings = work.payload.value("measure", Json::object());
    measure::ChannelScan scan;
    scan.threads = settings.value("threads", 1);
    scan.batch = settings.value("batch", std::int64_t{1});
    scan.wait.waiting = [this](double) { tell("wait_lock", 0); };
    ChannelCosts out;
    out.hardware = measure::hardware_fingerprint(scan.threads).id();
    if (const Json known = work.payload.value("channel_costs", Json()); known.is_object()) {
      KERF_ASSIGN(ChannelCosts costs, ChannelCosts::parse(known));
      if (costs.hardware == out.hardware) return costs;
    }
    KERF_ASSIGN(out.groups, measure::scan_channels(loaded->prepared, scan, &*lock, tell));
    return out;
  }

  Result<Json> measured(const Work& work, const Json& paths) {
    const Stopwatch loading;
    KERF_TRY(load_model(work, paths));
    KERF_TRY(load_data(work, paths));
    const double load_ms = loading.ms();
    const bool verify = work.key.kind == WorkKind::kVerify;
    const std::string part = verify ? "test" : "evaluation";
    const auto data = loaded->parts.find(part);
    if (data == loaded->parts.end()) return invalid_argument("study.data: no \"" + part + "\"");
    KERF_ASSIGN(const compress::CompressedModel candidate, compressed(work));

    measure::MeasureRequest request;
    const Json settings = work.payload.value("measure", Json::object());
    request.threads = settings.value("threads", 1);
    request.batch = settings.value("batch", std::int64_t{1});
    request.metrics = work.payload.value("metrics", std::set<std::string>{});
    request.seed = work.payload.value("seed", std::uint64_t{1});
    if (const Json racing = work.payload.value("racing", Json()); racing.is_object()) {
      KERF_ASSIGN(request.racing, RacingTerms::parse(racing));
    }
    request.wait.waiting = [this](double) { tell("wait_lock", 0); };
    std::optional<measure::Baseline>& baseline = verify ? loaded->test_baseline : loaded->baseline;
    if (!baseline) baseline.emplace(loaded->prepared.graph);
    KERF_ASSIGN(Measurement measurement,
                measure::measure_candidate(candidate, *baseline, data->second, request,
                                           lock ? &*lock : nullptr, tell, &instruments));
    measurement.phase_ms["load"] = load_ms;
    return measurement.to_json();
  }

  // On the calibration part, which no candidate is judged by; without one on the evaluation part.
  Result<Json> looked(const Work& work, const Json& paths) {
    KERF_TRY(load_model(work, paths));
    KERF_TRY(load_data(work, paths));
    KERF_ASSIGN(const LookRequest request, LookRequest::parse(work.payload.value("looks", Json())));
    const auto evaluation = loaded->parts.find("evaluation");
    std::vector<graph::Tensor> samples;
    if (loaded->calibration) {
      samples = loaded->calibration->some_samples(request.samples);
    } else if (evaluation != loaded->parts.end()) {
      samples = evaluation->second.slice(0, std::min(request.samples, evaluation->second.samples)).inputs;
    }
    const Json settings = work.payload.value("measure", Json::object());
    measure::LookSettings how;
    how.threads = settings.value("threads", 1);
    how.batch = settings.value("batch", std::int64_t{1});
    how.wait.waiting = [this](double) { tell("wait_lock", 0); };
    if (!lock) return *lock_failure;
    KERF_ASSIGN(const LookResult seen,
                measure::take_looks(loaded->prepared,
                                    loaded->calibration ? &*loaded->calibration : nullptr, samples,
                                    request, how, &*lock, tell));
    return seen.to_json();
  }

  Result<Json> exported(const Work& work, const Json& paths) {
    KERF_TRY(load_model(work, paths));
    KERF_TRY(load_data(work, paths));
    KERF_ASSIGN(const compress::CompressedModel model, compressed(work));
    tell("write", 0.8);
    auto metadata = work.payload.value("metadata", std::map<std::string, std::string>{});
    KERF_ASSIGN(const CompressionPlan plan, CompressionPlan::parse(work.payload.value("plan", Json::object())));
    metadata.merge(compress::export_metadata(plan, ""));
    KERF_ASSIGN(const graph::Graph graph, compress::to_standard_onnx(model, metadata));
    KERF_TRY(onnx::write_model(graph, options.scratch + "/export.onnx"));
    return Json::object();
  }

  Options options;
  measure::Instruments instruments;
  std::optional<measure::HostLock> lock;
  std::optional<Error> lock_failure;
  std::optional<Loaded> loaded;
  TellProgress tell;
};

Executive::Executive(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Executive::~Executive() = default;

Result<Json> Executive::execute(const Work& work, const Json& paths, const TellProgress& progress) {
  impl_->tell = progress;
  switch (work.key.kind) {
    case WorkKind::kInspect:
      return impl_->inspect(work, paths);
    case WorkKind::kTrial:
    case WorkKind::kVerify:
      return impl_->measured(work, paths);
    case WorkKind::kExport:
      return impl_->exported(work, paths);
    case WorkKind::kProfile:
      return impl_->looked(work, paths);
  }
  return invalid_argument("unknown kind of work");
}

bool is_temporary(ErrorCode code) {
  switch (code) {
    case ErrorCode::kResourceExhausted:
    case ErrorCode::kUnavailable:
    case ErrorCode::kDeadlineExceeded:
    case ErrorCode::kAborted:
      return true;
    default:
      return false;
  }
}

}  // namespace kerf::process
