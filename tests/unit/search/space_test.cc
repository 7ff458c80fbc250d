#include "search/space.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <random>
#include <set>

namespace kerf::search {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

LayerInfo layer(const std::string& name, const std::string& group = "") {
  LayerInfo out;
  out.name = name;
  out.op = "Conv";
  out.weight_bits = {32, 16, 8, 7, 6, 5, 4, 3, 2, "ternary", 1};
  out.activation_bits = {32, 8, 1};
  out.prune_structures = {"unstructured", "2:4"};
  out.prune_group = group;
  if (!group.empty()) out.prune_structures.emplace_back("channel");
  return out;
}

/// conv1 and conv2 lose channels together, conv3 alone, fc keeps its outputs.
ModelInfo model() {
  ModelInfo info;
  info.layers = {layer("conv1", "conv1"), layer("conv2", "conv1"), layer("conv3", "conv3"),
                 layer("fc")};
  info.groups = {{"conv1", {"conv1", "conv2"}, 16}, {"conv3", {"conv3"}, 32}};
  return info;
}

SpaceDefinition definition(const char* text) {
  const auto study =
      StudyDefinition::parse({{"model", "m"}, {"data", "d"}, {"space", Json::parse(text)}});
  EXPECT_TRUE(study.has_value()) << study.error().message;
  return study->space;
}

SearchSpace space_of(const char* text, const ModelInfo& info = model()) {
  auto space = SearchSpace::build(definition(text), info);
  EXPECT_TRUE(space.has_value()) << space.error().message;
  return *space;
}

std::string error_of(const char* text) {
  const auto space = SearchSpace::build(definition(text), model());
  EXPECT_FALSE(space.has_value());
  if (space.has_value()) return "";
  EXPECT_EQ(space.error().code, ErrorCode::kInvalidArgument);
  return space.error().message;
}

std::vector<std::string> names(const SearchSpace& space) {
  std::vector<std::string> out;
  for (const DimensionSpec& spec : space.specs()) out.push_back(spec.name);
  return out;
}

TEST(SearchSpace, MergesCombinationsThatMeanTheSame) {
  const SearchSpace space =
      space_of(R"({"default": {"weight_bits": [4, 8, 16, 32], "activation_bits": [8, 32]}})");
  EXPECT_THAT(names(space), ElementsAre("conv1.precision", "conv2.precision", "conv3.precision",
                                        "fc.precision"));
  // f32, bf16, then 8 and 4 bits with each of the two kinds of activations: from f32 down.
  EXPECT_THAT(space.dimensions()[0].values,
              ElementsAre(Json::object(), Json({{"weight_bits", 16}}),
                          Json({{"weight_bits", 8}, {"activation_bits", 32}}),
                          Json({{"weight_bits", 8}, {"activation_bits", 8}}),
                          Json({{"weight_bits", 4}, {"activation_bits", 32}}),
                          Json({{"weight_bits", 4}, {"activation_bits", 8}})));
  EXPECT_FALSE(space.dimensions()[0].spec.ordered);
  EXPECT_NEAR(space.log10_size(), 4 * std::log10(6.0), 1e-12);
}

TEST(SearchSpace, DropsWhatNoKernelStandsFor) {
  const SearchSpace space = space_of(
      R"({"default": {"weight_bits": [32, 8, 1], "activation_bits": [16, 8, 1]}})");
  EXPECT_THAT(space.dimensions()[0].values,
              ElementsAre(Json::object(), Json({{"weight_bits", 8}, {"activation_bits", 8}}),
                          Json({{"weight_bits", 1}, {"activation_bits", 8}}),
                          Json({{"weight_bits", 1}, {"activation_bits", 1}})));
  EXPECT_TRUE(space.dimensions()[0].spec.ordered);
}

TEST(SearchSpace, TakesWhatALayerSupports) {
  ModelInfo info = model();
  info.layers[1].weight_bits = {32, 8};
  info.layers[3].weight_bits = {32};
  const SearchSpace space =
      space_of(R"({"default": {"weight_bits": [4, 8], "activation_bits": [8]}})", info);
  EXPECT_THAT(names(space), ElementsAre("conv1.precision", "conv3.precision"));
  const auto plan = space.plan({1, 0});
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->layer("conv1").weight_bits, 4);
  EXPECT_EQ(plan->layer("conv2").weight_bits, 8);  // its only choice
  EXPECT_EQ(plan->layer("conv3").weight_bits, 8);
  EXPECT_EQ(plan->layer("fc").weight_bits, 32);    // supports none of them: stays as it is
  EXPECT_FALSE(plan->names("fc"));
}

