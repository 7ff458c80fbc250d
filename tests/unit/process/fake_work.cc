#include "tests/unit/process/fake_work.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <new>

#include "core/child_process.h"
#include "tests/simulation/study_fixture.h"
#include "workers/process/runner.h"
#include "workers/process/supervisor.h"

namespace kerf::process {
namespace {

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Result<Json> execute(const Work& work, const Json& paths, const std::string& scratch,
                     const std::function<void(const std::string&, double)>& progress) {
  progress("read", 0);
  const bool first = work.payload.value("attempt", 0) == 1;
  const std::string model = content(paths.at(work.payload.at("model").get<std::string>()));
  if (model.empty()) return internal_error("the model can't be read");
  if (work.key.kind == WorkKind::kInspect) return simulation::small_model().to_json();
  if (work.key.kind == WorkKind::kExport) {
    std::ofstream(scratch + "/export.onnx") << "exported " << work.payload.at("plan").dump();
    return Json::object();
  }
  progress("accuracy", 0.5);
  if (work.key.kind == WorkKind::kTrial) {
    switch (work.key.number) {
      case 1:
        if (first) {
          std::fprintf(stderr, "a line before the end\n");
          signal(SIGSEGV, SIG_DFL);
          raise(SIGSEGV);
        }
        break;
      case 2:
        while (first) pause();
        break;
      case 3:
        if (first) throw std::bad_alloc();
        break;
      case 4:
        return invalid_argument("this plan can't be done");
      case 5:
        _exit(7);
      case 6:
        for (const Json& path : paths) {
          if (content(path.get<std::string>()).empty()) return internal_error("a file is missing");
        }
        break;
      default:
        break;
    }
  }
  return simulation::measured(work.payload.at("plan"), work.token);
}

}  // namespace

int run_as_runner() {
  RunnerOptions options;
  options.execute = execute;
  return run_runner(kRunnerSocket, options);
}

int run_as_worker(int argc, char** argv) {
  WorkerOptions options;
  options.runner_argv = {self_executable(), "--as-runner"};
  options.progress_limit = std::chrono::milliseconds(1000);
  options.term_grace = std::chrono::milliseconds(200);
  options.connect_limit = std::chrono::milliseconds(20000);
  if (const char* token = std::getenv("KERF_WORKER_TOKEN")) options.token = token;
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string key = argv[i];
    const std::string value = argv[i + 1];
    if (key == "--connect") options.connect = value;
    if (key == "--cache-dir") options.cache_dir = value;
    if (key == "--name") options.name = value;
    if (key == "--connect-limit") options.connect_limit = std::chrono::milliseconds(std::stoi(value));
    if (key == "--label") (void)add_label(value, options.labels).has_value();
  }
  return run_supervisor(options);
}

}  // namespace kerf::process
