#include "search/native/outlook.h"

#include <algorithm>

namespace kerf::search::native {

std::vector<double> Outlook::metrics(const Choices& x) const {
  std::vector<double> out;
  for (std::size_t m = 0; m < models.size(); ++m) out.push_back(linked(m) ? 0 : models[m].metric(*layout, x));
  return out;
}

double Outlook::violation(const std::vector<double>& metrics) const {
  double sum = 0;
  for (std::size_t c = 0; c < bounds.size(); ++c) {
    const double g = bounds[c] ? bounds[c]->constant + bounds[c]->slope * metrics[bounds[c]->objective]
                               : metrics[objectives + c];
    sum += std::max(0.0, g);
  }
  return sum;
}

}  // namespace kerf::search::native
