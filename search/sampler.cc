#include "search/sampler.h"

#include <set>
#include <utility>

#include "search/dedupe.h"
#include "search/native/chain_order.h"
#include "search/optuna/optuna_sampler.h"
#include "search/proposer.h"
#include "search/random.h"

namespace kerf::search {
namespace {

constexpr std::size_t kAnchorsBesideProfile = 2;

class RandomProposer final : public Proposer {
 public:
  explicit RandomProposer(const SamplerProblem& problem)
      : dimensions_(problem.dimensions), seed_(problem.seed) {}

  Result<Choices> propose(std::int64_t attempt) override {
    // Finished and pending points count alike: the stream doesn't depend on who was quick.
    Rng rng({seed_, known_, attempt});
    Choices choices;
    for (const DimensionSpec& dimension : dimensions_) {
      choices.push_back(static_cast<int>(rng.below(dimension.choices)));
    }
    return choices;
  }

  void tell(const Observation& observation) override {
    const auto found = pending_.find(observation.choices);
    if (found == pending_.end()) {
      ++known_;
    } else {
      pending_.erase(found);
    }
  }

  void pending(const Choices& choices) override {
    pending_.insert(choices);
    ++known_;
  }

 private:
  std::vector<DimensionSpec> dimensions_;
  std::int64_t seed_;
  std::int64_t known_ = 0;
  std::multiset<Choices> pending_;
};

}  // namespace

std::unique_ptr<Proposer> make_random_proposer(const SamplerProblem& problem) {
  return std::make_unique<RandomProposer>(problem);
}

const std::vector<std::string>& sampler_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all = {"profile"};
    for (const std::string& name : optuna_sampler_names()) all.push_back(name);
    all.emplace_back("random");
    return all;
  }();
  return names;
}

bool uses_profile(const std::string& name) { return name == "profile"; }

Result<std::unique_ptr<Sampler>> make_sampler(const std::string& name, SamplerProblem problem) {
  std::unique_ptr<Proposer> proposer;
  if (name == "profile") {
    // The profile says what uniform candidates would; two of them fix the scale.
    if (!problem.profile.empty() && problem.anchors.size() > kAnchorsBesideProfile) {
      problem.anchors.resize(kAnchorsBesideProfile);
    }
    proposer = native::make_native_proposer(problem);
  } else if (name == "random") {
    proposer = make_random_proposer(problem);
  } else if (is_optuna_sampler(name)) {
    KERF_ASSIGN(proposer, make_optuna_proposer(name, problem));
  } else {
    std::string known;
    for (const std::string& other : sampler_names()) known += (known.empty() ? "" : ", ") + other;
    return invalid_argument("sampler: \"" + name + "\" is not known; expected one of " + known);
  }
  return std::unique_ptr<Sampler>(
      std::make_unique<UniqueSampler>(std::move(problem), std::move(proposer)));
}

}  // namespace kerf::search
