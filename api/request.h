#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/auth.h"
#include "api/service.h"
#include "core/error.h"
#include "core/json.h"

namespace kerf::api {

/// A request as the routes see it: header read and checked, body not yet read.
struct Request {
  std::string method;                        ///< "GET", "POST", …
  std::vector<std::string> path;             ///< Segments, percent-decoded.
  std::map<std::string, std::string> query;  ///< Percent-decoded.
  std::string authorization;
  std::string idempotency_key;
  std::string last_event_id;
  std::optional<std::uint64_t> content_length;
};

/// An answer in one piece.
struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::map<std::string, std::string> headers;
};

[[nodiscard]] Response json_response(int status, const Json& document);

/// RFC 9457: {type, title, status, detail, code}.
[[nodiscard]] Response problem_response(const Error& error);
[[nodiscard]] Response problem_response(int status, const std::string& title, const std::string& detail);

/// What a route does with a request. Exactly one member is set.
struct Plan {
  std::function<Response()> answer;                       ///< No body wanted.
  std::function<Response(const Json& body)> with_json;    ///< After a JSON body of at most 1 MiB.
  std::optional<UploadKind> upload;                       ///< After a body of any size, streamed.
  std::optional<std::pair<std::string, std::int64_t>> model;  ///< Study and trial: a file.
  std::optional<std::pair<std::string, std::int64_t>> events; ///< Study and last id: a stream.
};

/// Finds what a request asks for. Checks nothing of the body.
///
/// Errors:   as a Response: 401, 403, 404, 405 (with Allow), 400 for bad parameters.
struct Routed {
  std::optional<Response> refused;
  Plan plan;
};
[[nodiscard]] Routed route(const Request& request, StudyService& service, const TokenTable& tokens);

/// Splits and decodes a request target. Errors: invalid_argument for broken encodings, NUL bytes,
/// and targets that aren't absolute paths.
[[nodiscard]] Result<void> parse_target(std::string_view target, Request* request);

}  // namespace kerf::api