TEST(SearchSpace, PrunesTiedChannelsTogetherAndLeavesOthersAlone) {
  const SearchSpace space = space_of(
      R"({"default": {"prune": {"structure": "channel", "ratios": [0.5, 0, 0.25]}}})");
  EXPECT_THAT(names(space), ElementsAre("conv1.prune", "conv3.prune"));
  EXPECT_THAT(space.dimensions()[0].layers, ElementsAre("conv1", "conv2"));
  EXPECT_TRUE(space.dimensions()[0].spec.ordered);
  const auto plan = space.plan({2, 1});
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->layer("conv1").prune.ratio, 0.5);
  EXPECT_EQ(plan->layer("conv2").prune.ratio, 0.5);
  EXPECT_EQ(plan->layer("conv3").prune.ratio, 0.25);
  EXPECT_EQ(plan->layer("fc").prune.ratio, 0);
}

TEST(SearchSpace, GroupTakesOnlyWhatAllItsMembersAllow) {
  const SearchSpace space = space_of(R"({
      "default": {"prune": {"structure": "channel", "ratios": [0, 0.25, 0.5]}},
      "layers": [{"match": "conv2", "prune": {"structure": "channel", "ratios": [0, 0.25]}}]})");
  EXPECT_EQ(space.dimensions()[0].spec.choices, 2);
  const SearchSpace fixed = space_of(R"({
      "default": {"prune": {"structure": "channel", "ratios": [0, 0.25, 0.5]}},
      "layers": [{"match": "conv2", "prune": {"structure": "channel", "ratios": [0]}}]})");
  EXPECT_THAT(names(fixed), ElementsAre("conv3.prune"));
  EXPECT_THAT(error_of(R"({
      "layers": [{"match": "conv1", "prune": {"structure": "channel", "ratios": [0.5]}},
                 {"match": "conv2", "prune": {"structure": "channel", "ratios": [0.25]}}]})"),
              HasSubstr("conv1 and conv2 lose their channels together"));
}

TEST(SearchSpace, UnstructuredAndBlockPruningIsEachLayersOwn) {
  const SearchSpace space = space_of(R"({"default": {"prune": [
      {"structure": "unstructured", "ratios": [0, 0.5]}, {"structure": "4:8"}]}})");
  EXPECT_THAT(names(space), ElementsAre("conv1.prune", "conv2.prune", "conv3.prune", "fc.prune"));
  EXPECT_EQ(space.dimensions()[3].spec.choices, 3);
}

TEST(SearchSpace, RankAndCodebookAreDimensionsOfTheirOwn) {
  const SearchSpace space = space_of(R"({"layers": [
      {"match": "fc", "rank": [1, 0.25, 0.5], "codebook": [16, 0, 64]}]})");
  EXPECT_THAT(names(space), ElementsAre("fc.rank", "fc.codebook"));
  const auto plan = space.plan({2, 1});
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->layer("fc").rank.share, 0.25);
  EXPECT_EQ(plan->layer("fc").codebook.entries, 64);
  EXPECT_EQ(space.plan({0, 0})->canonical(), "{}");
}

TEST(SearchSpace, ACodebookBesideSignsIsNone) {
  const SearchSpace space = space_of(R"({"layers": [
      {"match": "fc", "weight_bits": [32, 8, "ternary", 1], "codebook": [0, 16]}]})");
  ASSERT_THAT(names(space), ElementsAre("fc.precision", "fc.codebook"));
  for (int bits = 0; bits < 4; ++bits) {
    EXPECT_EQ(space.plan({bits, 1})->layer("fc").codebook.entries, bits < 2 ? 16 : 0) << bits;
  }
}

