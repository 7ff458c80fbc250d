#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/plan.h"
#include "core/study.h"

// A study or a plan from outside. What is accepted must come back equal.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto document = kerf::parse_json({reinterpret_cast<const char*>(data), size});
  if (!document.has_value()) return 0;
  if (const auto study = kerf::StudyDefinition::parse(*document); study.has_value()) {
    const auto again = kerf::StudyDefinition::parse(study->to_json());
    if (!again.has_value() || again->identity() != study->identity()) std::abort();
  }
  if (const auto plan = kerf::CompressionPlan::parse(*document); plan.has_value()) {
    const auto again = kerf::CompressionPlan::parse(plan->to_json());
    if (!again.has_value() || again->canonical() != plan->canonical()) std::abort();
  }
  return 0;
}
