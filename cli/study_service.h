#pragma once

#include <memory>
#include <string>

#include "api/service.h"
#include "cli/study_host.h"

namespace kerf::cli {

/// The HTTP room's view of a StudyHost. Uploads are the host's files; DIR/uploads/models and
/// DIR/uploads/datasets hold an empty file per upload, by its id, which says what it was sent as.
[[nodiscard]] std::unique_ptr<api::StudyService> make_study_service(StudyHost& host);

}  // namespace kerf::cli
