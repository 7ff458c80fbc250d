#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include "core/result.h"
#include "workers/graph/shapes/call.h"

/// What each op does to the batch axis.
namespace kerf::graph::shapes {

/// How a value depends on the samples.
struct BatchState {
  enum class Kind {
    kFixed,    ///< Not at all.
    kRows,     ///< Rows [n * factor, (n + 1) * factor) of axis 0 belong to sample n, in order.
    kCounted,  ///< Shape arithmetic whose result depends on the number of samples.
  };
  Kind kind = Kind::kFixed;
  std::int64_t factor = 1;

  [[nodiscard]] bool rows() const { return kind == Kind::kRows; }
  [[nodiscard]] bool fixed() const { return kind == Kind::kFixed; }
};

/// What a rule sees: the call's inputs at the model's own batch.
struct BatchCall {
  const Node& node;
  std::vector<const Value*> in;    ///< Null where left out.
  std::vector<const Value*> out;   ///< Null where not named.
  std::vector<BatchState> states;  ///< Of the inputs.
  std::int64_t own_batch;

  [[nodiscard]] bool has(std::size_t i) const { return i < in.size() && in[i] != nullptr; }
  [[nodiscard]] bool rows(std::size_t i) const { return has(i) && states[i].rows(); }
  [[nodiscard]] bool fixed(std::size_t i) const { return !has(i) || states[i].fixed(); }
  [[nodiscard]] std::int64_t rank(std::size_t i) const {
    return static_cast<std::int64_t>(in[i]->shape.size());
  }

  /// failed_precondition "node Transpose 't': why".
  [[nodiscard]] Error mixes(const std::string& why) const;
};

/// The state of all outputs of a node that reads rows.
///
/// Errors:   failed_precondition where samples mix or the batch leaves axis 0.
[[nodiscard]] Result<BatchState> batch_state(const BatchCall& call);

}  // namespace kerf::graph::shapes