TEST(SearchSpace, TakesGroupsAndCodebooksOnlyWhereALayerHasThem) {
  ModelInfo info = model();
  for (LayerInfo& layer : info.layers) {
    layer.granularities = {"channel", "tensor"};
    layer.codebook = layer.name == "fc";
  }
  info.layers.back().granularities.emplace_back("group:N");
  const auto space = SearchSpace::build(
      definition(R"({"default": {"weight_bits": [4, 1], "activation_bits": [32, 8], "granularity": ["channel", "group:32"],
                     "codebook": [0, 16]}})"),
      info);
  ASSERT_TRUE(space.has_value()) << space.error().message;
  // 4 bits by channel with either activations, 1 bit likewise; groups with 4 and 32 bits only.
  EXPECT_EQ(space->dimensions()[0].spec.choices, 4);
  const Dimension& fc = space->dimensions()[space->dimensions().size() - 2];
  EXPECT_EQ(fc.spec.name, "fc.precision");
  EXPECT_EQ(fc.spec.choices, 5);
  EXPECT_EQ(space->dimensions().size(), 5U);  // one codebook
}

TEST(SearchSpace, LaterRulesWinKeyByKey) {
  const SearchSpace space = space_of(R"({
      "default": {"weight_bits": [32], "activation_bits": [8]},
      "layers": [{"match": "conv*", "weight_bits": [8, 4]}, {"match": "conv2", "weight_bits": [2, 8]}]})");
  EXPECT_THAT(names(space), ElementsAre("conv1.precision", "conv2.precision", "conv3.precision"));
  EXPECT_EQ(space.dimensions()[1].values[1], Json({{"weight_bits", 2}, {"activation_bits", 8}}));
}

