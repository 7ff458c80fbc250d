#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/profile_looks.h"
#include "scheduler/profile_plan.h"

// What values weigh in the packed file, from single files and from those of rounds.
namespace kerf::scheduler {

// Rounds are the cheapest looks and are taken first, so that where there was no time for single ones
// their sum is known all the same.
bool ProfilePlan::settle_storage(std::vector<std::vector<Adds>>& all, const Looks& looks) const {
  if (looks.base() == nullptr) return false;
  const auto base = static_cast<double>(looks.base()->storage_bytes);
  using Place = std::pair<std::size_t, std::size_t>;  // dimension, value
  struct Round {
    std::vector<Place> known, unknown;
    double change = 0;  // of the file with all of them
  };
  std::map<std::string, Round> rounds;
  for (std::size_t d = 0; d < dimensions_.size(); ++d) {
    const search::DimensionKind kind = dimensions_[d].kind;
    if (kind == search::DimensionKind::kGlobal || kind == search::DimensionKind::kPrune) continue;
    for (std::size_t v = 0; v < all[d].size(); ++v) {
      const Value& value = dimensions_[d].values[v];
      const CostLook* look = looks.cost(value.cost_key);
      if (look == nullptr || !value.knowable) continue;
      Round& round = rounds[value.cost_key];
      round.change = static_cast<double>(look->storage_bytes) - base;
      (std::isfinite(all[d][v].storage_bytes) ? round.known : round.unknown).emplace_back(d, v);
    }
  }
  const auto bytes = [&](const Place& at) -> double& { return all[at.first][at.second].storage_bytes; };
  // What each value counts beside the first: single files hold it each, the round's file once.
  double shared_elsewhere = 0;
  for (auto& [key, round] : rounds) {
    if (!round.unknown.empty() || round.known.size() < 2) continue;
    double sum = 0;
    for (const Place& at : round.known) sum += bytes(at);
    const double shared = (sum - round.change) / static_cast<double>(round.known.size() - 1);
    for (const Place& at : round.known) bytes(at) -= shared;
    shared_elsewhere = shared;
  }
  bool each_seen = true;
  for (auto& [key, round] : rounds) {
    if (round.unknown.empty()) continue;
    each_seen = false;
    double left = round.change;
    for (const Place& at : round.known) {
      bytes(at) -= shared_elsewhere;
      left -= bytes(at);
    }
    // Shares: what some other value, known of all of them, takes off these layers, or their f32 weights.
    const Round* like = nullptr;
    for (const auto& [other_key, other] : rounds) {
      if (other.unknown.empty() && (like == nullptr || other.known.size() > like->known.size())) like = &other;
    }
    std::vector<double> shares;
    double sum = 0;
    for (const auto& [d, v] : round.unknown) {
      double share = 0;
      for (const Place& at : like == nullptr ? std::vector<Place>() : like->known) {
        if (at.first == d) share = std::abs(bytes(at));
      }
      if (like == nullptr) {
        for (const std::string& layer : dimensions_[d].layers) {
          const auto own = looks.base()->layers.find(layer);
          share += own == looks.base()->layers.end() ? 0 : static_cast<double>(own->second.weight_bytes);
        }
      }
      shares.push_back(share);
      sum += share;
    }
    if (!(sum > 0)) continue;
    for (std::size_t i = 0; i < shares.size(); ++i) bytes(round.unknown[i]) = left * shares[i] / sum;
  }
  return each_seen;
}

}  // namespace kerf::scheduler
