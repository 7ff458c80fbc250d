#pragma once

#include <sys/types.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "search/optuna/client.h"
#include "search/proposer.h"

namespace kerf::search {

/// "optuna-tpe", "optuna-nsga2", "optuna-nsga3", "optuna-qmc", "optuna-bruteforce", "optuna-gp".
[[nodiscard]] const std::vector<std::string>& optuna_sampler_names();
[[nodiscard]] bool is_optuna_sampler(const std::string& name);

/// Proposals of the real Optuna in a Python process of its own (optuna/client.h).
///
/// Ordered dimensions of three values and more are integers to Optuna, so that neighbours learn from
/// each other; all others are categories. Failed and pruned trials are told as pruned ones, which
/// counts as worse than any complete trial; values that aren't finite never reach Optuna (such a trial
/// counts as failed). A proposal that means a candidate which is known already is answered at once
/// with that candidate's outcome, for the questions until a new one comes.
class OptunaProposer final : public Proposer {
 public:
  /// Errors:   as optuna::Client::create().
  [[nodiscard]] static Result<std::unique_ptr<OptunaProposer>> create(
      const std::string& name, const SamplerProblem& problem, optuna::BridgeOptions options = {});

  void expect(std::int64_t count) override { expected_ = count; }
  [[nodiscard]] Result<Choices> propose(std::int64_t attempt) override;
  void tell(const Observation& observation) override;
  void pending(const Choices& choices) override;

  /// The process that serves now; for tests that kill it.
  [[nodiscard]] std::optional<pid_t> bridge_pid() const { return client_.bridge_pid(); }
  /// Questions that were sent to it.
  [[nodiscard]] std::int64_t questions() const { return questions_; }

 private:
  OptunaProposer(optuna::Client client, const SamplerProblem& problem)
      : client_(std::move(client)), scales_(problem.bound_scales), fingerprint_(problem.fingerprint) {}

  [[nodiscard]] std::string name_of(const Choices& choices) const;

  optuna::Client client_;
  std::vector<double> scales_;
  std::function<std::string(const Choices&)> fingerprint_;
  std::unordered_map<std::string, optuna::ToldTrial> outcomes_;  // by candidate
  std::int64_t expected_ = 1;
  std::int64_t questions_ = 0;
  std::deque<Choices> ahead_;                  // proposals that came together with the last one
  std::optional<Choices> last_;                // what propose() returned, until it is taken
  std::vector<optuna::ToldTrial> answered_;    // of this round of attempts
};

/// As OptunaProposer::create().
[[nodiscard]] Result<std::unique_ptr<Proposer>> make_optuna_proposer(const std::string& name,
                                                                     const SamplerProblem& problem);

}  // namespace kerf::search
