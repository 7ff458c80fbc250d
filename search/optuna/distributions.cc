#include "search/optuna/distributions.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

namespace kerf::optuna {
namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

std::string problem_of(const IntDistribution& d) {
  if (d.low > d.high) return "high below low";
  if (d.step < 1) return "a step below 1";
  if (d.log && (d.low < 1 || d.step != 1)) return "log with a low below 1, or with a step";
  return "";
}

std::string problem_of(const FloatDistribution& d) {
  if (!std::isfinite(d.low) || !std::isfinite(d.high)) return "an end that isn't finite";
  if (d.low > d.high) return "high below low";
  if (d.step && !(*d.step > 0)) return "a step that isn't above 0";
  if (d.log && (!(d.low > 0) || d.step)) return "log with a low that isn't above 0, or with a step";
  return "";
}

constexpr double kStepTolerance = 1e-8;  // Optuna's

// Steps from one end to the other; a quotient of decimals that just misses a whole number is one.
double steps_of(const FloatDistribution& d) {
  const double quotient = (d.high - d.low) / *d.step;
  return std::floor(quotient * (1 + 1e-12));
}

bool is_utf8(const Json& text) {
  try {
    (void)text.dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

std::string problem_of(const CategoricalDistribution& d) {
  if (d.choices.empty()) return "no choices";
  std::set<std::string> seen;
  for (const Json& choice : d.choices) {
    if (choice.is_structured()) return "a choice that is a list or an object";
    if (!is_utf8(choice)) return "a choice that isn't UTF-8";
    // To Python 1, 1.0 and true are one value, and the later ones would never be drawn.
    const std::string key = choice.is_boolean() ? Json(choice.get<bool>() ? 1.0 : 0.0).dump()
                            : choice.is_number() ? Json(choice.get<double>()).dump()
                                                 : choice.dump();
    if (!seen.insert(key).second) return "the choice " + canonical_text(choice) + " twice (true is 1, false is 0)";
  }
  return "";
}

}  // namespace

Result<void> check(const SearchSpace& space) {
  std::set<std::string> names;
  for (const auto& [name, distribution] : space) {
    const std::string problem = std::visit([](const auto& d) { return problem_of(d); }, distribution);
    if (!is_utf8(name)) return invalid_argument("search space: a name that isn't UTF-8");
    if (!problem.empty()) return invalid_argument("search space, \"" + name + "\": " + problem);
    if (!names.insert(name).second) return invalid_argument("search space: \"" + name + "\" comes twice");
  }
  return {};
}

double size_of(const SearchSpace& space) {
  double size = 1;
  for (const auto& [name, distribution] : space) {
    size *= std::visit(
        Overloaded{[](const IntDistribution& d) {
                     return std::floor(static_cast<double>(d.high - d.low) / static_cast<double>(d.step)) + 1;
                   },
                   [](const FloatDistribution& d) {
                     if (d.low == d.high) return 1.0;
                     return d.step ? steps_of(d) + 1 : std::numeric_limits<double>::infinity();
                   },
                   [](const CategoricalDistribution& d) { return static_cast<double>(d.choices.size()); }},
        distribution);
  }
  return size;
}

Json to_json(const SearchSpace& space) {
  Json out = Json::array();
  for (const auto& [name, distribution] : space) {
    out.push_back({name, std::visit(Overloaded{[](const IntDistribution& d) -> Json {
                                                 return {{"type", "int"}, {"low", d.low}, {"high", d.high},
                                                         {"step", d.step}, {"log", d.log}};
                                               },
                                               [](const FloatDistribution& d) -> Json {
                                                 return {{"type", "float"}, {"low", d.low}, {"high", d.high},
                                                         {"step", d.step ? Json(*d.step) : Json()}, {"log", d.log}};
                                               },
                                               [](const CategoricalDistribution& d) -> Json {
                                                 return {{"type", "categorical"}, {"choices", d.choices}};
                                               }},
                                    distribution)});
  }
  return out;
}

Result<Json> to_wire(const Distribution& distribution, const Json& value) {
  const auto wrong = [&](const char* expected) {
    return invalid_argument(canonical_text(value).substr(0, 80) + "; expected " + expected);
  };
  if (const auto* d = std::get_if<IntDistribution>(&distribution)) {
    if (!value.is_number_integer()) return wrong("an integer");
    const auto number = value.get<std::int64_t>();
    if (number < d->low || number > d->high) return wrong("one within its range");
    if ((number - d->low) % d->step != 0) return wrong("whole steps from its low end");
    return value;
  }
  if (const auto* d = std::get_if<FloatDistribution>(&distribution)) {
    if (!value.is_number()) return wrong("a number");
    const double number = value.get<double>();
    if (!(number >= d->low && number <= d->high)) return wrong("one within its range");
    if (d->step) {
      const double steps = (number - d->low) / *d->step;
      if (std::abs(steps - std::round(steps)) > kStepTolerance) return wrong("whole steps from its low end");
    }
    return Json(number);
  }
  const auto& choices = std::get<CategoricalDistribution>(distribution).choices;
  const auto found = std::find(choices.begin(), choices.end(), value);
  if (found == choices.end()) return wrong("one of the choices");
  return Json(found - choices.begin());
}

Result<Json> from_wire(const Distribution& distribution, const Json& value) {
  const auto* categorical = std::get_if<CategoricalDistribution>(&distribution);
  if (categorical != nullptr) {
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
        value.get<std::uint64_t>() >= categorical->choices.size()) {
      return internal_error("optuna bridge: " + canonical_text(value).substr(0, 80) + " is no choice");
    }
    return categorical->choices[value.get<std::size_t>()];
  }
  if (const auto sound = to_wire(distribution, value); !sound.has_value()) {
    return internal_error("optuna bridge: it proposed " + sound.error().message);
  }
  return value;
}

}  // namespace kerf::optuna
