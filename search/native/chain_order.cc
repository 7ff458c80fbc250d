#include "search/native/chain_order.h"

#include <algorithm>
#include <map>
#include <utility>

#include "search/native/sampler.h"

namespace kerf::search::native {
namespace {

using Order = std::vector<std::size_t>;

Choices inside(const Order& order, const Choices& outside) {
  if (outside.empty()) return {};  // a trial outside of the space
  Choices out;
  for (const std::size_t d : order) out.push_back(outside.at(d));
  return out;
}

Choices outside(const Order& order, const Choices& inside) {
  Choices out(inside.size(), 0);
  for (std::size_t i = 0; i < order.size(); ++i) out[order[i]] = inside[i];
  return out;
}

std::vector<std::vector<double>> transposed(const std::vector<std::vector<double>>& table) {
  std::vector<std::vector<double>> out(table.empty() ? 0 : table.front().size(), std::vector<double>(table.size()));
  for (std::size_t v = 0; v < table.size(); ++v) {
    for (std::size_t w = 0; w < table[v].size() && w < out.size(); ++w) out[w][v] = table[v][w];
  }
  return out;
}

/// The sampler behind another order of dimensions.
class InOrder final : public Proposer {
 public:
  InOrder(const SamplerProblem& problem, Order order) : order_(std::move(order)), native_(reordered(problem, order_)) {}

  Result<Choices> propose(std::int64_t attempt) override {
    KERF_ASSIGN(const Choices found, native_.propose(attempt));
    return outside(order_, found);
  }
  void tell(const Observation& observation) override {
    Observation told = observation;
    told.choices = inside(order_, observation.choices);
    native_.tell(told);
  }
  void pending(const Choices& choices) override { native_.pending(inside(order_, choices)); }
  std::vector<std::string> take_notes() override { return native_.take_notes(); }
  [[nodiscard]] PoorBatches poor_batches() const override { return native_.poor_batches(); }

 private:
  Order order_;
  NativeProposer native_;
};

}  // namespace

Order chain_order(const SamplerProblem& problem) {
  const std::size_t count = problem.dimensions.size();
  std::map<std::size_t, std::size_t> next;
  bool apart = false;
  for (const Profile::Neighbours& pair : problem.profile.neighbours) {
    const auto first = static_cast<std::size_t>(pair.first);
    const auto second = static_cast<std::size_t>(pair.other());
    if (pair.first < 0 || first >= count || second >= count || first == second) continue;
    apart = apart || second != first + 1;
    next.emplace(first, second);
  }
  Order out;
  std::vector<bool> placed(count, false);
  for (std::size_t d = 0; d < count; ++d) {
    std::size_t at = d;
    while (!placed[at]) {
      placed[at] = true;
      out.push_back(at);
      if (const auto follows = next.find(at); apart && follows != next.end()) at = follows->second;
    }
  }
  return out;
}

SamplerProblem reordered(const SamplerProblem& problem, const Order& order) {
  SamplerProblem out = problem;
  std::vector<std::size_t> places(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    places[order[i]] = i;
    out.dimensions[i] = problem.dimensions[order[i]];
  }
  for (Choices& anchor : out.anchors) anchor = inside(order, anchor);
  const auto in_order = [&order](const auto& table) {
    auto moved = table;
    if (table.empty()) return moved;
    moved.assign(order.size(), {});
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (order[i] < table.size()) moved[i] = table[order[i]];
    }
    return moved;
  };
  out.profile.alone = in_order(problem.profile.alone);
  out.profile.lean_of = in_order(problem.profile.lean_of);
  for (Profile::Neighbours& pair : out.profile.neighbours) {
    const auto first = static_cast<std::size_t>(pair.first);
    const auto second = static_cast<std::size_t>(pair.other());
    if (first >= places.size() || second >= places.size()) continue;
    pair.first = static_cast<std::int64_t>(places[first]);
    pair.second = static_cast<std::int64_t>(places[second]);
    if (pair.second < pair.first) {
      std::swap(pair.first, pair.second);
      pair.adds = transposed(pair.adds);
    }
  }
  if (problem.fingerprint) {
    out.fingerprint = [order, of = problem.fingerprint](const Choices& x) { return of(outside(order, x)); };
  }
  return out;
}

std::unique_ptr<Proposer> make_native_proposer(const SamplerProblem& problem) {
  Order order = chain_order(problem);
  if (std::is_sorted(order.begin(), order.end())) return std::make_unique<NativeProposer>(problem);
  return std::make_unique<InOrder>(problem, std::move(order));
}

}  // namespace kerf::search::native
