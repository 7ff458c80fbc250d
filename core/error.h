#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace kerf {

/// Outcomes that are not success, with the names used by gRPC and absl.
///
/// One table (error.cc) maps each to its text, its HTTP status and its exit code.
enum class ErrorCode {
  kInvalidArgument,     ///< The caller's input is wrong; the message says what, where, expected.
  kNotFound,            ///< A named thing does not exist.
  kAlreadyExists,       ///< A thing of that key exists with other content.
  kFailedPrecondition,  ///< Right input, but the state does not allow it.
  kAborted,             ///< Lost a race: a lease lapsed, a compare-and-set failed.
  kResourceExhausted,   ///< Disk, memory, queue or quota is full.
  kUnavailable,         ///< A peer is not there now; trying again may help.
  kDeadlineExceeded,    ///< A limit in time passed.
  kCancelled,           ///< Somebody asked to stop.
  kUnauthenticated,     ///< No or an unknown token.
  kPermissionDenied,    ///< A known token without the scope.
  kUnimplemented,       ///< Well-formed, but this version does not do it.
  kDataLoss,            ///< Stored data is damaged.
  kInternal,            ///< A bug of ours.
};

/// An ErrorCode and one line for a person: what was wrong, where, what was expected.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;

  friend bool operator==(const Error&, const Error&) = default;
};

/// The stable text of a code, as stored and sent ("invalid_argument").
[[nodiscard]] std::string_view to_string(ErrorCode code);

/// The code of a stable text; kInternal for a text that is not known.
[[nodiscard]] ErrorCode error_code_from_string(std::string_view text);

/// HTTP status of a code (400, 404, 409, …).
[[nodiscard]] int http_status(ErrorCode code);

/// Exit code of the command line: 2 for bad input or wrong use, else 1.
[[nodiscard]] int exit_code(ErrorCode code);

/// Puts "<context>: " before the message, keeping the code.
[[nodiscard]] inline Error with_context(std::string_view context, Error error) {
  error.message = std::string(context) + ": " + error.message;
  return error;
}

[[nodiscard]] inline Error invalid_argument(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}
[[nodiscard]] inline Error not_found(std::string message) {
  return {ErrorCode::kNotFound, std::move(message)};
}
[[nodiscard]] inline Error unimplemented(std::string message) {
  return {ErrorCode::kUnimplemented, std::move(message)};
}
[[nodiscard]] inline Error internal_error(std::string message) {
  return {ErrorCode::kInternal, std::move(message)};
}

}  // namespace kerf
