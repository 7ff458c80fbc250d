#include "core/error.h"

#include <array>

namespace kerf {
namespace {

struct Row {
  ErrorCode code;
  std::string_view text;
  int http;
  int exit;
};

constexpr std::array kTable = {
    Row{ErrorCode::kInvalidArgument, "invalid_argument", 400, 2},
    Row{ErrorCode::kNotFound, "not_found", 404, 2},
    Row{ErrorCode::kAlreadyExists, "already_exists", 409, 2},
    Row{ErrorCode::kFailedPrecondition, "failed_precondition", 409, 2},
    Row{ErrorCode::kAborted, "aborted", 409, 1},
    Row{ErrorCode::kResourceExhausted, "resource_exhausted", 507, 1},
    Row{ErrorCode::kUnavailable, "unavailable", 503, 1},
    Row{ErrorCode::kDeadlineExceeded, "deadline_exceeded", 504, 1},
    Row{ErrorCode::kCancelled, "cancelled", 409, 1},
    Row{ErrorCode::kUnauthenticated, "unauthenticated", 401, 2},
    Row{ErrorCode::kPermissionDenied, "permission_denied", 403, 2},
    Row{ErrorCode::kUnimplemented, "unimplemented", 422, 2},
    Row{ErrorCode::kDataLoss, "data_loss", 500, 1},
    Row{ErrorCode::kInternal, "internal", 500, 1},
};

const Row& row(ErrorCode code) {
  for (const Row& r : kTable) {
    if (r.code == code) return r;
  }
  return kTable.back();
}

}  // namespace

std::string_view to_string(ErrorCode code) { return row(code).text; }

ErrorCode error_code_from_string(std::string_view text) {
  for (const Row& r : kTable) {
    if (r.text == text) return r.code;
  }
  return ErrorCode::kInternal;
}

int http_status(ErrorCode code) { return row(code).http; }

int exit_code(ErrorCode code) { return row(code).exit; }

}  // namespace kerf
