// What a profile's looks cost, and what fewer samples would say.
//
// usage: bench_looks MODEL.onnx --calibration C.npz --data D.npz [--preprocess P.json] [--space S.json]
//                    [--samples 32,64,96 --reference 512] [--labels 512] [--looks OUT.json] [--beside OLD.json]
//
// The looks are those that a study on accuracy, latency and storage takes. A look is counted in trials
// as the study would: what the f32 model's measurement took. --samples: rank correlation (Spearman) of
// the damage on so many samples with that on --reference of them. --looks writes what was seen,
// --beside compares with what an earlier run wrote.
// Labels: each dimension's harshest value beside all layers in 8 bits, on --labels samples.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "cli/model_options.h"
#include "scheduler/profile_plan.h"
#include "workers/measure/inspect.h"
#include "workers/measure/looks.h"
#include "workers/measure/measure.h"

namespace {

using kerf::Json;
using kerf::LookRequest;
using kerf::LookResult;

struct Options {
  kerf::cli::ModelOptions model;
  std::string data, space, looks, beside;
  std::vector<std::int64_t> samples;
  std::int64_t reference = 512, labels = 512;
};


std::vector<double> ranks(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> out(values.size());
  for (std::size_t i = 0; i < order.size(); ++i) out[order[i]] = static_cast<double>(i);
  return out;
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return ab / std::sqrt(aa * bb);
}

/// Of what both have; prints how two lists of figures agree.
void compare(const char* what, const std::vector<double>& before, const std::vector<double>& after) {
  std::vector<double> a, b, off;
  for (std::size_t i = 0; i < before.size() && i < after.size(); ++i) {
    if (!std::isfinite(before[i]) || !std::isfinite(after[i])) continue;
    a.push_back(before[i]);
    b.push_back(after[i]);
    if (before[i] != 0) off.push_back(std::abs(after[i] / before[i] - 1));
  }
  if (a.size() < 3 || off.empty()) return;
  std::sort(off.begin(), off.end());
  std::printf("  %-28s %4zu  rank correlation %.4f  relative difference: median %.4f, p90 %.4f, largest %.4f\n", what,
              a.size(), correlation(ranks(a), ranks(b)), off[off.size() / 2], off[off.size() * 9 / 10], off.back());
}

std::vector<double> damages(const LookResult& seen) {
  std::vector<double> out;
  for (const auto& one : seen.damage) {
    out.push_back(!one.look ? std::nan("") : std::isfinite(one.look->kl) ? one.look->kl : one.look->noise);
  }
  return out;
}

std::vector<double> noises(const LookResult& seen) {
  std::vector<double> out;
  for (const auto& one : seen.damage) out.push_back(one.look ? one.look->noise : std::nan(""));
  return out;
}

std::vector<double> scores(const LookResult& seen) {
  std::vector<double> out;
  for (const auto& one : seen.damage) out.push_back(one.look ? one.look->scores : std::nan(""));
  return out;
}

std::vector<double> times(const LookResult& seen, bool before) {
  std::vector<double> out;
  for (const auto& one : seen.cost) {
    if (!one.look) continue;
    for (const auto& [name, layer] : one.look->layers) out.push_back(before ? layer.before_us : layer.us);
  }
  return out;
}

kerf::Result<int> run(const Options& options) {
  KERF_ASSIGN(const auto model, options.model.prepare());
  KERF_ASSIGN(const auto evaluation, options.model.load(options.data, model.graph));
  KERF_ASSIGN(auto calibration_data, options.model.load(options.model.calibration, model.graph));
  Json space = {{"default", {{"weight_bits", {4, 8, 16, 32}}, {"activation_bits", {8, 32}}}}};
  if (!options.space.empty()) {
    KERF_ASSIGN(space, kerf::read_json_file(options.space));
  }
  const Json document = {{"model", "model"}, {"data", "data"}, {"space", space},
                         {"objectives", {{{"metric", "accuracy"}, {"direction", "maximize"}},
                                         {{"metric", "latency_p50_us"}, {"direction", "minimize"}},
                                         {{"metric", "storage_bytes"}, {"direction", "minimize"}}}}};
  KERF_ASSIGN(const auto study, kerf::StudyDefinition::parse(document));
  kerf::ModelInfo info;
  KERF_ASSIGN(info, kerf::measure::inspect(model));
  KERF_ASSIGN(const auto points, kerf::search::SearchSpace::build(study.space, info));
  const auto plan = kerf::scheduler::ProfilePlan::make(study, points, {});
  LookRequest request;
  for (const auto& want : plan.damage()) request.damage.push_back(want.plan);
  for (const auto& want : plan.cost()) request.cost.push_back(want.plan);
  request.samples = kerf::scheduler::ProfilePlan::kSamples;

  kerf::measure::Baseline baseline(model.graph);
  kerf::measure::Instruments instruments(1);
  KERF_ASSIGN(const auto f32, kerf::compress::compress(model, {}, nullptr));
  KERF_ASSIGN(const auto measured,
              kerf::measure::measure_candidate(f32, baseline, evaluation, {}, nullptr, {}, &instruments));
  double trial = 0;
  for (const auto& [phase, ms] : measured.phase_ms) {
    if (phase != "load" && phase != "baseline" && phase != "wait_lock") trial += ms / 1000;
  }
  std::printf("%zu dimensions, %zu looks at damage, %zu at cost; a trial takes %.3f s\n", points.dimensions().size(),
              request.damage.size(), request.cost.size(), trial);

  const auto look = [&](LookRequest wanted) -> kerf::Result<LookResult> {
    kerf::compress::Calibration calibration(model, calibration_data.inputs, 1);
    calibration.set_labels({calibration_data.classes, calibration_data.targets});
    const auto samples = calibration.some_samples(wanted.samples);
    return kerf::measure::take_looks(model, &calibration, samples, wanted, {}, nullptr, {});
  };
  const auto report = [&](const char* what, const LookResult& seen, std::size_t count) {
    std::printf("%-8s %3zu looks in %.3f s = %.2f trials: %.2f ms or %.4f trials a look\n", what, count, seen.seconds,
                seen.seconds / trial, 1000 * seen.seconds / static_cast<double>(count),
                seen.seconds / trial / static_cast<double>(count));
  };
  LookRequest part = request;
  part.cost.clear();
  KERF_ASSIGN(LookResult damage, look(part));
  report("damage", damage, part.damage.size());
  part = request;
  part.damage.clear();
  KERF_ASSIGN(LookResult cost, look(part));
  report("cost", cost, part.cost.size());
  KERF_ASSIGN(const LookResult all, look(request));
  report("all", all, request.damage.size() + request.cost.size());
  std::size_t failed = 0;
  for (const auto& one : all.damage) failed += one.look ? 0 : 1;
  for (const auto& one : all.cost) failed += one.look ? 0 : 1;
  if (failed > 0) std::printf("%zu looks failed\n", failed);
  KERF_ASSIGN(const LookResult again, look(part));
  compare("layers, again", times(cost, false), times(again, false));
  compare("before layers, again", times(cost, true), times(again, true));

  LookRequest labels;
  labels.beside = {{"layers", {{"*", {{"weight_bits", 8}, {"activation_bits", 8}}}}}};
  labels.label_samples = options.labels;
  for (const auto& dimension : points.dimensions()) {
    Json harshest = labels.beside;
    for (const std::string& layer : dimension.layers) harshest["layers"][layer] = dimension.values.back();
    if (!dimension.layers.empty()) labels.labels.push_back(std::move(harshest));
  }
  KERF_ASSIGN(const LookResult leaning, look(labels));
  double chi = 0, samples = 0;
  std::size_t seen = 0;
  for (const auto& one : leaning.labels) {
    if (!one.error.empty()) std::printf("a look at labels failed: %s\n", one.error.c_str());
    if (!one.look) continue;
    ++seen;
    samples = static_cast<double>(one.look->samples);
    if (one.look->error > 0) chi += std::pow(one.look->lean / one.look->error, 2);
  }
  if (seen > 0) {
    report("labels", leaning, seen);
    std::printf("         on %.0f samples; mean of (lean / error)²: %.3f\n", samples, chi / static_cast<double>(seen));
  }

  if (!options.looks.empty()) std::ofstream(options.looks) << all.to_json().dump();
  if (!options.beside.empty()) {
    KERF_ASSIGN(const Json text, kerf::read_json_file(options.beside));
    KERF_ASSIGN(const LookResult old, LookResult::parse(text));
    std::printf("beside %s:\n", options.beside.c_str());
    compare("damage", damages(old), damages(all));
    compare("layers", times(old, false), times(all, false));
    compare("before layers", times(old, true), times(all, true));
    std::vector<double> a, b;
    for (const auto& one : old.damage) a.push_back(one.look ? static_cast<double>(one.look->storage_bytes) : std::nan(""));
    for (const auto& one : all.damage) b.push_back(one.look ? static_cast<double>(one.look->storage_bytes) : std::nan(""));
    compare("bytes", a, b);
  }
  if (options.samples.empty()) return 0;
  part = request;
  part.cost.clear();
  part.samples = options.reference;
  KERF_ASSIGN(const LookResult most, look(part));
  report("damage", most, part.damage.size());
  for (const std::int64_t count : options.samples) {
    part.samples = count;
    KERF_ASSIGN(const LookResult few, look(part));
    std::printf("%lld samples in %.3f s:\n", static_cast<long long>(count), few.seconds);
    compare("damage", damages(most), damages(few));
    compare("noise", noises(most), noises(few));
    compare("noise as damage", damages(most), noises(few));
    compare("scores as damage", damages(most), scores(few));
    compare("scores", scores(most), scores(few));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("what a profile's looks cost");
  options.model.add_to(app);
  app.add_option("--data", options.data)->required();
  app.add_option("--space", options.space);
  app.add_option("--samples", options.samples)->delimiter(',');
  app.add_option("--reference", options.reference);
  app.add_option("--labels", options.labels);
  app.add_option("--looks", options.looks);
  app.add_option("--beside", options.beside);
  CLI11_PARSE(app, argc, argv);
  const auto done = run(options);
  if (!done.has_value()) std::fprintf(stderr, "bench_looks: %s\n", done.error().message.c_str());
  return done.has_value() ? 0 : 1;
}
