#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/table.h"
#include "search/sampler.h"
#include "search/simulate.h"

namespace kerf::cli {
namespace {

struct SimulateOptions {
  std::string table;
  search::SimulationOptions how;
  bool json = false;
  bool blind = false;
  std::int64_t seeds = 1;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  if (n == 0) return 0;
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/// After each trial, over the seeds: {median, least, most}, of hypervolumes without the noise.
Json attainment(const std::vector<search::Simulation>& runs) {
  Json out = {{"median", Json::array()}, {"least", Json::array()}, {"most", Json::array()}};
  std::size_t longest = 0;
  for (const search::Simulation& run : runs) longest = std::max(longest, run.exact_hypervolume.size());
  for (std::size_t n = 0; n < longest; ++n) {
    std::vector<double> values;
    for (const search::Simulation& run : runs) {
      // A search that ended early (an exhausted space) stays where it was.
      const auto& history = run.exact_hypervolume;
      values.push_back(history.empty() ? 0 : history[std::min(n, history.size() - 1)]);
    }
    out["median"].push_back(median(values));
    out["least"].push_back(*std::min_element(values.begin(), values.end()));
    out["most"].push_back(*std::max_element(values.begin(), values.end()));
  }
  return out;
}

Result<void> print_seeds(const std::vector<search::Simulation>& runs, const SimulateOptions& options) {
  const Json spread = attainment(runs);
  if (options.json) {
    Json out = {{"sampler", options.how.sampler}, {"seeds", Json::array()}, {"hypervolume", spread}};
    for (std::size_t i = 0; i < runs.size(); ++i) {
      Json one = runs[i].to_json();
      one["seed"] = options.how.seed + static_cast<std::int64_t>(i);
      out["seeds"].push_back(std::move(one));
    }
    print_json(out);
    return {};
  }
  Table rows({"trials", "median", "least", "most"});
  const std::size_t length = spread["median"].size();
  for (std::size_t n = 1; n <= length; n = n == length ? length + 1 : std::min(2 * n, length)) {
    rows.add({std::to_string(n), human_number(spread["median"][n - 1].get<double>()),
              human_number(spread["least"][n - 1].get<double>()),
              human_number(spread["most"][n - 1].get<double>())});
  }
  std::fputs(rows.text().c_str(), stdout);
  std::printf("\n%s: hypervolume without noise, %zu seeds\n", options.how.sampler.c_str(), runs.size());
  return {};
}

Result<void> run_simulation(const SimulateOptions& options) {
  KERF_ASSIGN(const Json document, read_json_file(options.table, {64U << 20U, 64}));
  auto table = search::Table::parse(document);
  if (!table.has_value()) return with_context(options.table, table.error());
  search::SimulationOptions how = options.how;
  how.look = !options.blind && search::uses_profile(how.sampler) && table->has_profile();
  std::vector<search::Simulation> runs;
  for (std::int64_t i = 0; i < options.seeds; ++i) {
    how.seed = options.how.seed + i;
    KERF_ASSIGN(search::Simulation one, search::simulate(*table, how));
    runs.push_back(std::move(one));
  }
  if (runs.size() > 1) return print_seeds(runs, options);
  const search::Simulation& simulation = runs.front();
  for (const std::string& note : simulation.notes) std::fprintf(stderr, "%s\n", note.c_str());
  if (options.json) {
    print_json(simulation.to_json());
    return {};
  }
  std::vector<std::string> heading = {"trial"};
  for (const Objective& objective : table->objectives()) heading.push_back(objective.metric);
  Table rows(heading);
  const auto row_of = [&](std::size_t index) {
    std::vector<std::string> row = {std::to_string(index)};
    for (const Objective& objective : table->objectives()) {
      row.push_back(human_number(simulation.trials.at(index).metrics.at(objective.metric)));
    }
    rows.add(row);
  };
  for (const std::size_t index : simulation.front) row_of(index);
  if (simulation.nearest_miss) row_of(*simulation.nearest_miss);
  std::fputs(rows.text().c_str(), stdout);
  if (simulation.nearest_miss) {
    std::string missed;
    for (const Constraint& constraint : table->constraints()) {
      const double value = simulation.trials[*simulation.nearest_miss].metrics.at(constraint.metric);
      const std::string comma = missed.empty() ? "" : ", ";
      if (constraint.max && value > *constraint.max) missed += comma + human_miss(constraint.metric, value, *constraint.max, true);
      if (constraint.min && value < *constraint.min) missed += comma + human_miss(constraint.metric, value, *constraint.min, false);
    }
    std::printf("\nno feasible trial; the nearest is trial %zu, %s\n", *simulation.nearest_miss, missed.c_str());
  }
  std::printf("\n%zu trials, hypervolume %.6g\n", simulation.trials.size(),
              simulation.hypervolume.empty() ? 0.0 : simulation.hypervolume.back());
  return {};
}

}  // namespace

void add_simulate_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand("simulate", "a search on a table (layers × choices → metrics) instead of workers");
  const auto options = std::make_shared<SimulateOptions>();
  command->add_option("TABLE", options->table, "the table's JSON")->required();
  command->add_option("--sampler", options->how.sampler, "as in a study's search.sampler")->capture_default_str();
  command->add_option("--trials", options->how.trials, "trials, a profile's cost included")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1000000}));
  command->add_option("--seed", options->how.seed, "of the sampler and of the noise")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 31U));
  command->add_option("--seeds", options->seeds, "so many runs from --seed on; median and spread of their hypervolumes")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1000}));
  command->add_flag("--no-profile", options->blind, "the sampler doesn't see the table's profile, and doesn't pay for it");
  command->add_flag("--json", options->json, "one JSON document on stdout");
  command->callback([=] { *run = [=] { return run_simulation(*options); }; });
}

}  // namespace kerf::cli
