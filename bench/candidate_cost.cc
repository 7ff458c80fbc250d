// What a candidate costs from plan to finished Measurement, by phase, in one process that keeps what
// a worker keeps between candidates (calibration statistics, packed weights, the baseline's outputs).
//
// usage: bench_candidate_cost MODEL.onnx --calibration C.npz --data D.npz [--preprocess P.json]
//                             [--candidates 24] [--seed 1] [--neighbours] [--latency-seconds 1.0]
//
// Candidates are drawn at random: half of them bits for each layer, half of them a share of channels
// for all layers, and a range. --neighbours: each changes one layer of the one before, in the last half of the network.
// Overhead is everything outside of running the network: all phases but accuracy, latency, layers.
#include <algorithm>
#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "cli/model_options.h"
#include "workers/measure/measure.h"

namespace {

using kerf::Json;

struct Options {
  kerf::cli::ModelOptions model;
  std::string data;
  int candidates = 24;
  std::uint64_t seed = 1;
  bool neighbours = false;
  double latency_seconds = 1.0;
};

class Draw {
 public:
  Draw(const kerf::compress::PreparedModel& model, const Options& options)
      : random_(options.seed), neighbours_(options.neighbours) {
    for (const auto& layer : model.info.layers) names_.push_back(layer.name);
    for (const std::string& name : names_) layers_[name] = layer();
  }

  Json next() {
    static const std::vector<std::string> kRanges = {"minmax", "percentile", "entropy", "mse"};
    if (neighbours_) {
      const std::size_t half = names_.size() / 2;
      layers_[names_[half + pick(names_.size() - half)]] = layer();
      return {{"global", {{"range", "entropy"}}}, {"layers", layers_}};
    }
    for (const std::string& name : names_) layers_[name] = layer();
    const Json global{{"range", kRanges[pick(kRanges.size())]}};
    if (pick(2) == 0) return {{"global", global}, {"layers", layers_}};
    // Channels go from all that can lose some, which is the dearest change: no activation stays.
    Json all{{"weight_bits", 8}, {"activation_bits", 8}};
    all["prune"] = {{"structure", "channel"}, {"ratio", static_cast<double>(pick(8) + 1) / 16}};
    return {{"global", global}, {"layers", {{"*", all}}}};
  }

 private:
  std::size_t pick(std::size_t count) { return random_() % count; }
  Json layer() {
    static const std::vector<std::pair<int, int>> kBits = {{32, 32}, {8, 8}, {4, 8}, {8, 8}, {16, 16}};
    const auto [weights, activations] = kBits[pick(kBits.size())];
    return {{"weight_bits", weights}, {"activation_bits", activations}};
  }

  std::mt19937_64 random_;
  bool neighbours_;
  std::vector<std::string> names_;
  std::map<std::string, Json> layers_;
};

kerf::Result<int> run(const Options& options) {
  KERF_ASSIGN(const auto model, options.model.prepare());
  KERF_ASSIGN(const auto evaluation, options.model.load(options.data, model.graph));
  KERF_ASSIGN(auto calibration_data, options.model.load(options.model.calibration, model.graph));
  kerf::compress::Calibration calibration(model, std::move(calibration_data.inputs), 1);
  kerf::measure::Baseline baseline(model.graph);
  kerf::measure::Instruments instruments(1);
  kerf::measure::MeasureRequest request;
  request.latency_seconds = options.latency_seconds;
  Draw draw(model, options);
  std::map<std::string, std::vector<double>> phases;
  std::printf("seed %llu, %lld evaluation samples\n", static_cast<unsigned long long>(options.seed),
              static_cast<long long>(evaluation.samples));
  // The first pays for what all share: it is reported apart.
  for (int i = 0; i <= options.candidates; ++i) {
    const Json json = i == 0 ? Json{{"layers", {{"*", {{"weight_bits", 8}, {"activation_bits", 8}}}}}} : draw.next();
    KERF_ASSIGN(const auto plan, kerf::CompressionPlan::parse(json));
    KERF_ASSIGN(const auto candidate, kerf::compress::compress(model, plan, &calibration));
    KERF_ASSIGN(const auto measured, kerf::measure::measure_candidate(candidate, baseline, evaluation, request, nullptr, {}, &instruments));
    std::map<std::string, double> own = measured.phase_ms;
    own["whole"] = own["overhead"] = own["compress + compile"] = 0;
    for (const auto& [phase, ms] : measured.phase_ms) {
      own["whole"] += ms;
      const bool running = phase == "accuracy" || phase == "latency" || phase == "layers";
      if (!running) own["overhead"] += ms;
      if (!running && phase != "baseline") own["compress + compile"] += ms;
    }
    if (i == 0) {
      std::printf("first candidate: %.0f ms, of them overhead %.0f ms\n", own["whole"], own["overhead"]);
      continue;
    }
    for (const auto& [phase, ms] : own) phases[phase].push_back(ms);
  }
  std::printf("%-20s%10s%10s%10s\n", "phase", "mean ms", "median", "p90");
  for (auto& [phase, ms] : phases) {
    ms.resize(static_cast<std::size_t>(options.candidates), 0.0);
    std::sort(ms.begin(), ms.end());
    double sum = 0;
    for (const double each : ms) sum += each;
    std::printf("%-20s%10.2f%10.2f%10.2f\n", phase.c_str(), sum / static_cast<double>(ms.size()), ms[ms.size() / 2], ms[ms.size() * 9 / 10]);
  }
  double whole = 0, overhead = 0;
  for (const double ms : phases["whole"]) whole += ms;
  for (const double ms : phases["overhead"]) overhead += ms;
  std::printf("overhead outside of running the network: %.1f %%\n", 100 * overhead / whole);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("what a candidate costs");
  options.model.add_to(app);
  app.add_option("--data", options.data)->required();
  app.add_option("--candidates", options.candidates)->check(CLI::Range(1, 100000));
  app.add_option("--seed", options.seed);
  app.add_flag("--neighbours", options.neighbours);
  app.add_option("--latency-seconds", options.latency_seconds);
  CLI11_PARSE(app, argc, argv);
  const auto done = run(options);
  if (!done.has_value()) std::fprintf(stderr, "bench_candidate_cost: %s\n", done.error().message.c_str());
  return done.has_value() ? 0 : 1;
}
