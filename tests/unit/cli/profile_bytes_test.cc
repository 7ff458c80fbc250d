#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "cli/model_options.h"
#include "scheduler/profile_plan.h"
#include "workers/measure/inspect.h"
#include "workers/measure/looks.h"

namespace kerf {
namespace {

/// What a profile says of the packed file of random plans, beside the file itself.
class ProfileBytesTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kSeed = 20;

  /// The largest relative error over plans of the space, and its mean.
  void check(const Json& space_document, double most) {
    const std::filesystem::path shapes = std::filesystem::path(KERF_SOURCE_DIR) / "examples/shapes";
    cli::ModelOptions options;
    options.model = (shapes / "resnet8/model.onnx").string();
    const auto model = options.prepare();
    ASSERT_TRUE(model.has_value()) << model.error().message;
    auto data = options.load((shapes / "calibration.npz").string(), model->graph);
    ASSERT_TRUE(data.has_value()) << data.error().message;
    compress::Calibration calibration(*model, std::move(data->inputs), 1);
    const auto info = measure::inspect(*model);
    ASSERT_TRUE(info.has_value());
    const auto study = StudyDefinition::parse(
        {{"model", "model"}, {"data", "data"}, {"space", space_document},
         {"objectives", {{{"metric", "storage_bytes"}, {"direction", "minimize"}}}}});
    ASSERT_TRUE(study.has_value()) << study.error().message;
    const auto space = search::SearchSpace::build(study->space, *info);
    ASSERT_TRUE(space.has_value());
    const auto plan = scheduler::ProfilePlan::make(*study, *space, {});
    LookRequest request;
    for (const auto& want : plan.damage()) request.damage.push_back(want.plan);
    for (const auto& want : plan.cost()) request.cost.push_back(want.plan);
    request.timed = plan.timed();
    const auto seen = measure::take_looks(*model, &calibration, calibration.some_samples(1), request, {}, nullptr, {});
    ASSERT_TRUE(seen.has_value()) << seen.error().message;
    std::map<std::string, Json> looks;
    for (std::size_t i = 0; i < request.damage.size(); ++i) looks[plan.damage()[i].key] = seen->damage[i].look->to_json();
    for (std::size_t i = 0; i < request.cost.size(); ++i) looks[plan.cost()[i].key] = seen->cost[i].look->to_json();
    const search::Profile profile = plan.profile(looks);
    EXPECT_TRUE(profile.exact.at(0));

    const auto base = compress::compress(*model, {}, nullptr);
    ASSERT_TRUE(base.has_value());
    std::mt19937_64 random(kSeed);
    double worst = 0, sum = 0;
    for (int n = 0; n < 50; ++n) {
      search::Choices x;
      double predicted = static_cast<double>(base->storage_bytes);
      for (const auto& dimension : space->dimensions()) {
        x.push_back(static_cast<int>(random() % static_cast<std::uint64_t>(dimension.spec.choices)));
        predicted += profile.at(x.size() - 1, static_cast<std::size_t>(x.back()), 0);
      }
      const auto made = compress::compress(*model, *space->plan(x), &calibration);
      ASSERT_TRUE(made.has_value()) << made.error().message;
      const double off = predicted / static_cast<double>(made->storage_bytes) - 1;
      worst = std::max(worst, std::abs(off));
      sum += std::abs(off);
    }
    EXPECT_LT(worst, most) << "seed " << kSeed << ", mean " << sum / 50;
  }
};

TEST_F(ProfileBytesTest, OfPrecisionsAreTheFilesWithinOnePercent) {
  check({{"default", {{"weight_bits", {4, 8, 16, 32}}, {"activation_bits", {8, 32}}}}}, 0.01);
}

}  // namespace
}  // namespace kerf
