#include "workers/compress/sign_activations.h"

#include <algorithm>
#include <limits>

namespace kerf::compress {

float sign_scale(const ValueStatistics& statistics) {
  double sum = 0;
  double count = 0;
  for (const auto* bins : {&statistics.positive, &statistics.negative}) {
    for (std::size_t i = 0; i < bins->size(); ++i) {
      const auto here = static_cast<double>((*bins)[i]);
      sum += here * (static_cast<double>(i) + 0.5) * statistics.bin_width;
      count += here;
    }
  }
  if (!(count > 0) || !(sum > 0)) return 1.0F;
  return std::max(static_cast<float>(sum / count), std::numeric_limits<float>::min());
}

}  // namespace kerf::compress
