#include "cli/export_optuna.h"

#include <cstdio>
#include <memory>
#include <set>
#include <utility>

#include "cli/commands.h"
#include "cli/data_dir.h"
#include "cli/http_client.h"
#include "cli/server_access.h"
#include "core/clock.h"
#include "core/study.h"
#include "scheduler/effective.h"
#include "search/observe.h"

namespace kerf::cli {
namespace {

struct OptunaExportOptions {
  std::string server;
  std::string data_dir;
  std::string study;
  std::string output;
};

/// "weight_bits=8 activation_bits=8" for the keys that a value sets.
std::string label_of(const Json& value) {
  std::string out;
  for (const auto& [key, one] : value.items()) {
    out += (out.empty() ? "" : " ") + key + "=" + (one.is_string() ? one.get<std::string>() : canonical_text(one));
  }
  return out.empty() ? "unchanged" : out;
}

std::vector<std::string> labels_of(const Json& values) {
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (const Json& value : values) {
    std::string label = label_of(value);
    if (!seen.insert(label).second) label += " (" + std::to_string(out.size()) + ")";
    seen.insert(label);
    out.push_back(std::move(label));
  }
  return out;
}

std::string bound_name(const std::string& metric, const char* relation, double bound) {
  return metric + relation + Json(bound).dump();
}

optuna::DatabaseTrial trial_of(const Json& trial, const StudyDefinition& study, const std::vector<std::string>& bounds,
                               const std::vector<std::pair<std::string, std::vector<std::string>>>& dimensions) {
  optuna::DatabaseTrial out;
  out.state = trial_state_from_string(trial.value("state", "")).value_or(TrialState::kFailed);
  out.started_at = trial.value("started_at", "");
  out.finished_at = trial.value("finished_at", "");
  const Json choices = trial.value("choices", Json::array());
  for (std::size_t d = 0; d < dimensions.size() && d < choices.size(); ++d) {
    const auto& [name, labels] = dimensions[d];
    const auto choice = choices[d].get<std::size_t>();
    if (choice < labels.size()) out.params[name] = labels[choice];
  }
  const Json metrics = trial.value("metrics", Json());
  const search::Outcome seen = search::observe(study, metrics);
  if (out.state == TrialState::kComplete) {
    if (seen.complete()) {
      out.values = seen.objectives;
    } else {
      out.state = TrialState::kFailed;
      std::string missing;
      for (const std::string& name : seen.missing) missing += (missing.empty() ? "" : ", ") + name;
      out.attributes["missing"] = missing;
    }
  }
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    if (std::isfinite(seen.constraints[i])) out.constraints[bounds[i]] = seen.constraints[i];
  }
  out.attributes["plan"] = trial.value("candidate", Json());
  for (const char* key : {"metrics", "hardware", "verification", "error", "reason"}) {
    if (const Json value = trial.value(key, Json()); !value.is_null()) out.attributes[key] = value;
  }
  return out;
}

Result<StudyPages> pages_from_server(const OptunaExportOptions& options) {
  KERF_ASSIGN(HttpClient client, connect_to_server(options.server));
  const std::string path = "/v1/studies/" + url_encoded(options.study);
  StudyPages pages{options.study, {}, {}, {}};
  KERF_ASSIGN(const Json study, client.get(path));
  pages.definition = study.at("definition");
  pages.space = study.value("space", Json());
  std::string cursor;
  do {
    KERF_ASSIGN(const Json page, client.get(path + "/trials?limit=1000" + (cursor.empty() ? "" : "&cursor=" + url_encoded(cursor))));
    for (const Json& trial : page.at("trials")) pages.trials.push_back(trial);
    cursor = page.contains("next_cursor") && page["next_cursor"].is_string() ? page["next_cursor"].get<std::string>() : "";
  } while (!cursor.empty());
  return pages;
}

Result<StudyPages> pages_from_data_dir(const OptunaExportOptions& options) {
  const SystemClock clock;
  KERF_ASSIGN(const auto store, open_data_dir(options.data_dir, clock));
  StudyPages pages{options.study, {}, {}, {}};
  KERF_ASSIGN(const storage::StudyRecord record, store->study(options.study));
  pages.definition = record.definition;
  KERF_ASSIGN(const std::optional<Json> space, store->document(options.study, "space"));
  if (space) pages.space = *space;
  constexpr std::int64_t kPage = 1000;
  while (true) {
    KERF_ASSIGN(const std::vector<Trial> page, store->trials(options.study, static_cast<std::int64_t>(pages.trials.size()), kPage));
    for (const Trial& trial : page) pages.trials.push_back(trial.to_json());
    if (static_cast<std::int64_t>(page.size()) < kPage) return pages;
  }
}

Result<void> export_to_optuna(const OptunaExportOptions& options) {
  KERF_ASSIGN(const StudyPages pages, options.data_dir.empty() ? pages_from_server(options) : pages_from_data_dir(options));
  KERF_ASSIGN(const OptunaPages out, to_optuna(pages));
  KERF_TRY(optuna::write_database(options.output, out.study, out.trials));
  std::fprintf(stderr, "%zu trials in %s: optuna-dashboard sqlite:///%s\n", out.trials.size(), options.output.c_str(),
               options.output.c_str());
  return {};
}

}  // namespace

Result<OptunaPages> to_optuna(const StudyPages& pages) {
  KERF_ASSIGN(StudyDefinition study, StudyDefinition::parse(pages.definition));
  // Without labels the default objectives are others.
  if (!pages.trials.empty()) study = scheduler::effective_study(std::move(study), pages.trials.front().value("metrics", Json()));
  OptunaPages out;
  out.study.name = study.name + " (" + pages.id + ")";
  out.study.attributes = {{"kerf_study", pages.id}, {"definition", pages.definition}};
  for (const Objective& objective : study.objectives) {
    out.study.directions.push_back(objective.direction);
    out.study.metrics.push_back(objective.metric);
  }
  std::vector<std::string> bounds;
  for (const Constraint& constraint : study.constraints) {
    if (constraint.max) bounds.push_back(bound_name(constraint.metric, " <= ", *constraint.max));
    if (constraint.min) bounds.push_back(bound_name(constraint.metric, " >= ", *constraint.min));
  }
  std::vector<std::pair<std::string, std::vector<std::string>>> dimensions;
  if (pages.space.is_array()) {
    for (const Json& dimension : pages.space) {
      dimensions.emplace_back(dimension.at("name").get<std::string>(), labels_of(dimension.at("values")));
      optuna::CategoricalDistribution choices;
      for (const std::string& label : dimensions.back().second) choices.choices.emplace_back(label);
      out.study.space.emplace_back(dimensions.back().first, std::move(choices));
    }
  }
  for (const Json& trial : pages.trials) out.trials.push_back(trial_of(trial, study, bounds, dimensions));
  return out;
}

void add_export_optuna_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand("export-optuna", "a study as an Optuna database, for Optuna's own dashboard");
  const auto options = std::make_shared<OptunaExportOptions>();
  command->add_option("ID", options->study, "the study's id")->required();
  command->add_option("-o,--output", options->output, "the SQLite file to write; it must not exist")->required();
  CLI::Option* server = command->add_option("--server", options->server, "http://HOST:PORT (default: the config file's)");
  command->add_option("--data-dir", options->data_dir, "read this data directory instead of asking a server")->excludes(server);
  command->footer("Needs a Python with Optuna 5, as the optuna-* samplers do (KERF_PYTHON names one).");
  command->callback([=] { *run = [=] { return export_to_optuna(*options); }; });
}

}  // namespace kerf::cli
