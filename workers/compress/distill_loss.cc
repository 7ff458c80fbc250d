#include "workers/compress/distill_loss.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace kerf::compress {
namespace {

/// log softmax(row / temperature).
void log_softmax(const float* row, std::size_t n, double temperature, std::vector<double>& out) {
  const double largest = static_cast<double>(*std::max_element(row, row + n));
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = (static_cast<double>(row[i]) - largest) / temperature;
    sum += std::exp(out[i]);
  }
  const double shift = std::log(sum);
  for (std::size_t i = 0; i < n; ++i) out[i] -= shift;
}

}  // namespace

double class_loss(std::span<const float> student, std::span<const float> teacher,
                  std::span<const std::int64_t> labels, std::int64_t samples, double temperature,
                  double label_share, std::span<float> gradient) {
  const auto rows = static_cast<std::size_t>(samples);
  const std::size_t classes = student.size() / rows;
  const double each = 1.0 / static_cast<double>(rows);
  std::vector<double> own(classes), wanted(classes);
  double loss = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const float* row = student.data() + r * classes;
    float* slope = gradient.data() + r * classes;
    const std::int64_t label = r < labels.size() ? labels[r] : -1;
    const bool labelled = label >= 0 && label < static_cast<std::int64_t>(classes);
    const double share = labelled ? label_share : 0.0;
    log_softmax(row, classes, temperature, own);
    log_softmax(teacher.data() + r * classes, classes, temperature, wanted);
    const double weight = (1.0 - share) * each;
    for (std::size_t i = 0; i < classes; ++i) {
      const double p = std::exp(wanted[i]);
      loss += weight * temperature * temperature * p * (wanted[i] - own[i]);
      slope[i] = static_cast<float>(weight * temperature * (std::exp(own[i]) - p));
    }
    if (!labelled || share == 0) continue;
    log_softmax(row, classes, 1.0, own);
    loss -= share * each * own[static_cast<std::size_t>(label)];
    for (std::size_t i = 0; i < classes; ++i) {
      const double hit = static_cast<std::int64_t>(i) == label ? 1.0 : 0.0;
      slope[i] += static_cast<float>(share * each * (std::exp(own[i]) - hit));
    }
  }
  return loss;
}

double value_loss(std::span<const float> student, std::span<const float> teacher, double variance,
                  std::span<float> gradient) {
  const double factor = 1.0 / (variance * static_cast<double>(student.size()));
  double loss = 0;
  for (std::size_t i = 0; i < student.size(); ++i) {
    const double off = static_cast<double>(student[i]) - static_cast<double>(teacher[i]);
    loss += off * off * factor;
    gradient[i] = static_cast<float>(2.0 * off * factor);
  }
  return loss;
}

}  // namespace kerf::compress
