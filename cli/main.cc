#include <signal.h>

#include <cstdio>
#include <exception>

#include "cli/commands.h"
#include "core/error.h"

namespace kerf::cli {
namespace {

// One line, whatever was in it: a message may quote what a user or a file said.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return text;
}

int report(const std::string& command, const Error& error) {
  if (!error.message.empty()) {
    std::fprintf(stderr, "kerf%s%s: %s\n", command.empty() ? "" : " ", command.c_str(),
                 one_line(error.message).c_str());
  }
  return exit_code(error.code);
}

int run_program(int argc, char** argv) {
  CLI::App app(
      "kerf finds how far a neural network can be compressed: it builds each candidate, measures "
      "accuracy, latency and memory on this hardware, and keeps the Pareto front.",
      "kerf");
  app.set_version_flag("--version", "kerf " KERF_VERSION);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong use or bad input.");
  Run run;
  add_run_command(app, &run);
  add_serve_command(app, &run);
  add_inspect_command(app, &run);
  add_infer_command(app, &run);
  add_bench_command(app, &run);
  add_eval_command(app, &run);
  add_export_command(app, &run);
  add_worker_commands(app, &run);
  add_simulate_command(app, &run);
  add_maintenance_commands(app, &run);
  add_client_commands(app, &run);
  add_export_optuna_command(app, &run);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    return report("", invalid_argument(std::string(e.what()) + " (kerf --help says more)"));
  }
  std::string command;
  for (const CLI::App* used : app.get_subcommands()) command = used->get_name();
  const auto outcome = run();
  return outcome.has_value() ? 0 : report(command, outcome.error());
}

}  // namespace

}  // namespace kerf::cli

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  try {
    return kerf::cli::run_program(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "kerf: %s\n", e.what());
    return 1;
  }
}
