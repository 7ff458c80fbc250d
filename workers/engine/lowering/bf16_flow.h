#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "workers/graph/graph.h"

namespace kerf::engine {

/// Which values of a graph are best kept in bf16: those between layers that a plan runs in it.
class Bf16Flow {
 public:
  Bf16Flow(const graph::Graph& graph, const graph::Links& links) : graph_(graph), links_(links) {}

  /// Whether all that read the value, and what they give where they only pass it on, take bf16.
  [[nodiscard]] bool takes(const std::string& value);

  /// Whether a MatMul of two values runs in bf16: the layers that its factors come from do.
  [[nodiscard]] bool takes_part(const graph::Node& node);

 private:
  enum class Origin : std::uint8_t { kNone, kBf16, kOther };
  /// The precision of the layers that a value comes from; kOther where one of them isn't bf16.
  [[nodiscard]] Origin origin(const std::string& value);

  const graph::Graph& graph_;
  const graph::Links& links_;
  std::map<std::string, bool> takes_;
  std::map<std::string, Origin> origins_;
};

}  // namespace kerf::engine
