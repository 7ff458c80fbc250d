#pragma once

namespace kerf::optuna {

/// The text of samplers.py, export.py and bridge.py, embedded by the build.
extern const char* const kBridgeText;

}  // namespace kerf::optuna
