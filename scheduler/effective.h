#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "core/study.h"

namespace kerf::scheduler {

/// The study with the objectives that its data allows: where none were given, `accuracy` gives way
/// to what the baseline's measurement has instead: `rmse` for float targets, `agreement` without
/// labels. Given objectives stay as they are.
[[nodiscard]] StudyDefinition effective_study(StudyDefinition study, const Json& baseline);

/// The metrics that a trial of this study is measured in: everything that costs no time of its own,
/// and the timed ones where an objective or a bound needs one of them. Empty = all (the baseline).
[[nodiscard]] std::vector<std::string> trial_metrics(const StudyDefinition& study);

/// The same without the timed ones: the test split says nothing new about time.
[[nodiscard]] std::vector<std::string> verify_metrics();

/// Whether the study has a test split of its own or by splitting its single file.
[[nodiscard]] bool has_test_split(const StudyDefinition& study);

}  // namespace kerf::scheduler
