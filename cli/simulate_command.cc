#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/table.h"
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

Result<void> run_simulation(const SimulateOptions& options) {
  KERF_ASSIGN(const Json document, read_json_file(options.table, {64U << 20U, 64}));
  auto table = search::Table::parse(document);
  if (!table.has_value()) return with_context(options.table, table.error());
  KERF_ASSIGN(const search::Simulation simulation, search::simulate(*table, options.how));
  if (options.json) {
    print_json(simulation.to_json());
    return {};
  }
  std::vector<std::string> heading = {"trial"};
  for (const Objective& objective : table->objectives()) heading.push_back(objective.metric);
  Table rows(heading);
  for (const std::size_t index : simulation.front) {
    std::vector<std::string> row = {std::to_string(index)};
    for (const Objective& objective : table->objectives()) {
      row.push_back(human_number(simulation.trials.at(index).metrics.at(objective.metric)));
    }
    rows.add(row);
  }
  std::fputs(rows.text().c_str(), stdout);
  std::printf("\n%zu trials, hypervolume %.6g\n", simulation.trials.size(),
              simulation.hypervolume.empty() ? 0.0 : simulation.hypervolume.back());
  return {};
}

}  // namespace

void add_simulate_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand("simulate", "a search on a table (layers × choices → metrics) instead of workers");
  const auto options = std::make_shared<SimulateOptions>();
  command->add_option("TABLE", options->table, "the table's JSON")->required();
  command->add_option("--sampler", options->how.sampler, "as in a study's search.sampler");
  command->add_option("--trials", options->how.trials, "trials, a profile's cost included")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1000000}));
  command->add_option("--seed", options->how.seed, "of the sampler and of the noise");
  command->add_flag("--json", options->json, "one JSON document on stdout");
  command->callback([=] { *run = [=] { return run_simulation(*options); }; });
}

}  // namespace kerf::cli
