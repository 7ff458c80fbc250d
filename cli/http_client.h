#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "core/json.h"
#include "core/result.h"

namespace kerf::cli {

/// A blocking HTTP/1.1 client for one server of ours. Every call has a limit in time.
class HttpClient {
 public:
  /// `url`: http://host:port. Errors: invalid_argument for anything else.
  [[nodiscard]] static Result<HttpClient> make(const std::string& url, const std::string& token);

  /// Errors:   unavailable where nobody answers; what the server's problem+json says, with the code
  ///           of its status.
  [[nodiscard]] Result<Json> get(const std::string& path);
  [[nodiscard]] Result<Json> post(const std::string& path, const Json& body,
                                  const std::map<std::string, std::string>& headers = {});

  /// Sends a file's bytes; the answer's JSON.
  [[nodiscard]] Result<Json> post_file(const std::string& path, const std::string& file);

  /// Writes the answer's body to a file (complete, or not at all).
  [[nodiscard]] Result<void> download(const std::string& path, const std::string& file);

 private:
  HttpClient(std::string host, std::string port, std::string token)
      : host_(std::move(host)), port_(std::move(port)), token_(std::move(token)) {}

  struct Exchange;

  std::string host_;
  std::string port_;
  std::string token_;
};

/// Percent-encodes what isn't unreserved (RFC 3986), for one segment of a path.
[[nodiscard]] std::string url_encoded(std::string_view text);

}  // namespace kerf::cli
