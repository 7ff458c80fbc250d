#include "api/request.h"

// Boost.URL is compiled here: Debian has its headers in libboost1.81-dev, its library in another.
#include <boost/url/src.hpp>
#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>

namespace kerf::api {

Response json_response(int status, const Json& document) {
  Response response;
  response.status = status;
  response.body = document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  return response;
}

Response problem_response(const Error& error) {
  Response response = problem_response(http_status(error.code), std::string(to_string(error.code)), error.message);
  if (error.code == ErrorCode::kUnauthenticated) response.headers["WWW-Authenticate"] = "Bearer";
  return response;
}

Response problem_response(int status, const std::string& title, const std::string& detail) {
  Response response = json_response(
      status, {{"type", "about:blank"}, {"title", title}, {"status", status}, {"detail", detail}, {"code", title}});
  response.content_type = "application/problem+json";
  return response;
}

Result<void> parse_target(std::string_view target, Request* request) {
  const auto parsed = boost::urls::parse_origin_form(target);
  if (!parsed) return invalid_argument("the request's target isn't an absolute path");
  for (const auto& segment : parsed->segments()) {
    if (segment.find('\0') != std::string::npos) return invalid_argument("a NUL byte in the path");
    request->path.push_back(segment);
  }
  for (const auto& parameter : parsed->params()) {
    request->query[parameter.key] = parameter.has_value ? parameter.value : "";
  }
  return {};
}

}  // namespace kerf::api
