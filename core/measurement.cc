#include "core/measurement.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/metric.h"
#include "core/sha256.h"

namespace kerf {
namespace {

// The contract's name of the interval of latency_p50_us keeps the unit last.
std::string interval_key(const std::string& metric) {
  return metric == "latency_p50_us" ? "latency_ci95_us" : metric + "_ci95";
}

}  // namespace

Json HardwareFingerprint::to_json() const {
  return {{"cpu_model", cpu_model}, {"isa", isa},       {"cores", cores},
          {"threads", threads},     {"onednn", onednn_version}, {"kernel", kernel},
          {"governor", governor},   {"id", id()}};
}

Result<HardwareFingerprint> HardwareFingerprint::parse(const Json& document) {
  try {
    HardwareFingerprint out;
    out.cpu_model = document.at("cpu_model").get<std::string>();
    out.isa = document.at("isa").get<std::string>();
    out.cores = document.at("cores").get<int>();
    out.threads = document.at("threads").get<int>();
    out.onednn_version = document.at("onednn").get<std::string>();
    out.kernel = document.at("kernel").get<std::string>();
    out.governor = document.value("governor", "");
    return out;
  } catch (const Json::exception& e) {
    return invalid_argument(std::string("hardware fingerprint: ") + e.what());
  }
}

bool HardwareFingerprint::multiplies_bf16() const {
  // Each of these contains the one before, and only the first says so in its name.
  for (const char* name : {"avx512_core_bf16", "avx512_core_fp16", "avx512_core_amx"}) {
    if (isa.starts_with(name)) return true;
  }
  return false;
}

std::string HardwareFingerprint::id() const {
  return sha256_hex(cpu_model + '\n' + isa + '\n' + std::to_string(cores) + '\n' + onednn_version +
                    '\n' + kernel + '\n' + governor)
      .substr(0, 12);
}

Json Measurement::to_json() const {
  Json out = Json::object();
  for (const auto& [name, value] : metrics) {
    if (std::isfinite(value)) out[name] = value;  // absent rather than null: never ranks
  }
  for (const auto& [name, interval] : ci95) out[interval_key(name)] = interval;
  out["samples"] = samples;
  out["runs"] = runs;
  out["noisy"] = noisy;
  out["hardware"] = hardware.to_json();
  out["layers"] = Json::array();
  for (const LayerMeasurement& layer : layers) {
    out["layers"].push_back({{"name", layer.name},
                             {"kernel", layer.kernel},
                             {"executes_as", layer.executes_as},
                             {"us", layer.us}});
  }
  if (!phase_ms.empty()) out["phase_ms"] = phase_ms;
  if (!warnings.empty()) out["warnings"] = warnings;
  if (!pruned.empty()) {
    out["pruned"] = true;
    out["reason"] = pruned;
  }
  return out;
}

Result<Measurement> Measurement::parse(const Json& document) {
  try {
    Measurement out;
    for (const MetricInfo& metric : kerf::metrics()) {
      const std::string name(metric.name);
      if (document.contains(name)) out.metrics[name] = document.at(name).get<double>();
      if (const std::string key = interval_key(name); document.contains(key)) {
        out.ci95[name] = document.at(key).get<std::array<double, 2>>();
      }
    }
    out.samples = document.value("samples", std::int64_t{0});
    out.runs = document.value("runs", std::int64_t{0});
    out.noisy = document.value("noisy", false);
    KERF_ASSIGN(out.hardware, HardwareFingerprint::parse(document.at("hardware")));
    for (const Json& layer : document.value("layers", Json::array())) {
      out.layers.push_back({layer.at("name").get<std::string>(), layer.at("kernel").get<std::string>(),
                            layer.value("executes_as", ""), layer.at("us").get<double>()});
    }
    out.phase_ms = document.value("phase_ms", std::map<std::string, double>{});
    out.warnings = document.value("warnings", std::vector<std::string>{});
    if (document.value("pruned", false)) out.pruned = document.value("reason", "stopped");
    return out;
  } catch (const Json::exception& e) {
    return invalid_argument(std::string("measurement: ") + e.what());
  }
}

Result<std::map<std::string, std::string>> measured_metadata(const Json& measurement) {
  KERF_ASSIGN(const Measurement read, Measurement::parse(measurement));
  Json measured = read.metrics;
  for (const auto& [metric, interval] : read.ci95) measured[metric + "_ci95"] = interval;
  measured["samples"] = read.samples;
  measured["runs"] = read.runs;
  return std::map<std::string, std::string>{
      {"kerf.measured", canonical_text(measured)},
      {"kerf.hardware", canonical_text(read.hardware.to_json())}};
}

}  // namespace kerf
