#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>

#include "api/auth.h"
#include "api/server.h"
#include "cli/commands.h"
#include "cli/study_host.h"
#include "cli/study_service.h"

namespace kerf::cli {
namespace {

namespace fs = std::filesystem;

struct ServeOptions {
  std::string data_dir = ".kerf";
  std::string listen = "127.0.0.1:8080";
  std::string worker_listen;
  int workers = -1;
  int threads = 1;
  bool insecure = false;
};

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Result<std::string> worker_token(const std::string& data_dir, bool wanted) {
  if (!wanted) return std::string();
  const char* given = std::getenv("KERF_WORKER_TOKEN");
  if (given != nullptr && *given != '\0') return std::string(given);
  return api::token_in_file((fs::path(data_dir) / "worker-token").string());
}

Result<void> serve(const ServeOptions& options) {
  const SystemClock clock;
  KERF_ASSIGN(const Address where, parse_address(options.listen));
  if (!is_loopback(where.host) && !options.insecure) {
    return Error{ErrorCode::kFailedPrecondition,
                 "--listen " + options.listen +
                     ": tokens would travel in the clear beyond this machine; expected an address of loopback "
                     "(put a TLS proxy before it), or --insecure"};
  }
  HostOptions how;
  how.data_dir = options.data_dir;
  how.workers = options.workers >= 0 ? options.workers
                                     : std::max(1, static_cast<int>(scheduler::allowed_cpus().size()) / options.threads);
  how.threads = options.threads;
  how.worker_listen = options.worker_listen;
  std::error_code failed;
  fs::create_directories(options.data_dir, failed);
  KERF_ASSIGN(how.worker_token, worker_token(options.data_dir, !options.worker_listen.empty()));
  KERF_ASSIGN(const std::unique_ptr<StudyHost> host, StudyHost::open(how, clock));
  KERF_ASSIGN(const std::string token, api::token_in_file((fs::path(options.data_dir) / "token").string()));

  const std::unique_ptr<api::StudyService> service = make_study_service(*host);
  api::TokenTable tokens;
  tokens.add(token, {api::Scope::kAdmin});
  api::ServerOptions http;
  http.host = where.host;
  http.port = where.port;
  // On loopback a page elsewhere could reach us under a name of its own (DNS rebinding).
  if (is_loopback(where.host)) http.allowed_hosts = {"127.0.0.1", "localhost", "[::1]", where.host};
  watch_for_stop();
  KERF_TRY(host->start());
  api::Server server(http, *service, std::move(tokens));
  KERF_ASSIGN(const std::uint16_t port, server.start());

  const std::string shown = where.host == "0.0.0.0" ? "127.0.0.1" : where.host;
  const std::string url = "http://" + shown + ":" + std::to_string(port);
  std::fprintf(stderr, "dashboard: %s/?token=%s\n", url.c_str(), token.c_str());
  const Json line = {{"http", url},
                     {"workers", host->worker_address().empty() ? Json() : Json(host->worker_address())}};
  std::printf("%s\n", canonical_text(line).c_str());
  std::fflush(stdout);
  while (!stop_wanted()) ::poll(nullptr, 0, 100);
  server.stop();
  host->stop();
  return {};
}

}  // namespace

void add_serve_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand("serve", "the service: HTTP, dashboard, workers");
  const auto options = std::make_shared<ServeOptions>();
  command->add_option("--data-dir", options->data_dir, "where everything is kept (default: .kerf)");
  command->add_option("--listen", options->listen, "HOST:PORT for HTTP; port 0 picks one");
  command->add_option("--worker-listen", options->worker_listen, "HOST:PORT for workers of other machines");
  command->add_option("--workers", options->workers, "local workers (default: one per core)")->check(CLI::Range(0, 1024));
  command->add_option("--threads", options->threads, "threads of a local worker's measurements")->check(CLI::Range(1, 1024));
  command->add_flag("--insecure", options->insecure, "allow plain HTTP beyond loopback");
  command->footer(
      "Prints one JSON line when it is ready: {\"http\": …, \"workers\": …}. DIR/token holds the admin token, "
      "DIR/worker-token (or KERF_WORKER_TOKEN) that of workers.");
  command->callback([=] { *run = [=] { return serve(*options); }; });
}

}  // namespace kerf::cli
