#pragma once

#include <cstdint>

#include "core/result.h"
#include "workers/data/dataset.h"

namespace kerf::data {

struct Split {
  DataSet calibration;  ///< 20 %
  DataSet evaluation;   ///< 40 %
  DataSet test;         ///< the rest
};

/// Deals the samples of one file into three disjoint parts, at random by the seed alone: the same
/// file and seed give the same parts on every machine.
///
/// Errors:   invalid_argument for fewer than 5 samples.
[[nodiscard]] Result<Split> split(const DataSet& data, std::uint64_t seed);

}  // namespace kerf::data
