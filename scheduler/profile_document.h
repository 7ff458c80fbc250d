#pragma once

#include "core/json.h"
#include "search/native/profile.h"

namespace kerf::scheduler {

/// {alone: [dimension][value][metric], neighbours: [{first, second, metric, adds}], exact: [metric]}; what is
/// unknown is null.
[[nodiscard]] Json profile_json(const search::Profile& profile);

/// Its inverse; an empty profile for anything else.
[[nodiscard]] search::Profile profile_of(const Json& document);

}  // namespace kerf::scheduler
