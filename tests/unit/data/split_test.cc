#include "workers/data/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace kerf::data {
namespace {

using graph::Tensor;
using testing::ElementsAre;

/// Sample i has x = {i, -i} and label i.
DataSet numbered(std::int64_t samples) {
  std::vector<float> x;
  std::vector<std::int64_t> y;
  for (std::int64_t i = 0; i < samples; ++i) {
    x.push_back(static_cast<float>(i));
    x.push_back(static_cast<float>(-i));
    y.push_back(i);
  }
  DataSet data;
  data.inputs["x"] = Tensor::f32({samples, 2}, x);
  data.labels = Tensor::s64({samples}, y);
  data.samples = samples;
  return data;
}

TEST(Split, PartsAreDisjointAndTogetherTheWhole) {
  const auto parts = split(numbered(103), 1);
  ASSERT_TRUE(parts.has_value());
  EXPECT_EQ(parts->calibration.samples, 20);
  EXPECT_EQ(parts->evaluation.samples, 41);
  EXPECT_EQ(parts->test.samples, 42);
  std::vector<std::int64_t> all;
  for (const DataSet* part : {&parts->calibration, &parts->evaluation, &parts->test}) {
    const auto labels = part->labels->to_integers();
    all.insert(all.end(), labels.begin(), labels.end());
  }
  std::sort(all.begin(), all.end());
  std::vector<std::int64_t> expected(103);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(all, expected);
}

TEST(Split, SamplesKeepTheirLabels) {
  const auto parts = split(numbered(50), 7);
  ASSERT_TRUE(parts.has_value());
  for (const DataSet* part : {&parts->calibration, &parts->evaluation, &parts->test}) {
    const auto labels = part->labels->to_integers();
    const auto x = part->inputs.at("x").to_floats();
    for (std::size_t i = 0; i < labels.size(); ++i) {
      EXPECT_EQ(x[2 * i], static_cast<float>(labels[i]));
      EXPECT_EQ(x[2 * i + 1], static_cast<float>(-labels[i]));
    }
  }
}

TEST(Split, TheSeedAloneDecides) {
  const auto labels = [](std::uint64_t seed) {
    return split(numbered(10), seed)->calibration.labels->to_integers();
  };
  EXPECT_EQ(labels(3), labels(3));
  EXPECT_NE(split(numbered(1000), 3)->calibration.labels->to_integers(),
            split(numbered(1000), 4)->calibration.labels->to_integers());
  // Frozen: a study that goes on after an update must meet the same parts.
  EXPECT_THAT(labels(1), ElementsAre(1, 7));
}

TEST(Split, AnArrayThatIsNotAboutSamplesStaysWhole) {
  DataSet data = numbered(10);
  data.inputs["palette"] = Tensor::f32({3}, {1, 2, 3});
  const auto parts = split(data, 1);
  ASSERT_TRUE(parts.has_value());
  EXPECT_THAT(parts->test.inputs.at("palette").to_floats(), ElementsAre(1, 2, 3));
}

TEST(Split, TooFewSamplesAreRefused) {
  EXPECT_FALSE(split(numbered(4), 1).has_value());
  const auto five = split(numbered(5), 1);
  ASSERT_TRUE(five.has_value());
  EXPECT_EQ(five->calibration.samples, 1);
  EXPECT_EQ(five->evaluation.samples, 2);
  EXPECT_EQ(five->test.samples, 2);
}

}  // namespace
}  // namespace kerf::data
