#include "cli/http_client.h"

#include <unistd.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <filesystem>

namespace kerf::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;

constexpr std::chrono::seconds kLimit{60};
constexpr std::chrono::minutes kTransferLimit{30};
constexpr std::uint64_t kJsonLimit = 64ULL << 20U;

ErrorCode code_of_status(unsigned status) {
  switch (status) {
    case 400: return ErrorCode::kInvalidArgument;
    case 401: return ErrorCode::kUnauthenticated;
    case 403: return ErrorCode::kPermissionDenied;
    case 404: return ErrorCode::kNotFound;
    case 409: return ErrorCode::kFailedPrecondition;
    case 422: return ErrorCode::kUnimplemented;
    case 503: return ErrorCode::kUnavailable;
    case 507: return ErrorCode::kResourceExhausted;
    default: return status < 500 ? ErrorCode::kInvalidArgument : ErrorCode::kInternal;
  }
}

Error problem(unsigned status, const std::string& body) {
  std::string detail = "HTTP status " + std::to_string(status);
  if (const auto parsed = parse_json(body); parsed.has_value() && parsed->is_object()) {
    const Json& document = *parsed;
    detail = document.value("detail", document.value("title", detail));
    if (document.contains("code") && document["code"].is_string()) {
      return {error_code_from_string(document["code"].get<std::string>()), detail};
    }
  }
  return {code_of_status(status), detail};
}

}  // namespace

/// One connection, used once, driven to its end by run_for.
struct HttpClient::Exchange {
  asio::io_context context;
  beast::tcp_stream stream{context};
  beast::flat_buffer buffer;

  Result<void> connect(const std::string& host, const std::string& port) {
    boost::system::error_code failed;
    tcp::resolver resolver(context);
    const auto found = resolver.resolve(host, port, failed);
    if (!failed) {
      stream.expires_after(kLimit);
      stream.async_connect(found, [&](boost::system::error_code error, const auto&) { failed = error; });
      context.run();
      context.restart();
    }
    if (failed) {
      return Error{ErrorCode::kUnavailable, host + ":" + port + ": " + failed.message()};
    }
    return {};
  }

  /// Runs one asynchronous operation to its end: only those obey the stream's time limit.
  template <class Start>
  Result<void> perform(const char* what, std::chrono::seconds limit, Start start) {
    boost::system::error_code failed;
    stream.expires_after(limit);
    start([&](boost::system::error_code error, std::size_t) { failed = error; });
    context.run();
    context.restart();
    if (failed) return Error{ErrorCode::kUnavailable, std::string(what) + ": " + failed.message()};
    return {};
  }
};

Result<HttpClient> HttpClient::make(const std::string& url, const std::string& token) {
  constexpr std::string_view kScheme = "http://";
  std::string rest = url;
  if (!rest.starts_with(kScheme)) {
    return invalid_argument("server \"" + url + "\"; expected http://HOST:PORT");
  }
  rest.erase(0, kScheme.size());
  if (const auto slash = rest.find('/'); slash != std::string::npos) rest.erase(slash);
  const auto colon = rest.rfind(':');
  if (rest.empty() || colon == 0) {
    return invalid_argument("server \"" + url + "\"; expected http://HOST:PORT");
  }
  if (colon == std::string::npos) return HttpClient(rest, "80", token);
  return HttpClient(rest.substr(0, colon), rest.substr(colon + 1), token);
}

namespace {

template <class Request>
void set_headers(Request& request, const std::string& host, const std::string& token) {
  request.set(http::field::host, host);
  request.set(http::field::user_agent, "kerf");
  if (!token.empty()) request.set(http::field::authorization, "Bearer " + token);
}

}  // namespace

Result<Json> HttpClient::get(const std::string& path) {
  Exchange exchange;
  KERF_TRY(exchange.connect(host_, port_));
  http::request<http::empty_body> request(http::verb::get, path, 11);
  set_headers(request, host_ + ":" + port_, token_);
  KERF_TRY(exchange.perform("send", kLimit, [&](auto done) { http::async_write(exchange.stream, request, done); }));
  http::response_parser<http::string_body> parser;
  parser.body_limit(kJsonLimit);
  KERF_TRY(exchange.perform("receive", kLimit, [&](auto done) {
    http::async_read(exchange.stream, exchange.buffer, parser, done);
  }));
  if (parser.get().result_int() >= 300) return problem(parser.get().result_int(), parser.get().body());
  return parse_json(parser.get().body(), {kJsonLimit, 64});
}

