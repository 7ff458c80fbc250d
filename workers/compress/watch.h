#pragma once

#include <functional>
#include <string>

namespace kerf::compress {

/// Told by long work what it is at and how far, 0…1; false ends it with the error `cancelled`.
/// Called several times a second where the work is long; what it does itself is to be short.
using Watch = std::function<bool(const std::string& phase, double share)>;

}  // namespace kerf::compress
