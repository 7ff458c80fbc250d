#pragma once

#include <cstdint>
#include <span>

namespace kerf::compress {

/// The distance of a student's classes from the teacher's and from the labels, and its gradient.
///
/// Shapes:   student, teacher, gradient: [samples, classes], row-major, before the softmax.
///           `labels`: one a sample, none where there are none; a negative one counts as none.
/// Maths:    loss = (1 − λ) · T² · KL(softmax(teacher / T) ‖ softmax(student / T)) + λ · CE(label,
///           softmax(student)), mean over samples; without a label λ = 0. T² keeps the gradient's
///           size as T grows. Computed in f64 row by row, with the largest logit taken off first.
/// Units:    nats.
/// Source:   Hinton et al. 2015, arXiv:1503.02531.
[[nodiscard]] double class_loss(std::span<const float> student, std::span<const float> teacher,
                                std::span<const std::int64_t> labels, std::int64_t samples,
                                double temperature, double label_share, std::span<float> gradient);

/// Mean square of (student − teacher), over `variance` of the teacher's values, and its gradient.
[[nodiscard]] double value_loss(std::span<const float> student, std::span<const float> teacher,
                                double variance, std::span<float> gradient);

}  // namespace kerf::compress
