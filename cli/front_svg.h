#pragma once

#include <string>

#include "core/json.h"
#include "core/result.h"

namespace kerf::cli {

/// A study's outcome as a stand-alone SVG picture: two objectives as axes, a third as the points'
/// colour, the front drawn through, the baseline marked.
///
/// `report` is what `kerf run --json` prints (trials, front, baseline); `objectives` that of the
/// study, [{metric, direction}, …]. Texts are escaped.
[[nodiscard]] std::string front_svg(const Json& report, const Json& objectives,
                                    const std::string& title);

}  // namespace kerf::cli
