#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "core/json.h"
#include "core/result.h"

namespace kerf::cli {

/// What a command does once its arguments are read; the error becomes one line and the exit code.
using Run = std::function<Result<void>()>;

/// Each registers its commands; the one that the user names puts its work into *run.
void add_inspect_command(CLI::App& app, Run* run);
void add_infer_command(CLI::App& app, Run* run);
void add_bench_command(CLI::App& app, Run* run);
void add_eval_command(CLI::App& app, Run* run);
void add_export_command(CLI::App& app, Run* run);
void add_run_command(CLI::App& app, Run* run);
void add_serve_command(CLI::App& app, Run* run);
void add_worker_commands(CLI::App& app, Run* run);
void add_simulate_command(CLI::App& app, Run* run);
void add_maintenance_commands(CLI::App& app, Run* run);
void add_client_commands(CLI::App& app, Run* run);
void add_export_optuna_command(CLI::App& app, Run* run);

/// Prints a document on stdout, one line break at its end.
void print_json(const Json& document);

}  // namespace kerf::cli