Result<Json> HttpClient::post(const std::string& path, const Json& body,
                              const std::map<std::string, std::string>& headers) {
  Exchange exchange;
  KERF_TRY(exchange.connect(host_, port_));
  http::request<http::string_body> request(http::verb::post, path, 11);
  set_headers(request, host_ + ":" + port_, token_);
  for (const auto& [name, value] : headers) request.set(name, value);
  request.set(http::field::content_type, "application/json");
  if (!body.is_null()) request.body() = canonical_text(body);
  request.prepare_payload();
  KERF_TRY(exchange.perform("send", kLimit, [&](auto done) { http::async_write(exchange.stream, request, done); }));
  http::response_parser<http::string_body> parser;
  parser.body_limit(kJsonLimit);
  KERF_TRY(exchange.perform("receive", kLimit, [&](auto done) {
    http::async_read(exchange.stream, exchange.buffer, parser, done);
  }));
  if (parser.get().result_int() >= 300) return problem(parser.get().result_int(), parser.get().body());
  if (parser.get().body().empty()) return Json::object();
  return parse_json(parser.get().body(), {kJsonLimit, 64});
}

Result<Json> HttpClient::post_file(const std::string& path, const std::string& file) {
  Exchange exchange;
  KERF_TRY(exchange.connect(host_, port_));
  http::request<http::file_body> request(http::verb::post, path, 11);
  set_headers(request, host_ + ":" + port_, token_);
  request.set(http::field::content_type, "application/octet-stream");
  boost::system::error_code failed;
  request.body().open(file.c_str(), beast::file_mode::scan, failed);
  if (failed) return not_found(file + ": " + failed.message());
  request.prepare_payload();
  KERF_TRY(exchange.perform("send", kTransferLimit, [&](auto done) {
    http::async_write(exchange.stream, request, done);
  }));
  http::response_parser<http::string_body> parser;
  parser.body_limit(kJsonLimit);
  KERF_TRY(exchange.perform("receive", kLimit, [&](auto done) {
    http::async_read(exchange.stream, exchange.buffer, parser, done);
  }));
  if (parser.get().result_int() >= 300) return problem(parser.get().result_int(), parser.get().body());
  return parse_json(parser.get().body());
}

Result<void> HttpClient::download(const std::string& path, const std::string& file) {
  Exchange exchange;
  KERF_TRY(exchange.connect(host_, port_));
  http::request<http::empty_body> request(http::verb::get, path, 11);
  set_headers(request, host_ + ":" + port_, token_);
  KERF_TRY(exchange.perform("send", kLimit, [&](auto done) { http::async_write(exchange.stream, request, done); }));
  http::response_parser<http::empty_body> head;
  KERF_TRY(exchange.perform("receive", kTransferLimit, [&](auto done) {
    http::async_read_header(exchange.stream, exchange.buffer, head, done);
  }));
  if (head.get().result_int() >= 300) {
    http::response_parser<http::string_body> parser(std::move(head));
    parser.body_limit(1U << 20U);
    KERF_TRY(exchange.perform("receive", kLimit, [&](auto done) {
      http::async_read(exchange.stream, exchange.buffer, parser, done);
    }));
    return problem(parser.get().result_int(), parser.get().body());
  }
  const std::string partial = file + ".part-" + std::to_string(getpid());
  http::response_parser<http::file_body> parser(std::move(head));
  parser.body_limit(4ULL << 30U);
  boost::system::error_code failed;
  parser.get().body().open(partial.c_str(), beast::file_mode::write, failed);
  if (failed) return invalid_argument(file + ": " + failed.message());
  const auto done = exchange.perform("receive", kTransferLimit, [&](auto handler) {
    http::async_read(exchange.stream, exchange.buffer, parser, handler);
  });
  parser.get().body().close();
  std::error_code ignored;
  if (!done.has_value()) {
    std::filesystem::remove(partial, ignored);
    return done;
  }
  std::filesystem::rename(partial, file, ignored);
  if (ignored) return invalid_argument(file + ": " + ignored.message());
  return {};
}

std::string url_encoded(std::string_view text) {
  static constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '_' || c == '.' || c == '~') {
      out += c;
    } else {
      out += '%';
      out += kDigits[byte >> 4U];
      out += kDigits[byte & 15U];
    }
  }
  return out;
}

}  // namespace kerf::cli
