#include "search/native/outlook.h"

#include "search/pareto.h"

namespace kerf::search::native {

std::vector<double> Outlook::metrics(const Choices& x) const {
  std::vector<double> out;
  for (std::size_t m = 0; m < models.size(); ++m) out.push_back(linked(m) ? 0 : models[m].metric(*layout, x));
  return out;
}

double Outlook::violation(const std::vector<double>& metrics) const {
  std::vector<double> missed;
  for (std::size_t c = 0; c < bounds.size(); ++c) {
    missed.push_back(bounds[c] ? bounds[c]->constant + bounds[c]->slope * metrics[bounds[c]->objective]
                               : metrics[objectives + c]);
  }
  return search::violation(missed, scales);
}

}  // namespace kerf::search::native
