#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace kerf {

/// What a plan does to a model's outputs, seen on a few samples, and what it weighs.
struct DamageLook {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

  double kl = kUnknown;     ///< Mean KL(f32 || plan) over samples, nats; unknown for other outputs than scores.
  double scores = kUnknown; ///< Σ (f32 − plan)² / Σ f32² of log-scores without each sample's mean: what a softmax sees.
  double noise = kUnknown;  ///< Σ (f32 − plan)² / Σ f32²; SQNR is −10·log10 of it.
  double flips = kUnknown;  ///< Share of samples whose top-1 is another.
  std::int64_t storage_bytes = 0;  ///< Of the packed file, exactly.
  std::int64_t macs = 0;

  [[nodiscard]] Json to_json() const;
  [[nodiscard]] static Result<DamageLook> parse(const Json& document);
};

/// What labels say of a plan beside another one (`LookRequest::beside`): a change of the outputs that is as
/// large may do good or harm.
///
/// Maths:    of each sample log p_beside(label) − log p_plan(label) − KL(p_beside || p_plan); where the
///           model's probabilities are the labels' own, its expectation is 0.
struct LabelLook {
  double kl = 0;     ///< Mean KL(beside || plan), nats.
  double lean = 0;   ///< Mean of the above, nats: positive where the plan does more harm than its size says.
  double error = 0;  ///< Standard error of `lean`.
  std::int64_t samples = 0;  ///< 0: labels have nothing to say of this model, and aren't asked again.

  [[nodiscard]] Json to_json() const;
  [[nodiscard]] static Result<LabelLook> parse(const Json& document);
};

/// What a plan's layers cost on the kernels and in the memory layouts in which they run.
struct CostLook {
  /// A layer's own step, and the steps between the layer before it in the program and itself (a
  /// quantization, a reorder, a sum).
  struct Layer {
    double us = 0;
    double before_us = 0;
    std::int64_t weight_bytes = 0;
  };

  std::map<std::string, Layer> layers;
  double rest_us = 0;  ///< Steps after the last layer.
  std::int64_t weight_bytes = 0;   ///< Of all, what no layer has included.
  std::int64_t storage_bytes = 0;
  std::int64_t macs = 0;

  [[nodiscard]] double total_us() const;

  [[nodiscard]] Json to_json() const;
  [[nodiscard]] static Result<CostLook> parse(const Json& document);
};

/// The looks that one piece of profiling takes, as plans. `{}` is the f32 model.
struct LookRequest {
  std::vector<Json> damage;
  std::vector<Json> cost;
  std::vector<Json> labels;          ///< Compared with `beside` on labelled samples.
  Json beside = Json::object();      ///< A plan that does next to nothing and runs fast.
  std::int64_t samples = 96;         ///< That damage is seen on.
  std::int64_t label_samples = 512;  ///< At most.
  bool if_overconfident = false;     ///< Labels are asked only of a model that is surer than it is right.
  bool timed = true;           ///< Else costs are bytes alone, and no time is taken.
  double seconds = 0;          ///< No look is begun that wouldn't end before, as looks so far say; 0 = no limit.

  [[nodiscard]] Json to_json() const;
  [[nodiscard]] static Result<LookRequest> parse(const Json& document);
};

/// What came of them, in the request's order. A plan that can't be looked at has an error, one for
/// which there was no time has neither.
struct LookResult {
  template <class Look>
  struct One {
    std::optional<Look> look;
    std::string error;
  };
  std::vector<One<DamageLook>> damage;
  std::vector<One<CostLook>> cost;
  std::vector<One<LabelLook>> labels;
  double seconds = 0;  ///< Worker time, without waiting for the host, and without `statistics_seconds`.
  /// What the worker took to see the f32 model's activations on the calibration set. Its candidates
  /// need that whoever proposes them.
  double statistics_seconds = 0;

  [[nodiscard]] Json to_json() const;
  /// Errors:   invalid_argument.
  [[nodiscard]] static Result<LookResult> parse(const Json& document);
};

}  // namespace kerf
