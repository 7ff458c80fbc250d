#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/table.h"
#include "core/metric.h"
#include "workers/measure/host_lock.h"
#include "workers/measure/measure.h"

namespace kerf::cli {
namespace {

struct MeasureOptions {
  ModelOptions model;
  std::string data;
  std::int64_t batch = 1;
  double seconds = 1.0;
  std::int64_t seed = 1;
  bool json = false;

  [[nodiscard]] measure::MeasureRequest request() const {
    measure::MeasureRequest request;
    request.threads = model.threads;
    request.batch = batch;
    request.seed = static_cast<std::uint64_t>(seed);
    request.latency_seconds = seconds;
    return request;
  }
};

void print_measurement(const Measurement& measurement, const compress::CompressedModel& candidate) {
  Table table({"metric", "value", "95 % interval"});
  for (const MetricInfo& metric : metrics()) {
    const std::string name(metric.name);
    const auto found = measurement.metrics.find(name);
    if (found == measurement.metrics.end()) continue;
    std::string interval;
    if (const auto ci = measurement.ci95.find(name); ci != measurement.ci95.end()) {
      interval = human_metric(name, ci->second[0]) + " … " + human_metric(name, ci->second[1]);
    }
    table.add({name, human_metric(name, found->second), interval});
  }
  std::fputs(table.text().c_str(), stdout);
  if (measurement.noisy) std::puts("noisy: the noise is larger than the difference to show");
  Table layers({"layer", "executes as", "weight bits", "kernel", "µs"});
  for (const LayerMeasurement& layer : measurement.layers) {
    std::string bits;
    for (const compress::LayerReport& report : candidate.layers) {
      if (report.name == layer.name) bits = std::to_string(report.weight_bits);
    }
    layers.add({layer.name, layer.executes_as, bits, layer.kernel, human_metric("x_us", layer.us)});
  }
  std::fputs(("\n" + layers.text()).c_str(), stdout);
}

Result<void> finish(const Measurement& measurement, const compress::CompressedModel& candidate, bool json) {
  for (const std::string& warning : measurement.warnings) std::fprintf(stderr, "kerf: %s\n", warning.c_str());
  if (json) {
    print_json(measurement.to_json());
  } else {
    print_measurement(measurement, candidate);
  }
  return {};
}

Result<void> bench(const MeasureOptions& options) {
  measure::Instruments instruments(options.model.threads);
  KERF_ASSIGN(const compress::PreparedModel prepared, options.model.prepare());
  KERF_ASSIGN(const compress::CompressedModel candidate, options.model.build(prepared));
  KERF_ASSIGN(measure::HostLock lock, measure::HostLock::open());
  KERF_ASSIGN(const Measurement measurement,
              measure::measure_alone(candidate, options.request(), &lock, {}, &instruments));
  return finish(measurement, candidate, options.json);
}

Result<void> evaluate(const MeasureOptions& options) {
  measure::Instruments instruments(options.model.threads);
  KERF_ASSIGN(const compress::PreparedModel prepared, options.model.prepare());
  KERF_ASSIGN(const data::BoundData samples, options.model.load(options.data, prepared.graph));
  KERF_ASSIGN(const compress::CompressedModel candidate, options.model.build(prepared));
  KERF_ASSIGN(measure::HostLock lock, measure::HostLock::open());
  measure::Baseline baseline(prepared.graph);
  KERF_ASSIGN(const Measurement measurement,
              measure::measure_candidate(candidate, baseline, samples, options.request(), &lock, {},
                                         &instruments));
  return finish(measurement, candidate, options.json);
}

std::shared_ptr<MeasureOptions> add_options(CLI::App& command) {
  const auto options = std::make_shared<MeasureOptions>();
  options->model.add_to(command);
  command.add_option("--batch", options->batch, "samples of one timed run")->check(CLI::Range(1, 65536));
  command.add_option("--seconds", options->seconds, "time for latency")->check(CLI::Range(0.01, 3600.0));
  command.add_option("--seed", options->seed, "of random inputs and of the order of runs");
  command.add_flag("--json", options->json, "one JSON document on stdout");
  return options;
}

}  // namespace

void add_bench_command(CLI::App& app, Run* run) {
  CLI::App* command =
      app.add_subcommand("bench", "latency and memory of a model, or of a plan's candidate of it");
  const auto options = add_options(*command);
  command->callback([=] { *run = [=] { return bench(*options); }; });
}

void add_eval_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "eval", "everything that is measured of a plan's candidate: accuracy, latency, memory");
  const auto options = add_options(*command);
  command->add_option("--data", options->data, "evaluation data set")->required();
  command->callback([=] { *run = [=] { return evaluate(*options); }; });
}

}  // namespace kerf::cli
