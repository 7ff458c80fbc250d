#pragma once

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

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

inline Json study_document(std::int64_t trials, bool test_split) {
  Json data = {{"calibration", file_id('c')}, {"evaluation", file_id('e')}};
  if (test_split) data["test"] = file_id('f');
  return {{"name", "simulated"},
          {"model", file_id('a')},
          {"data", data},
          {"space", {{"default", {{"weight_bits", {4, 8, 16, 32}}, {"activation_bits", {8, 16, 32}}}}}},
          {"search", {{"sampler", "optuna-tpe"}, {"seed", 1}}},
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
