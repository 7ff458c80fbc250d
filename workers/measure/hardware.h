#pragma once

#include <string>

#include "core/measurement.h"

namespace kerf::measure {

/// What this process runs on. Reads /proc and /sys: take it before a sandbox closes them.
///
/// cores = cores that this process may use (a worker on 4 of 64 cores is other hardware than one
/// on all of them); threads = as given.
[[nodiscard]] HardwareFingerprint hardware_fingerprint(int threads);

/// The parts that come from text files, for tests: "model name" of a cpuinfo (or what ARM says
/// instead), one line.
[[nodiscard]] std::string cpu_model(const std::string& cpuinfo);

}  // namespace kerf::measure
