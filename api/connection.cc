#include "api/connection.h"

#include <spdlog/spdlog.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <mutex>

#include "api/request.h"

namespace kerf::api {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

using Parser = http::request_parser<http::buffer_body>;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kPiece = 64U << 10U;

/// One connection: reads requests, performs plans, writes responses.
class Connection {
 public:
  Connection(asio::ip::tcp::socket socket, std::shared_ptr<const Shared> shared)
      : stream_(std::move(socket)), shared_(std::move(shared)), options_(shared_->options) {}

  asio::awaitable<void> run() {
    bool first = true;
    while (true) {
      Parser parser;
      parser.header_limit(static_cast<std::uint32_t>(options_.header_bytes));
      parser.body_limit(options_.upload_bytes);
      stream_.expires_after(first ? options_.header_limit : options_.idle_limit);
      first = false;
      const auto [error, read] = co_await http::async_read_header(stream_, buffer_, parser, kAwait);
      if (error) {
        co_await refuse_broken(error);
        break;
      }
      keep_ = parser.keep_alive();
      co_await handle(parser);
      if (!keep_) break;
    }
    boost::system::error_code ignored;
    stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  }

 private:
  asio::awaitable<void> refuse_broken(boost::system::error_code error) {
    keep_ = false;
    if (error == http::error::header_limit) {
      co_await send(problem_response(431, "header_too_large",
                                     "headers over " + std::to_string(options_.header_bytes) + " bytes"));
    } else if (error == http::error::body_limit) {
      co_await send(problem_response(413, "too_large", "the body is over the limit"));
    } else if (error.category() == http::make_error_code(http::error::bad_target).category() &&
               error != http::error::end_of_stream && error != http::error::partial_message) {
      co_await send(problem_response(400, "invalid_argument", "not HTTP/1.1: " + error.message()));
    }
  }

  asio::awaitable<void> handle(Parser& parser) {
    const auto& header = parser.get();
    head_only_ = header.method() == http::verb::head;
    Request request;
    std::optional<Response> refused = check(parser, &request);
    Plan plan;
    if (!refused) {
      Routed routed = route(request, shared_->service, shared_->tokens);
      refused = std::move(routed.refused);
      plan = std::move(routed.plan);
    }
    const bool body_follows = !parser.is_done();
    if (refused) {
      // A body that nobody reads would be taken for the next request.
      if (body_follows) keep_ = false;
      co_await send(std::move(*refused));
      co_return;
    }
    if (plan.answer) {
      if (body_follows && !co_await read_text(parser, nullptr)) co_return;
      co_await send(guarded([&] { return plan.answer(); }));
    } else if (plan.with_json) {
      co_await handle_json(parser, request, plan);
    } else if (plan.upload) {
      co_await handle_upload(parser, request, *plan.upload);
    } else if (plan.model) {
      co_await send_model(plan.model->first, plan.model->second);
    } else if (plan.events) {
      co_await send_events(plan.events->first, plan.events->second);
    }
  }

