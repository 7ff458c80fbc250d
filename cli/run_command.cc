#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include "cli/commands.h"
#include "cli/front_svg.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/study_host.h"
#include "search/sampler.h"

namespace kerf::cli {
namespace {

namespace fs = std::filesystem;

struct RunOptions {
  std::string study;
  std::string data_dir;
  int workers = 0;
  std::int64_t trials = 0;
  std::string sampler;
  std::int64_t seed = -1;
  bool json = false;
  bool quiet = false;
};

Result<StudyDefinition> read_study(const RunOptions& options) {
  KERF_ASSIGN(Json document, read_json_file(options.study));
  auto parsed = StudyDefinition::parse(document);
  if (!parsed.has_value()) return with_context(options.study, parsed.error());
  StudyDefinition study = std::move(*parsed);
  if (options.trials > 0) study.budget.trials = options.trials;
  if (!options.sampler.empty()) study.search.sampler = options.sampler;
  if (options.seed >= 0) study.search.seed = options.seed;
  const auto& names = search::sampler_names();
  if (std::find(names.begin(), names.end(), study.search.sampler) == names.end()) {
    std::string list;
    for (const std::string& name : names) list += " " + name;
    return invalid_argument("study.search.sampler: \"" + study.search.sampler + "\"; expected one of" + list);
  }
  return study;
}

/// The study to work on: the one of this identity that the directory has, with this budget, or a
/// new one.
Result<std::string> begin(StudyHost& host, const StudyDefinition& study) {
  KERF_ASSIGN(const auto known, host.scheduler().call([&](auto&, storage::StudyStore& store) {
    return store.find_by_identity(study.identity());
  }));
  const bool goes_on = known && known->state != storage::StudyState::kCancelled &&
                       known->state != storage::StudyState::kFailed;
  if (!goes_on) {
    KERF_ASSIGN(const storage::StudyRecord made, host.scheduler().submit(study.to_json(), ""));
    return made.id;
  }
  KERF_TRY(host.scheduler().extend(known->id, study.budget));
  if (known->state == storage::StudyState::kPaused) KERF_TRY(host.scheduler().resume(known->id));
  return known->id;
}

/// Waits for the study's end, or for a signal.
Result<storage::StudyRecord> wait_for_end(StudyHost& host, const std::string& id) {
  while (true) {
    auto record = host.scheduler().wait(id, std::chrono::milliseconds(200));
    if (record.has_value() || record.error().code != ErrorCode::kDeadlineExceeded) return record;
    if (stop_wanted()) {
      return Error{ErrorCode::kCancelled,
                   "stopped; finished trials are kept: the same command goes on from there"};
    }
  }
}

ProgressState progress_state(const scheduler::StudyProgress& progress) {
  ProgressState state;
  state.done = progress.finished;
  state.target = progress.budget_trials;
  state.failed = progress.failed;
  state.front_size = progress.front_size;
  state.hypervolume = progress.hypervolume;
  state.phase = std::string(scheduler::to_string(progress.phase));
  return state;
}

Result<void> run_study(const RunOptions& options) {
  const SystemClock clock;
  KERF_ASSIGN(const StudyDefinition given, read_study(options));
  const fs::path folder = fs::absolute(options.study).parent_path();
  HostOptions how;
  how.data_dir = options.data_dir.empty() ? (folder / ".kerf").string() : options.data_dir;
  how.threads = given.measure.threads;
  how.workers = options.workers > 0
                    ? options.workers
                    : std::max(1, static_cast<int>(scheduler::allowed_cpus().size()) / how.threads);
  KERF_ASSIGN(const std::unique_ptr<StudyHost> host, StudyHost::open(how, clock));
  KERF_ASSIGN(const StudyDefinition study, store_files(given, folder.string(), host->files()));

  ProgressLine line(clock, !options.quiet);
  std::string id;
  host->scheduler().on_change([&](const scheduler::StudyProgress& progress) {
    if (progress.study == id) line.show(progress_state(progress));
  });
  watch_for_stop();
  KERF_ASSIGN(id, begin(*host, study));
  KERF_TRY(host->start());
  const auto record = wait_for_end(*host, id);
  host->stop();
  line.finish();
  KERF_TRY(record);
  if (record->state == storage::StudyState::kFailed || record->state == storage::StudyState::kCancelled) {
    KERF_ASSIGN(const auto why, host->scheduler().call([&](auto&, storage::StudyStore& store) {
      return store.document(id, "failure");
    }));
    const ErrorCode code = why && why->contains("code")
                               ? error_code_from_string((*why)["code"].get<std::string>())
                               : ErrorCode::kInternal;
    return Error{code, record->reason};
  }

  KERF_ASSIGN(Json report, host->scheduler().call([&](auto&, storage::StudyStore& store) {
    return study_report(store, id);
  }));
  const fs::path picture = fs::absolute(fs::path(how.data_dir) / (id + ".svg"));
  std::ofstream(picture) << front_svg(report, report["objectives"], study.name);
  report["picture"] = picture.string();
  if (options.json) {
    print_json(report);
    return {};
  }
  std::fputs(front_table(report).c_str(), stdout);
  const auto stopped = std::count_if(report["trials"].begin(), report["trials"].end(),
                                     [](const Json& trial) { return trial["state"] == "pruned"; });
  if (stopped > 0) std::printf("%td trials were stopped early\n", stopped);
  const std::int64_t charged = report["profile"].is_object() ? report["profile"].value("charged_trials", std::int64_t{0}) : 0;
  const std::string looks = charged > 0 ? " and cheap looks for the price of " + std::to_string(charged) : "";
  std::printf("\n%zu trials%s, %zu on the front, hypervolume %.4g (%s)\nstudy: %s\npicture: file://%s\n",
              report["trials"].size(), looks.c_str(), report["front"].size(), report["hypervolume"].get<double>(),
              record->reason.c_str(), id.c_str(), picture.c_str());
  return {};
}

}  // namespace

void add_run_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "run", "a whole study without a server: search, measure, print the front; goes on where it was");
  const auto options = std::make_shared<RunOptions>();
  command->add_option("STUDY", options->study, "the study's JSON")->required();
  command->add_option("--data-dir", options->data_dir, "where results are kept (default: .kerf beside the study)");
  command->add_option("--workers", options->workers, "local workers (default: one per core)")
      ->check(CLI::Range(1, 1024));
  command->add_option("--trials", options->trials, "instead of the study's budget.trials")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1000000}));
  command->add_option("--sampler", options->sampler, "instead of the study's search.sampler");
  command->add_option("--seed", options->seed, "instead of the study's search.seed")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 31U));
  command->add_flag("--json", options->json, "one JSON document on stdout");
  command->add_flag("--quiet", options->quiet, "no progress on stderr");
  command->callback([=] { *run = [=] { return run_study(*options); }; });
}

}  // namespace kerf::cli