TEST(SearchSpace, NamesPatternsAndTiesThatMatchNothing) {
  EXPECT_THAT(error_of(R"({"layers": [{"match": "convl", "weight_bits": [8]}]})"),
              testing::AllOf(HasSubstr("study.space.layers[0].match"), HasSubstr("\"convl\""),
                             HasSubstr("did you mean \"conv1\"")));
  EXPECT_THAT(error_of(R"({"layers": [{"match": "attention/*", "weight_bits": [8]}]})"),
              HasSubstr("\"attention/*\" names no layer"));
  EXPECT_THAT(error_of(R"({"ties": [["conv1", "conv9"]]})"), HasSubstr("\"conv9\""));
}

TEST(SearchSpace, RefusesARuleThatGivesANamedLayerNothing) {
  EXPECT_THAT(error_of(R"({"layers": [{"match": "fc",
                           "prune": {"structure": "channel", "ratios": [0.5]}}]})"),
              HasSubstr("layer fc supports none of its choices of prune"));
  EXPECT_THAT(error_of(R"({"layers": [{"match": "fc", "weight_bits": [8], "activation_bits": [16]}]})"),
              HasSubstr("layer fc supports none of its combinations"));
}

TEST(SearchSpace, TiesMergeDimensions) {
  const SearchSpace space = space_of(R"({
      "default": {"weight_bits": [4, 8, 32], "activation_bits": [8],
                  "prune": {"structure": "channel", "ratios": [0, 0.5]}},
      "layers": [{"match": "fc", "weight_bits": [8, 32]}],
      "ties": [["conv3", "fc"], ["conv2", "conv3"]]})");
  // conv2, conv3 and fc share their precisions; the group of conv1 and conv2 takes conv3's channels
  // along, and fc, whose outputs stay, keeps all of them.
  EXPECT_THAT(names(space), ElementsAre("conv1.precision", "conv2.precision"));
  EXPECT_THAT(space.dimensions()[1].layers, ElementsAre("conv2", "conv3", "fc"));
  EXPECT_EQ(space.dimensions()[1].spec.choices, 2);
  EXPECT_THAT(error_of(R"({"layers": [{"match": "fc", "weight_bits": [8], "activation_bits": [8]}],
                           "ties": [["conv3", "fc"]]})"),
              HasSubstr("layers conv3 and fc share no choice of precision"));
}

TEST(SearchSpace, GlobalSettingsThatChangeNothingGiveTheSamePlan) {
  const SearchSpace space = space_of(R"({
      "default": {"weight_bits": [8, 32], "activation_bits": [8]},
      "global": {"range": ["entropy", "minmax"], "recovery": ["bias_correction", "none"],
                 "equalize": [true, false]}})");
  EXPECT_THAT(names(space), ElementsAre("conv1.precision", "conv2.precision", "conv3.precision",
                                        "fc.precision", "global.equalize", "global.range",
                                        "global.recovery"));
  const std::string baseline = space.fingerprint(space.baseline());
  EXPECT_EQ(baseline, "{}");
  EXPECT_EQ(space.fingerprint({0, 0, 0, 0, 1, 1, 1}), baseline);
  EXPECT_NE(space.fingerprint({1, 0, 0, 0, 0, 0, 0}), space.fingerprint({1, 0, 0, 0, 0, 1, 0}));
  EXPECT_NE(space.fingerprint({1, 0, 0, 0, 0, 0, 0}), space.fingerprint({1, 0, 0, 0, 0, 0, 1}));
  EXPECT_TRUE(space.plan(space.baseline())->is_baseline());
}

TEST(SearchSpace, GlobalBitsReachOnlyLayersThatSupportThem) {
  ModelInfo info = model();
  info.layers[3].weight_bits = {32};
  const SearchSpace space = space_of(R"({
      "layers": [{"match": "conv1", "weight_bits": [32]}],
      "global": {"weight_bits": [32, 8], "activation_bits": 8}})", info);
  EXPECT_THAT(names(space), ElementsAre("global.weight_bits"));
  const auto plan = space.plan({1});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_THAT(plan->named_layers(), ElementsAre("conv2", "conv3"));
  EXPECT_EQ(plan->layer("conv2").weight_bits, 8);
  EXPECT_EQ(plan->layer("conv2").activation_bits, 8);
  EXPECT_EQ(plan->layer("conv1").weight_bits, 32);
  EXPECT_EQ(space.fingerprint({0}), "{}");
}

TEST(SearchSpace, NoChoicesAtAllIsThePointOfTheBaseline) {
  const SearchSpace space = space_of(R"({})");
  EXPECT_TRUE(space.dimensions().empty());
  EXPECT_TRUE(space.plan({})->is_baseline());
  EXPECT_THAT(space.anchors(), ElementsAre(Choices{}));
  EXPECT_EQ(space.log10_size(), 0);
}

TEST(SearchSpace, RefusesIndicesOutOfRange) {
  const SearchSpace space = space_of(R"({"default": {"weight_bits": [8, 32], "activation_bits": [8]}})");
  EXPECT_FALSE(space.plan({0, 0, 0}).has_value());
  EXPECT_FALSE(space.plan({0, 0, 0, 2}).has_value());
  EXPECT_FALSE(space.plan({0, 0, 0, -1}).has_value());
  EXPECT_EQ(space.fingerprint({0, 0, 0, 2}), "");
}

constexpr const char* kDefaultLike = R"({
    "default": {"weight_bits": [4, 8, 16, 32], "activation_bits": [8, 32],
                "prune": {"structure": "channel", "ratios": [0, 0.25, 0.5]}},
    "global": {"range": ["minmax", "percentile"], "recovery": ["none", "bias_correction"]}})";

TEST(SearchSpace, AnchorsStartAtTheBaselineAndAreDistinct) {
  const SearchSpace space = space_of(kDefaultLike);
  const auto anchors = space.anchors();
  EXPECT_LE(anchors.size(), 8U);
  EXPECT_GE(anchors.size(), 6U);
  EXPECT_TRUE(space.plan(anchors[0])->is_baseline());
  std::set<std::string> plans;
  for (const Choices& anchor : anchors) plans.insert(space.fingerprint(anchor));
  EXPECT_EQ(plans.size(), anchors.size());
  // Then everything in 8-bit integers, then that with each share of channels removed.
  const auto integers = space.plan(anchors[1]);
  const auto pruned = space.plan(anchors[3]);
  for (const char* name : {"conv1", "conv2", "conv3", "fc"}) {
    EXPECT_TRUE(integers->layer(name).runs_as_integers());
    EXPECT_EQ(integers->layer(name).weight_bits, 8);
    EXPECT_EQ(pruned->layer(name).prune.ratio, std::string(name) == "fc" ? 0 : 0.5);
  }
}

TEST(SearchSpace, FindsThePointOfAPlan) {
  const SearchSpace space = space_of(kDefaultLike);
  std::mt19937 random(2);
  for (int round = 0; round < 50; ++round) {
    Choices choices;
    for (const DimensionSpec& spec : space.specs()) {
      choices.push_back(std::uniform_int_distribution<int>(0, static_cast<int>(spec.choices) - 1)(random));
    }
    const auto plan = space.plan(choices);
    ASSERT_TRUE(plan.has_value());
    const auto found = space.choices_of(*plan);
    ASSERT_TRUE(found.has_value()) << plan->canonical();
    EXPECT_EQ(space.fingerprint(*found), plan->canonical());
  }
  const auto foreign = CompressionPlan::parse(Json::parse(R"({"layers": {"fc": {"weight_bits": 3}}})"));
  EXPECT_FALSE(space.choices_of(*foreign).has_value());
}

TEST(SearchSpace, PlansSurviveTheirJson) {
  const SearchSpace space = space_of(kDefaultLike);
  for (const Choices& anchor : space.anchors()) {
    const auto plan = space.plan(anchor);
    ASSERT_TRUE(plan.has_value());
    const auto again = CompressionPlan::parse(plan->to_json());
    ASSERT_TRUE(again.has_value()) << again.error().message;
    EXPECT_EQ(again->canonical(), plan->canonical());
  }
}

TEST(SearchSpace, OtherPrecisionKeysMultiply) {
  const SearchSpace space = space_of(R"({"layers": [{"match": "fc", "weight_bits": [8, 32],
      "activation_bits": [8], "granularity": ["channel", "tensor"], "rounding": ["nearest", "adaptive"]}]})");
  EXPECT_EQ(space.dimensions()[0].spec.choices, 5);  // f32, and four kinds of 8 bits
  EXPECT_FALSE(space.dimensions()[0].spec.ordered);
}

TEST(SearchSpace, BoundsTheCombinationsOfALayer) {
  Json rule = {{"match", "fc"}};
  rule["weight_bits"] = {32, 16, 8, 7, 6, 5, 4, 3, 2, 1};
  rule["granularity"] = Json::array();
  for (int i = 1; i <= 60; ++i) rule["granularity"].push_back("group:" + std::to_string(i));
  rule["range"] = {"minmax", "percentile", "entropy", "mse"};
  rule["weight_range"] = {"minmax", "percentile", "entropy", "mse"};
  EXPECT_THAT(error_of(Json({{"layers", {rule}}}).dump().c_str()), HasSubstr("more than 4096"));
}

TEST(SearchSpace, SaysWhatItsDimensionsAre) {
  const SearchSpace space = space_of(R"({"layers": [{"match": "fc", "rank": [1, 0.5]}]})");
  EXPECT_EQ(space.to_json().dump(),
            R"([{"layers":["fc"],"name":"fc.rank","ordered":true,"values":[{},{"rank":{"form":"svd","share":0.5}}]}])");
}

TEST(SearchSpace, RanksRoundingsAndScoresThatALayerCannotTakeAreLeftOut) {
  ModelInfo info = model();
  info.layers[2].rank_forms = {"svd", "spatial"};
  info.layers[2].roundings = {"nearest"};
  info.layers[2].prune_scores = {"l1", "taylor"};
  const SearchSpace space = space_of(
      R"({"layers": [{"match": "conv3", "weight_bits": [32, 4], "rounding": ["nearest", "adaptive"],
          "rank": [1, {"share": 0.5, "form": "tucker"}, {"share": 0.4, "form": "spatial"}],
          "prune": [{"structure": "channel", "ratio": 0.5, "score": "bn"},
                    {"structure": "channel", "ratio": 0.5, "score": "wanda"},
                    {"structure": "channel", "ratio": 0.5},
                    {"structure": "channel", "ratio": 0.25, "score": "taylor"}]}]})",
      info);
  const std::string text = canonical_text(space.to_json());
  for (const char* gone : {"tucker", "adaptive", "wanda", "\"bn\""})
    EXPECT_EQ(text.find(gone), std::string::npos) << text;
  for (const char* there : {"spatial", "nearest", "taylor"})
    EXPECT_NE(text.find(there), std::string::npos) << text;
  const auto refused = SearchSpace::build(
      definition(R"({"layers": [{"match": "conv3", "rank": [{"share": 0.5, "form": "tucker"}]}]})"), info);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message,
              HasSubstr("choices of rank; it supports [\"svd\",\"spatial\"]"));
}

}  // namespace
}  // namespace kerf::search
