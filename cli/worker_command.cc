#include <cstdlib>
#include <memory>

#include "cli/commands.h"
#include "workers/process/runner.h"
#include "workers/process/supervisor.h"

namespace kerf::cli {
namespace {

struct WorkerArguments {
  process::WorkerOptions options;
  std::vector<std::string> labels;
  std::string cpus;
  bool no_sandbox = false;
};

Result<void> work(WorkerArguments arguments) {
  for (const std::string& label : arguments.labels) {
    KERF_TRY(process::add_label(label, arguments.options.labels));
  }
  if (!arguments.cpus.empty()) {
    KERF_ASSIGN(arguments.options.cpus, process::parse_cpu_list(arguments.cpus));
  }
  arguments.options.sandbox = !arguments.no_sandbox;
  const char* token = std::getenv("KERF_WORKER_TOKEN");
  if (token != nullptr) arguments.options.token = token;
  std::exit(process::run_supervisor(arguments.options));
}

}  // namespace

void add_worker_commands(CLI::App& app, Run* run) {
  CLI::App* worker = app.add_subcommand("worker", "one worker: connects, takes work, measures, reports");
  const auto arguments = std::make_shared<WorkerArguments>();
  worker->add_option("--connect", arguments->options.connect,
                     "the server's address for workers: unix:/path, tcp:host:port or host:port")
      ->required();
  worker->add_option("--label", arguments->labels, "K=V, which a study's hardware.labels may ask for");
  worker->add_option("--threads", arguments->options.threads, "threads of a measurement")
      ->check(CLI::Range(1, 1024));
  worker->add_option("--cpus", arguments->cpus, "processors to stay on, such as 0,2-3");
  worker->add_option("--name", arguments->options.name, "shown in lists (default: host and process id)");
  worker->add_option("--cache-dir", arguments->options.cache_dir, "for models and data of remote studies");
  worker->add_flag("--no-sandbox", arguments->no_sandbox, "run models without the sandbox (for debugging)");
  worker->footer("KERF_WORKER_TOKEN in the environment lets the worker in.");
  worker->callback([=] { *run = [=] { return work(*arguments); }; });

  // What a worker starts; of no use to people.
  CLI::App* runner = app.add_subcommand("runner", "")->group("");
  runner->callback([=] {
    *run = []() -> Result<void> { std::exit(process::run_runner(process::kRunnerSocket, {})); };
  });
}

}  // namespace kerf::cli
