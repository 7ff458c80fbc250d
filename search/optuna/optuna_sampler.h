#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "search/optuna/bridge_process.h"
#include "search/proposer.h"

namespace kerf::search {

/// "optuna-tpe", "optuna-nsga2", "optuna-nsga3", "optuna-qmc", "optuna-gp".
[[nodiscard]] const std::vector<std::string>& optuna_sampler_names();
[[nodiscard]] bool is_optuna_sampler(const std::string& name);

/// Proposals of the real Optuna in a Python process of its own (bridge.py).
///
/// All that was told is kept here as well: a process that died is started again and told everything,
/// inside propose(). Ordered dimensions of three values and more are integers to Optuna, so that
/// neighbours learn from each other; all others are categories. Failed and pruned trials are told as
/// pruned ones, which counts as worse than any complete trial; values that aren't finite never reach
/// Optuna (such a trial counts as failed).
class OptunaProposer final : public Proposer {
 public:
  /// Errors:   as BridgeProcess::start(); failed_precondition where the Python lacks what this
  ///           sampler needs beyond Optuna (scipy, torch).
  [[nodiscard]] static Result<std::unique_ptr<OptunaProposer>> create(const std::string& name,
                                                                      const SamplerProblem& problem,
                                                                      BridgeOptions options = {});

  [[nodiscard]] Result<Choices> propose(std::int64_t attempt) override;
  void tell(const Observation& observation) override;
  void pending(const Choices& choices) override;

  /// The process that serves now; for tests that kill it.
  [[nodiscard]] std::optional<pid_t> bridge_pid() const;

 private:
  OptunaProposer(const std::string& name, const SamplerProblem& problem, BridgeOptions options);

  [[nodiscard]] Result<void> start();
  [[nodiscard]] Result<void> synchronize();
  [[nodiscard]] Result<Choices> ask(std::int64_t attempt);

  BridgeOptions options_;
  Json create_message_;
  std::size_t objectives_ = 0;
  std::vector<Json> told_;         ///< In the order of tells, as the bridge reads them.
  std::vector<Choices> pending_;   ///< In the order of proposals.
  std::size_t sent_ = 0;           ///< Of told_, to the present process.
  bool pending_sent_ = true;
  std::optional<BridgeProcess> bridge_;
};

/// As OptunaProposer::create().
[[nodiscard]] Result<std::unique_ptr<Proposer>> make_optuna_proposer(const std::string& name,
                                                                     const SamplerProblem& problem);

}  // namespace kerf::search
