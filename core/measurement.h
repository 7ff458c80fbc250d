#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace kerf {

/// What a number was measured on. Fronts never mix fingerprints.
struct HardwareFingerprint {
  std::string cpu_model;
  std::string isa;            ///< What oneDNN uses: "avx512_core_bf16", …
  int cores = 0;
  int threads = 0;            ///< Used by the measurement.
  std::string onednn_version;
  std::string kernel;         ///< uname -r
  std::string governor;       ///< Empty where the machine doesn't say.

  friend bool operator==(const HardwareFingerprint&, const HardwareFingerprint&) = default;

  [[nodiscard]] Json to_json() const;
  [[nodiscard]] static Result<HardwareFingerprint> parse(const Json& document);
  /// Whether the instruction set has products of bf16, so that they are faster than those of f32.
  [[nodiscard]] bool multiplies_bf16() const;
  /// Short hash of all fields but `threads`: the key of a kind of hardware.
  [[nodiscard]] std::string id() const;
};

/// A layer as it ran.
struct LayerMeasurement {
  std::string name;
  std::string kernel;       ///< The primitive's implementation name.
  std::string executes_as;  ///< "f32", "bf16", "s8", "f32 (4-bit weights)" …
  double us = 0;            ///< Median time of one batch.
};

/// Everything that was measured of one candidate on one machine.
struct Measurement {
  std::map<std::string, double> metrics;                  ///< By contract name.
  std::map<std::string, std::array<double, 2>> ci95;      ///< 95 % interval of a metric, by name.
  std::int64_t samples = 0;                               ///< Evaluated.
  std::int64_t runs = 0;                                  ///< Timed repetitions.
  bool noisy = false;                                     ///< Noise larger than the difference to show.
  HardwareFingerprint hardware;
  std::vector<LayerMeasurement> layers;
  std::map<std::string, double> phase_ms;                 ///< Where the trial's time went.
  std::vector<std::string> warnings;
  std::string pruned;  ///< Why it was stopped before it was complete; empty: it wasn't.

  /// Flat, as `kerf eval` prints it: {accuracy, accuracy_ci95: [lo, hi], …, latency_p50_us,
  /// latency_ci95_us: [lo, hi] (the interval of latency_p50_us), runs, noisy, hardware, layers}; where it was stopped
  /// also {pruned: true, reason}.
  [[nodiscard]] Json to_json() const;

  /// The inverse of to_json().
  [[nodiscard]] static Result<Measurement> parse(const Json& document);
};

/// What an exported file says of how it did: "kerf.measured" ({metric: value, metric_ci95: [lo, hi],
/// samples, runs}) and "kerf.hardware" (the fingerprint), as JSON.
///
/// Errors:   invalid_argument for what isn't a Measurement's to_json().
[[nodiscard]] Result<std::map<std::string, std::string>> measured_metadata(const Json& measurement);

}  // namespace kerf