  /// What every request must keep to, whatever it asks for.
  std::optional<Response> check(Parser& parser, Request* request) {
    const auto& header = parser.get();
    if (parser.chunked()) {
      keep_ = false;
      return problem_response(411, "length_required", "chunked bodies aren't taken; send Content-Length");
    }
    const std::string host(header[http::field::host]);
    if (header.count(http::field::host) != 1 || host.empty()) {
      return problem_response(400, "invalid_argument", "expected one Host header");
    }
    const std::string name = host.substr(0, host.find(':', host.starts_with('[') ? host.find(']') : 0));
    const auto& allowed = options_.allowed_hosts;
    if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), name) == allowed.end()) {
      return problem_response(403, "permission_denied", "this server isn't known under that Host");
    }
    const std::string origin(header[http::field::origin]);
    if (!origin.empty() && origin != "http://" + host && origin != "https://" + host) {
      return problem_response(403, "permission_denied", "requests from pages of another origin are refused");
    }
    request->method = std::string(header.method_string());
    request->authorization = std::string(header[http::field::authorization]);
    request->idempotency_key = std::string(header["Idempotency-Key"]);
    request->last_event_id = std::string(header["Last-Event-ID"]);
    if (request->idempotency_key.size() > 200) {
      return problem_response(400, "invalid_argument", "Idempotency-Key: longer than 200 bytes");
    }
    if (const auto length = parser.content_length()) request->content_length = *length;
    const auto target = header.target();
    if (const auto parsed = parse_target({target.data(), target.size()}, request); !parsed.has_value()) {
      return problem_response(parsed.error());
    }
    return std::nullopt;
  }

  /// The routes throw only when something is broken: the client learns no more than that.
  template <class F>
  static Response guarded(F answer) {
    try {
      return answer();
    } catch (const std::exception& e) {
      spdlog::error("http: {}", e.what());
      return problem_response(500, "internal", "internal error");
    }
  }

  /// Reads the rest of a body piece by piece; `take` returns whether to go on. False where the
  /// connection is of no more use.
  template <class Take>
  asio::awaitable<bool> read_body(Parser& parser, Take take) {
    std::array<char, kPiece>& piece = *piece_;
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      stream_.expires_after(options_.piece_limit);
      const auto [error, read] = co_await http::async_read(stream_, buffer_, parser, kAwait);
      if (error && error != http::error::need_buffer) {
        keep_ = false;
        co_return false;
      }
      const std::size_t got = piece.size() - parser.get().body().size;
      if (!take(std::string_view(piece.data(), got))) {
        keep_ = false;
        co_return true;
      }
    }
    co_return true;
  }

  /// A body of at most json_bytes; answers 413 itself. Null: read and dropped.
  asio::awaitable<bool> read_text(Parser& parser, std::string* text) {
    std::string local;
    std::string& into = text != nullptr ? *text : local;
    bool too_large = false;
    const std::size_t limit = options_.json_bytes;
    auto take = [&into, &too_large, limit](std::string_view piece) {
      too_large = into.size() + piece.size() > limit;
      if (!too_large) into += piece;
      return !too_large;
    };
    const bool usable = co_await read_body(parser, take);
    if (!usable) co_return false;
    if (too_large) {
      co_await send(problem_response(413, "too_large", "a JSON body has at most " + std::to_string(limit) + " bytes"));
      co_return false;
    }
    co_return true;
  }

  asio::awaitable<void> handle_json(Parser& parser, const Request& request, const Plan& plan) {
    if (!request.content_length) {
      co_await send(problem_response(411, "length_required", "expected a JSON body with Content-Length"));
      co_return;
    }
    std::string text;
    if (!co_await continue_if_expected(parser) || !co_await read_text(parser, &text)) co_return;
    const auto body = parse_json(text, {options_.json_bytes, 64});
    if (!body.has_value()) {
      co_await send(problem_response(with_context("body", body.error())));
      co_return;
    }
    co_await send(guarded([&] { return plan.with_json(*body); }));
  }

  asio::awaitable<void> handle_upload(Parser& parser, const Request& request, UploadKind kind) {
    if (!request.content_length) {
      co_await send(problem_response(411, "length_required", "expected Content-Length and the file's bytes"));
      co_return;
    }
    auto begun = shared_->service.begin_upload(kind, *request.content_length);
    if (!begun.has_value()) {
      keep_ = false;
      co_await send(problem_response(begun.error()));
      co_return;
    }
    Upload& upload = **begun;
    std::optional<Error> failed;
    auto take = [&upload, &failed](std::string_view piece) {
      const auto written = upload.write(piece);
      if (!written.has_value()) failed = written.error();
      return written.has_value();
    };
    if (!co_await continue_if_expected(parser) || !co_await read_body(parser, take)) co_return;
    if (failed) {
      co_await send(problem_response(*failed));
      co_return;
    }
    auto answer = guarded([&] {
      const auto id = upload.finish();
      if (!id.has_value()) return problem_response(id.error());
      Response response = json_response(201, {{"id", *id}, {"bytes", *request.content_length}});
      response.headers["Location"] =
          (kind == UploadKind::kModel ? "/v1/models/" : "/v1/datasets/") + *id;
      return response;
    });
    co_await send(std::move(answer));
  }

  /// Clients such as curl hold a large body back until they are told to go on.
  asio::awaitable<bool> continue_if_expected(Parser& parser) {
    if (!beast::iequals(parser.get()[http::field::expect], "100-continue")) co_return true;
    http::response<http::empty_body> go(http::status::continue_, 11);
    stream_.expires_after(options_.piece_limit);
    const auto [error, sent] = co_await http::async_write(stream_, go, kAwait);
    if (error) keep_ = false;
    co_return !error;
  }

  template <class Body>
  void set_headers(http::response<Body>& message, const Response& response) {
    message.set(http::field::content_type, response.content_type);
    message.set(http::field::server, "kerf");
    message.set("X-Content-Type-Options", "nosniff");
    message.set("Referrer-Policy", "no-referrer");
    for (const auto& [name, value] : response.headers) message.set(name, value);
    message.keep_alive(keep_);
  }

  asio::awaitable<void> send(Response response) {
    http::response<http::string_body> message(static_cast<http::status>(response.status), 11);
    set_headers(message, response);
    message.body() = std::move(response.body);
    message.prepare_payload();
    if (head_only_) message.body().clear();
    stream_.expires_after(options_.piece_limit);
    const auto [error, sent] = co_await http::async_write(stream_, message, kAwait);
    if (error) keep_ = false;
  }

  /// Waits for an answer that another thread gives, for so long at most.
  asio::awaitable<Result<std::string>> exported(const std::string& study, std::int64_t number) {
    struct Answer {
      std::mutex mutex;
      std::optional<Result<std::string>> value;
    };
    auto answer = std::make_shared<Answer>();
    const auto executor = co_await asio::this_coro::executor;
    auto bell = std::make_shared<asio::steady_timer>(executor, options_.model_limit);
    auto done = [answer, bell, executor](Result<std::string> value) {
      {
        const std::lock_guard lock(answer->mutex);
        answer->value = std::move(value);
      }
      asio::post(executor, [bell] { bell->cancel(); });
    };
    shared_->service.model(study, number, done);
    (void)co_await bell->async_wait(kAwait);
    const std::lock_guard lock(answer->mutex);
    if (answer->value) co_return *answer->value;
    co_return Error{ErrorCode::kUnavailable, "the model isn't exported yet; ask again"};
  }

  asio::awaitable<void> send_model(const std::string& study, std::int64_t number) {
    const Result<std::string> path = co_await exported(study, number);
    if (!path.has_value()) {
      Response refused = problem_response(path.error());
      if (path.error().code == ErrorCode::kUnavailable) refused.headers["Retry-After"] = "5";
      co_await send(std::move(refused));
      co_return;
    }
    http::response<http::file_body> message(http::status::ok, 11);
    boost::system::error_code failed;
    message.body().open(path->c_str(), beast::file_mode::scan, failed);
    if (failed) {
      co_await send(problem_response(500, "internal", "the exported file can't be read"));
      co_return;
    }
    Response headers;
    headers.content_type = "application/octet-stream";
    headers.headers["Content-Disposition"] =
        "attachment; filename=\"trial-" + std::to_string(number) + ".onnx\"";
    set_headers(message, headers);
    message.prepare_payload();
    http::response_serializer<http::file_body> serializer(message);
    stream_.expires_after(options_.piece_limit);
    const auto [head_error, head] = co_await http::async_write_header(stream_, serializer, kAwait);
    bool broken = static_cast<bool>(head_error);
    while (!broken && !head_only_ && !serializer.is_done()) {
      stream_.expires_after(options_.piece_limit);
      const auto [error, sent] = co_await http::async_write_some(stream_, serializer, kAwait);
      broken = static_cast<bool>(error);
    }
    if (broken) keep_ = false;
  }

  /// Server-sent events: what the study's log has after `last`, then what comes, until the client
  /// goes or the study is over.
  asio::awaitable<void> send_events(const std::string& study, std::int64_t last) {
    auto page = shared_->service.events(study, last, kEventPage);
    if (!page.has_value()) {
      co_await send(problem_response(page.error()));
      co_return;
    }
    keep_ = false;
    std::string out =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
        "Connection: close\r\nX-Accel-Buffering: no\r\n\r\n: kerf\n\n";
    asio::steady_timer timer(co_await asio::this_coro::executor);
    auto quiet_since = std::chrono::steady_clock::now();
    while (true) {
      if (page.has_value()) {
        for (const LogEntry& entry : *page) {
          out += "id: " + std::to_string(entry.id) + "\nevent: " + entry.type + "\ndata: " + entry.data + "\n\n";
          last = entry.id;
        }
      }
      if (std::chrono::steady_clock::now() - quiet_since > options_.event_keepalive) out += ": still here\n\n";
      if (!out.empty()) {
        stream_.expires_after(options_.piece_limit);
        const auto [error, sent] = co_await asio::async_write(stream_, asio::buffer(out), kAwait);
        if (error) co_return;
        out.clear();
        quiet_since = std::chrono::steady_clock::now();
      }
      timer.expires_after(options_.event_interval);
      const auto [stopped] = co_await timer.async_wait(kAwait);
      if (stopped) co_return;
      page = shared_->service.events(study, last, kEventPage);
      if (!page.has_value() && page.error().code == ErrorCode::kNotFound) co_return;
    }
  }

  static constexpr std::int64_t kEventPage = 500;

  beast::tcp_stream stream_;
  std::shared_ptr<const Shared> shared_;
  const ServerOptions& options_;
  beast::flat_buffer buffer_{kPiece + 16384};
  std::unique_ptr<std::array<char, kPiece>> piece_ = std::make_unique<std::array<char, kPiece>>();
  bool keep_ = true;
  bool head_only_ = false;
};

}  // namespace

asio::awaitable<void> serve_connection(asio::ip::tcp::socket socket, std::shared_ptr<const Shared> shared) {
  auto connection = std::make_unique<Connection>(std::move(socket), std::move(shared));
  co_await connection->run();
}

}  // namespace kerf::api
