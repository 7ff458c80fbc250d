#pragma once

namespace kerf::search {

/// The text of bridge.py, embedded by the build.
extern const char* const kBridgeText;

}  // namespace kerf::search
