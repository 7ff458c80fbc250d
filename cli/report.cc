#include "cli/report.h"

#include <map>
#include <set>
#include <vector>

#include "cli/table.h"
#include "core/study.h"
#include "scheduler/effective.h"
#include "search/front.h"
#include "search/promise.h"

namespace kerf::cli {
namespace {

constexpr std::int64_t kPage = 1000;

Result<std::vector<Trial>> all_trials(storage::StudyStore& store, const std::string& id) {
  std::vector<Trial> trials;
  while (true) {
    KERF_ASSIGN(std::vector<Trial> page,
                store.trials(id, static_cast<std::int64_t>(trials.size()), kPage));
    const bool last = static_cast<std::int64_t>(page.size()) < kPage;
    for (Trial& trial : page) trials.push_back(std::move(trial));
    if (last) return trials;
  }
}

Json front_json(const search::Front& front, const std::vector<Trial>& trials, const StudyDefinition& study) {
  Json members = Json::array();
  for (const search::FrontMember& member : front.members) {
    const Trial& measured = trials.at(static_cast<std::size_t>(member.trial));
    const Json trial = measured.to_json();
    Json entry = {{"trial", member.trial},
                  {"candidate", trial["candidate"]},
                  {"metrics", trial["metrics"]},
                  {"contribution", member.contribution}};
    if (trial.contains("verification")) {
      entry["verification"] = trial["verification"];
      const auto broken = search::broken_promises(study, measured.measurement, measured.verification);
      entry["holds"] = broken.empty();
      for (const search::BrokenPromise& one : broken) entry["broken"].push_back(one.to_json());
    }
    members.push_back(std::move(entry));
  }
  return members;
}

struct Parts {
  storage::StudyRecord record;
  std::vector<Trial> trials;
  search::Front front;
  std::vector<double> reference;
  StudyDefinition study;  ///< With the objectives that its data allows.
  Json objectives = Json::array();
};

Result<Parts> collect(storage::StudyStore& store, const std::string& id) {
  Parts parts;
  KERF_ASSIGN(parts.record, store.study(id));
  KERF_ASSIGN(parts.study, StudyDefinition::parse(parts.record.definition));
  KERF_ASSIGN(parts.trials, all_trials(store, id));
  // Without labels the default objectives are others.
  if (!parts.trials.empty()) {
    parts.study = scheduler::effective_study(std::move(parts.study), parts.trials.front().measurement);
  }
  for (const Objective& objective : parts.study.objectives) {
    parts.objectives.push_back({{"metric", objective.metric}, {"direction", std::string(to_string(objective.direction))}});
  }
  KERF_ASSIGN(const std::optional<Json> reference, store.document(id, "reference"));
  if (reference && reference->contains("point")) {
    parts.reference = (*reference)["point"].get<std::vector<double>>();
    parts.front = search::front(parts.trials, parts.study, parts.reference);
  }
  return parts;
}

Json tied_json(const Parts& parts) {
  Json out = Json::array();
  for (const search::TiedTrial& tied : parts.front.tied) {
    const Json trial = parts.trials.at(static_cast<std::size_t>(tied.trial)).to_json();
    out.push_back({{"trial", tied.trial},
                   {"with", tied.with},
                   {"candidate", trial["candidate"]},
                   {"metrics", trial["metrics"]}});
  }
  return out;
}

Json nearest_miss_json(const Parts& parts) {
  const Json trial = parts.trials.at(static_cast<std::size_t>(*parts.front.nearest_miss)).to_json();
  Json missed = Json::array();
  for (const Constraint& constraint : parts.study.constraints) {
    const double value = trial["metrics"].value(constraint.metric, 0.0);
    if (constraint.max && value > *constraint.max) {
      missed.push_back({{"metric", constraint.metric}, {"value", value}, {"max", *constraint.max}});
    }
    if (constraint.min && value < *constraint.min) {
      missed.push_back({{"metric", constraint.metric}, {"value", value}, {"min", *constraint.min}});
    }
  }
  return {{"trial", *parts.front.nearest_miss}, {"violation", parts.front.least_violation},
          {"missed", missed},                   {"candidate", trial["candidate"]},
          {"metrics", trial["metrics"]}};
}

void add_front(const Parts& parts, Json& out) {
  out["front"] = front_json(parts.front, parts.trials, parts.study);
  out["tied"] = tied_json(parts);
  out["hypervolume"] = parts.front.hypervolume;
  out["reference"] = parts.reference;
  out["objectives"] = parts.objectives;
  if (parts.front.members.empty() && parts.front.nearest_miss) out["nearest_miss"] = nearest_miss_json(parts);
}

}  // namespace

Result<Json> study_report(storage::StudyStore& store, const std::string& id) {
  KERF_ASSIGN(const Parts parts, collect(store, id));
  Json out = {{"study", id},
              {"name", parts.record.definition.value("name", "")},
              {"state", std::string(storage::to_string(parts.record.state))},
              {"reason", parts.record.reason},
              {"trials", Json::array()},
              {"baseline", {{"metrics", nullptr}}}};
  for (const Trial& trial : parts.trials) out["trials"].push_back(trial.to_json());
  if (!parts.trials.empty()) out["baseline"]["metrics"] = out["trials"][0]["metrics"];
  KERF_ASSIGN(out["profile"], profile_report(store, id));
  add_front(parts, out);
  return out;
}

Result<Json> front_report(storage::StudyStore& store, const std::string& id) {
  KERF_ASSIGN(const Parts parts, collect(store, id));
  Json out = {{"study", id}};
  add_front(parts, out);
  return out;
}

Result<Json> profile_report(storage::StudyStore& store, const std::string& id) {
  KERF_ASSIGN(const std::optional<Json> document, store.document(id, "profile"));
  Json out = document.value_or(Json());
  if (out.is_object()) out.erase("terms");
  return out;
}

std::string front_table(const Json& report) {
  const Json& objectives = report.at("objectives");
  std::vector<std::string> heading = {"trial"};
  std::vector<std::string> names;
  for (const Json& objective : objectives) names.push_back(objective.at("metric").get<std::string>());
  heading.insert(heading.end(), names.begin(), names.end());
  const std::string ratio = "latency_ratio";
  heading.emplace_back(ratio);
  heading.emplace_back("");
  Table table(heading);
  for (const Json& member : report.at("front")) {
    std::vector<std::string> row = {std::to_string(member.at("trial").get<std::int64_t>())};
    const Json& metrics = member.at("metrics");
    for (const std::string& name : names) {
      row.push_back(metrics.contains(name) ? human_metric(name, metrics[name].get<double>()) : "");
    }
    row.push_back(metrics.contains(ratio) ? human_metric(ratio, metrics[ratio].get<double>()) : "");
    std::string note = member.at("trial") == 0 ? "f32 baseline" : "";
    if (metrics.value("noisy", false)) note += note.empty() ? "noisy" : ", noisy";
    for (const Json& broken : member.value("broken", Json::array())) {
      const std::string name = broken.at("metric").get<std::string>();
      note += (note.empty() ? "" : ", ") + name + " " + human_metric(name, broken.at("measured").get<double>()) +
              " on the test split: doesn't hold";
    }
    row.push_back(note);
    table.add(row);
  }
  if (table.empty()) {
    std::string text = "no feasible trial";
    if (const Json near = report.value("nearest_miss", Json()); near.is_object()) {
      text += "; the nearest is trial " + std::to_string(near.at("trial").get<std::int64_t>());
      for (const Json& one : near.value("missed", Json::array())) {
        const bool upper = one.contains("max");
        text += ", " + human_miss(one.at("metric").get<std::string>(), one.at("value").get<double>(),
                                  one.at(upper ? "max" : "min").get<double>(), upper);
      }
    }
    return text + "\n";
  }
  std::string text = table.text();
  if (const std::size_t tied = report.value("tied", Json::array()).size(); tied > 0) {
    text += std::to_string(tied) + (tied == 1 ? " more trial is" : " more trials are") +
            " beaten by less than the noise (\"tied\" in --json)\n";
  }
  return text;
}

}  // namespace kerf::cli
