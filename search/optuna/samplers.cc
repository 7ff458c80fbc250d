#include "search/optuna/samplers.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

namespace kerf::optuna {
namespace {

struct AsJson {
  Json operator()(const TPESampler& s) const {
    return {{"name", "tpe"}, {"multivariate", s.multivariate}, {"constant_liar", s.constant_liar},
            {"n_startup_trials", s.n_startup_trials}};
  }
  Json operator()(const NSGAIISampler& s) const { return {{"name", "nsga2"}, {"population_size", s.population_size}}; }
  Json operator()(const NSGAIIISampler& s) const { return {{"name", "nsga3"}, {"population_size", s.population_size}}; }
  Json operator()(const QMCSampler& s) const { return {{"name", "qmc"}, {"scramble", s.scramble}, {"skip", s.skip}}; }
  Json operator()(const GPSampler& s) const {
    return {{"name", "gp"}, {"deterministic_objective", s.deterministic_objective},
            {"n_startup_trials", s.n_startup_trials}};
  }
  Json operator()(const BruteForceSampler&) const { return {{"name", "bruteforce"}}; }
  Json operator()(const RandomSampler&) const { return {{"name", "random"}}; }
};

}  // namespace

Json to_json(const Sampler& sampler) { return std::visit(AsJson{}, sampler); }

Result<void> check(const Sampler& sampler, const SearchSpace& space) {
  const Json options = to_json(sampler);
  for (const auto& [key, value] : options.items()) {
    if (!value.is_number()) continue;
    const std::int64_t least = key == "population_size" ? 2 : 0;
    if (value.get<std::int64_t>() < least) {
      return invalid_argument("sampler " + options["name"].get<std::string>() + ": " + key + " " +
                              value.dump() + "; expected " + std::to_string(least) + " or more");
    }
  }
  if (std::holds_alternative<BruteForceSampler>(sampler) && size_of(space) > BruteForceSampler::kMostPoints) {
    char text[160];
    std::snprintf(text, sizeof text,
                  "sampler optuna-bruteforce: the space has %.3g points; expected at most %.0f, or another sampler",
                  size_of(space), BruteForceSampler::kMostPoints);
    return invalid_argument(text);
  }
  return {};
}

}  // namespace kerf::optuna
