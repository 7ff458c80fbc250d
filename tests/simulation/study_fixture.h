#pragma once

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/look.h"
#include "core/measurement.h"
#include "core/model_info.h"
#include "core/plan.h"
#include "core/study.h"
#include "search/random.h"
#include "search/sampler.h"

namespace kerf::simulation {

inline std::string file_id(char digit) { return "sha256:" + std::string(64, digit); }

/// A small model as an inspection describes it.
inline ModelInfo small_model() {
  ModelInfo info;
  info.inputs = {{"x", "f32", {-1, 8}}};
  info.outputs = {{"y", "f32", {-1, 4}}};
  for (const char* name : {"fc1", "fc2", "fc3"}) {
    LayerInfo layer;
    layer.name = name;
    layer.op = "Gemm";
    layer.input_shape = {1, 8};
    layer.output_shape = {1, 8};
    layer.weight_shape = {8, 8};
    layer.macs = 64;
    layer.params = 72;
    layer.weight_bits = {32, 16, 8, 4};
    layer.activation_bits = {32, 16, 8};
    layer.channels_stay_because = "it is an example";
    info.layers.push_back(layer);
  }
  info.macs = 192;
  info.params = 216;
  info.opset = 17;
  return info;
}

inline Json study_document(std::int64_t trials, bool test_split,
                           const std::string& sampler = "optuna-tpe") {
  Json data = {{"calibration", file_id('c')}, {"evaluation", file_id('e')}};
  if (test_split) data["test"] = file_id('f');
  return {{"name", "simulated"},
          {"model", file_id('a')},
          {"data", data},
          {"space", {{"default", {{"weight_bits", {4, 8, 16, 32}}, {"activation_bits", {8, 16, 32}}}}}},
          {"search", {{"sampler", sampler}, {"seed", 1}}},
          {"budget", {{"trials", trials}}}};
}

inline HardwareFingerprint hardware(const std::string& cpu = "simulated cpu") {
  HardwareFingerprint out;
  out.cpu_model = cpu;
  out.isa = "none";
  out.cores = 1;
  out.threads = 1;
  out.onednn_version = "3";
  out.kernel = "0";
  return out;
}

/// What a worker measures: a function of the plan alone; `token` goes along, so that a test sees
/// whose result was kept.
inline Json measured(const Json& candidate, std::int64_t token, const std::string& cpu = "simulated cpu") {
  const auto plan = CompressionPlan::parse(candidate);
  double bits = 0;
  for (const char* name : {"fc1", "fc2", "fc3"}) bits += std::abs(plan->layer(name).weight_bits);
  Measurement out;
  out.metrics = {{"accuracy", 0.9 - 0.2 / bits},
                 {"accuracy_drop", 0.2 / bits - 0.2 / 96},
                 {"latency_p50_us", 50 + bits},
                 {"storage_bytes", 64 * bits},
                 {"agreement", 1 - 1 / bits},
                 {"macs", static_cast<double>(token)}};
  out.hardware = hardware(cpu);
  out.phase_ms = {{"accuracy", 900}, {"latency", 100}, {"load", 5000}};
  return out.to_json();
}

/// What a worker says of cheap looks: functions of the plans alone. Each takes a fifth of a trial.
inline Json looked(const Json& looks) {
  const auto request = LookRequest::parse(looks);
  LookResult out;
  out.seconds = 0.2 * static_cast<double>(request->damage.size() + request->cost.size() + request->labels.size());
  for (const Json& document : request->labels) {
    // What fc1 loses is worse for the labels than it seems, what fc2 loses is better.
    const auto plan = CompressionPlan::parse(document);
    const bool first = plan->layer("fc1").weight_bits < 8;
    out.labels.push_back({LabelLook{0.1, first ? 0.05 : plan->layer("fc2").weight_bits < 8 ? -0.12 : 0, 0.01, 500}, ""});
  }
  for (const Json& document : request->damage) {
    const auto plan = CompressionPlan::parse(document);
    DamageLook look;
    look.kl = 0;
    for (const char* name : {"fc1", "fc2", "fc3"}) {
      look.kl += 1.0 / std::abs(plan->layer(name).weight_bits) - 1.0 / 32;
      look.storage_bytes += 8L * std::abs(plan->layer(name).weight_bits);
    }
    look.macs = 192;
    out.damage.push_back({look, ""});
  }
  for (const Json& document : request->cost) {
    const auto plan = CompressionPlan::parse(document);
    CostLook look;
    int before = 32;
    for (const char* name : {"fc1", "fc2", "fc3"}) {
      const LayerPlan layer = plan->layer(name);
      const double reorder = layer.activation_bits == before ? 0 : 2;
      before = layer.activation_bits;
      look.layers[name] = {static_cast<double>(layer.activation_bits), reorder, 8L * layer.weight_bits};
      look.storage_bytes += 8L * layer.weight_bits;
    }
    look.weight_bytes = look.storage_bytes;
    look.macs = 192;
    out.cost.push_back({look, ""});
  }
  return out.to_json();
}

/// A sampler without a process: random points, none twice; what it was told must be true.
class RandomSampler final : public search::Sampler {
 public:
  explicit RandomSampler(search::SamplerProblem problem)
      : problem_(std::move(problem)), random_({problem_.seed}) {}

  Result<std::vector<search::Choices>> ask(std::int64_t count) override {
    std::vector<search::Choices> out;
    for (const search::Choices& anchor : problem_.anchors) {
      if (static_cast<std::int64_t>(out.size()) < count && seen_.insert(anchor).second) out.push_back(anchor);
    }
    for (int tries = 0; tries < 2000 && static_cast<std::int64_t>(out.size()) < count; ++tries) {
      search::Choices point;
      for (const auto& dimension : problem_.dimensions) {
        point.push_back(static_cast<int>(random_.below(dimension.choices)));
      }
      if (seen_.insert(point).second) out.push_back(std::move(point));
    }
    return out;
  }

  Result<void> tell(const search::Observation& observation) override {
    seen_.insert(observation.choices);
    if (observation.state == TrialState::kComplete &&
        observation.objectives.size() != problem_.directions.size()) {
      return internal_error("told a complete trial without its objectives");
    }
    return {};
  }

  void mark_pending(const search::Choices& choices) override { seen_.insert(choices); }

 private:
  search::SamplerProblem problem_;
  search::Rng random_;
  std::set<search::Choices> seen_;
};

inline Result<std::unique_ptr<search::Sampler>> make_random_sampler(const std::string&,
                                                                    search::SamplerProblem problem) {
  return std::unique_ptr<search::Sampler>(new RandomSampler(std::move(problem)));
}

}  // namespace kerf::simulation
