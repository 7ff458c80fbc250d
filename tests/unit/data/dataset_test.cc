#include "workers/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/data/scratch.h"
#include "workers/data/npz.h"
#include "workers/data/zip_archive.h"

namespace kerf::data {
namespace {

using graph::DType;
using graph::Tensor;
using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(const Result<DataSet>& result) {
  return result.has_value() ? "no error" : result.error().message;
}

std::string big_endian(std::uint32_t value) {
  std::string out;
  for (const unsigned shift : {24U, 16U, 8U, 0U}) out += static_cast<char>(value >> shift);
  return out;
}

std::string chunk(const std::string& type, const std::string& body) {
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char c : type + body) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0U);
  }
  return big_endian(static_cast<std::uint32_t>(body.size())) + type + body + big_endian(~crc);
}

/// A PNG with 8-bit pixels, not compressed; grey where `channels` is 1.
std::string png(int width, int height, int channels, const std::string& pixels) {
  std::string rows;
  const auto row = static_cast<std::size_t>(width * channels);
  for (std::size_t at = 0; at < pixels.size(); at += row) rows += '\0' + pixels.substr(at, row);
  std::uint32_t a = 1;
  std::uint32_t b = 0;
  for (const char c : rows) {
    a = (a + static_cast<unsigned char>(c)) % 65521;
    b = (b + a) % 65521;
  }
  const auto size = static_cast<std::uint16_t>(rows.size());
  std::string zlib = "\x78\x01\x01";
  for (const std::uint16_t value : {size, static_cast<std::uint16_t>(~size)}) {
    zlib += static_cast<char>(value & 0xFFU);
    zlib += static_cast<char>(value >> 8U);
  }
  zlib += rows + big_endian((b << 16U) | a);
  std::string header = big_endian(static_cast<std::uint32_t>(width)) +
                       big_endian(static_cast<std::uint32_t>(height)) + '\x08';
  header += channels == 1 ? '\0' : '\2';
  header += std::string(3, '\0');
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + chunk("IDAT", zlib) + chunk("IEND", "");
}

std::string grey(const std::string& pixels) { return png(2, 2, 1, pixels); }

TEST(DataSet, NpzGivesInputsAndLabels) {
  const auto data = load_dataset(golden("numpy_stored.npz"));
  ASSERT_TRUE(data.has_value()) << data.error().message;
  EXPECT_EQ(data->samples, 2);
  EXPECT_THAT(data->inputs.at("x").shape(), ElementsAre(2, 3));
  EXPECT_THAT(data->labels->to_integers(), ElementsAre(0, 1));
  EXPECT_EQ(data->inputs.count("y"), 0U);
}

TEST(DataSet, FormatFollowsTheContentNotTheName) {
  const Scratch scratch;
  // Uploads are stored under their hash.
  const auto npz = load_dataset(scratch.write("c0ffee", file_bytes(golden("numpy_stored.npz"))));
  ASSERT_TRUE(npz.has_value()) << npz.error().message;
  EXPECT_EQ(npz->samples, 2);
  const auto csv = load_dataset(scratch.write("decade", "a,b\n1,2\n"));
  ASSERT_TRUE(csv.has_value()) << csv.error().message;
  EXPECT_EQ(csv->samples, 1);
  const auto bytes = npy_bytes(Tensor::f32({4}, {1, 2, 3, 4}));
  const auto npy = load_dataset(
      scratch.write("facade", {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  ASSERT_TRUE(npy.has_value()) << npy.error().message;
  EXPECT_EQ(npy->samples, 4);
}

TEST(DataSet, ATruncatedNpzIsNotTakenForText) {
  const Scratch scratch;
  EXPECT_THAT(error_of(load_dataset(scratch.write("eval.npz", "PK\3\4 and so on"))),
              HasSubstr("eval.npz: not a zip archive, or a truncated one"));
  EXPECT_THAT(error_of(load_dataset(scratch.write("empty.npz", ""))), HasSubstr("not a zip archive"));
}

TEST(DataSet, MissingFileIsNotFound) {
  const auto data = load_dataset("/nowhere/at/all.npz");
  ASSERT_FALSE(data.has_value());
  EXPECT_EQ(data.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(data.error().message, "/nowhere/at/all.npz: no such file");
}

TEST(DataSet, DevicesAndPipesAreRefused) {
  EXPECT_THAT(error_of(load_dataset("/dev/zero")), HasSubstr("expected a file or a folder"));
}

TEST(DataSet, LabelsOfAnotherCountAreRefused) {
  const Scratch scratch;
  ASSERT_TRUE(write_npz(scratch.path("e.npz"), {{"x", Tensor::f32({3}, {1, 2, 3})},
                                                {"y", Tensor::s64({2}, {0, 1})}}).has_value());
  EXPECT_THAT(error_of(load_dataset(scratch.path("e.npz"))),
              HasSubstr("e.npz: y has 2 entries; expected 3, one a sample of x"));
}

TEST(DataSet, AnArchiveWithoutSamplesIsRefused) {
  const Scratch scratch;
  ASSERT_TRUE(write_npz(scratch.path("e.npz"), {{"a", Tensor::scalar(1)}}).has_value());
  EXPECT_THAT(error_of(load_dataset(scratch.path("e.npz"))), HasSubstr("a is a single value"));
}

TEST(Csv, HeaderNamesTheLabelColumn) {
  const Scratch scratch;
  const auto data = load_dataset(scratch.write("d.csv", "\xEF\xBB\xBFwidth, label ,height\r\n1.5,0,2\r\n\r\n3,2,-4e1\r\n"));
  ASSERT_TRUE(data.has_value()) << data.error().message;
  EXPECT_THAT(data->inputs.at("x").shape(), ElementsAre(2, 2));
  EXPECT_THAT(data->inputs.at("x").to_floats(), ElementsAre(1.5, 2, 3, -40));
  EXPECT_EQ(data->labels->dtype(), DType::kS64);
  EXPECT_THAT(data->labels->to_integers(), ElementsAre(0, 2));
  EXPECT_FALSE(data->last_column.has_value());
}

TEST(Csv, LabelsWithAFractionAreTargets) {
  const Scratch scratch;
  const auto data = load_dataset(scratch.write("d.csv", "a,y\n1,2\n3,2.5\n"));
  ASSERT_TRUE(data.has_value());
  EXPECT_EQ(data->labels->dtype(), DType::kF32);
  EXPECT_THAT(data->labels->to_floats(), ElementsAre(2, 2.5));
}

TEST(Csv, WithoutHeaderTheLastColumnMayBeTheLabel) {
  const Scratch scratch;
  const auto data = load_dataset(scratch.write("d.csv", "1,2,0\n3,4,1"));
  ASSERT_TRUE(data.has_value());
  EXPECT_THAT(data->inputs.at("x").shape(), ElementsAre(2, 3));
  EXPECT_FALSE(data->labels.has_value());
  EXPECT_THAT(data->last_column->to_integers(), ElementsAre(0, 1));
}

TEST(Csv, QuotedCellsAreRead) {
  const Scratch scratch;
  const auto data = load_dataset(scratch.write("d.csv", "\"a, \"\"b\"\"\",y\n\"1\", \"2\" \n"));
  ASSERT_TRUE(data.has_value()) << data.error().message;
  EXPECT_THAT(data->inputs.at("x").to_floats(), ElementsAre(1));
  EXPECT_THAT(data->labels->to_integers(), ElementsAre(2));
}

TEST(Csv, BadTextIsNamedByLineAndColumn) {
  const Scratch scratch;
  const auto error = [&](const std::string& text) { return error_of(load_dataset(scratch.write("d.csv", text))); };
  EXPECT_THAT(error("1,2\n3,\n"), HasSubstr("d.csv:2: column 2 is ''; expected a number"));
  EXPECT_THAT(error("a,b\n1,2\n3,cat\n"), HasSubstr("d.csv:3: column 2 is 'cat'; expected a number"));
  EXPECT_THAT(error("1,2\n3\n"), HasSubstr("d.csv:2: 1 columns; expected 2"));
  EXPECT_THAT(error("a,\"b\n1,2\n"), HasSubstr("d.csv:1: a quote that doesn't end"));
  EXPECT_THAT(error("a,b\n"), HasSubstr("a header and no rows"));
  EXPECT_THAT(error("\n\n"), HasSubstr("d.csv: empty"));
  EXPECT_THAT(error("y\n1\n"), HasSubstr("holds labels alone"));
  EXPECT_THAT(error(std::string("1,2\n3,\x01\x02\n")), HasSubstr("column 2 is '?\?'"));
}

TEST(Images, FolderBecomesPlanesWithLabels) {
  const Scratch scratch;
  scratch.write("set/a.png", grey("abcd"));
  scratch.write("set/deeper/b.png", grey("efgh"));
  scratch.write("set/labels.csv", "file,label\na.png,3\ndeeper/b.png,0\n");
  const auto data = load_dataset(scratch.path("set"));
  ASSERT_TRUE(data.has_value()) << data.error().message;
  const Tensor& x = data->inputs.at("x");
  EXPECT_EQ(x.dtype(), DType::kU8);
  EXPECT_THAT(x.shape(), ElementsAre(2, 1, 2, 2));
  EXPECT_THAT(x.to_integers(), ElementsAre('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'));
  EXPECT_THAT(data->labels->to_integers(), ElementsAre(3, 0));
  EXPECT_TRUE(data->images);
}

TEST(Images, ColourComesAsThreePlanes) {
  const Scratch scratch;
  scratch.write("set/c.png", file_bytes(golden("colour.png")));
  scratch.write("set/labels.csv", "c.png,1\n");
  const auto data = load_dataset(scratch.path("set"));
  ASSERT_TRUE(data.has_value()) << data.error().message;
  const Tensor& x = data->inputs.at("x");
  ASSERT_THAT(x.shape(), ElementsAre(1, 3, 3, 4));
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 4; ++column) {
      const auto at = [&](int plane) { return x.as<std::uint8_t>()[static_cast<std::size_t>((plane * 3 + row) * 4 + column)]; };
      EXPECT_EQ(at(0), 10 * column);
      EXPECT_EQ(at(1), 20 * row);
      EXPECT_EQ(at(2), column + row);
    }
  }
}

TEST(Images, OneColourPictureMakesAllColour) {
  const Scratch scratch;
  scratch.write("set/a.png", grey("abcd"));
  scratch.write("set/b.png", png(2, 2, 3, "abcdefghijkl"));
  scratch.write("set/labels.csv", "a.png\nb.png\n");
  const auto data = load_dataset(scratch.path("set"));
  ASSERT_TRUE(data.has_value()) << data.error().message;
  EXPECT_THAT(data->inputs.at("x").shape(), ElementsAre(2, 3, 2, 2));
  EXPECT_FALSE(data->labels.has_value());
}

TEST(Images, AZipOfAFolderIsTheSame) {
  const Scratch scratch;
  const std::string picture = grey("abcd");
  const std::string labels = "file,label\na.png,2\n";
  const auto bytes = [](const std::string& text) {
    return std::span(reinterpret_cast<const std::byte*>(text.data()), text.size());
  };
  ASSERT_TRUE(write_zip(scratch.path("set.zip"),
                        {{"a.png", {bytes(picture)}}, {"labels.csv", {bytes(labels)}}}, true).has_value());
  const auto data = load_dataset(scratch.path("set.zip"));
  ASSERT_TRUE(data.has_value()) << data.error().message;
  EXPECT_THAT(data->inputs.at("x").to_integers(), ElementsAre('a', 'b', 'c', 'd'));
  EXPECT_THAT(data->labels->to_integers(), ElementsAre(2));
}

TEST(Images, APictureThatEndsEarlyIsRefused) {
  const Scratch scratch;
  // 2 × 2 pixels of 24 bits, bottom row first, rows padded to 4 bytes.
  const std::string header("BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\2\0\0\0\1\0\x18\0", 30);
  const std::string bmp = header + std::string(24, '\0') + std::string("cbaFED\0\0ihgLKJ\0\0", 16);
  scratch.write("set/labels.csv", "a.bmp,1\n");
  scratch.write("set/a.bmp", bmp);
  const auto data = load_dataset(scratch.path("set"));
  ASSERT_TRUE(data.has_value()) << data.error().message;
  EXPECT_THAT(data->inputs.at("x").to_integers(),
              ElementsAre('g', 'J', 'a', 'D', 'h', 'K', 'b', 'E', 'i', 'L', 'c', 'F'));
  scratch.write("set/a.bmp", bmp.substr(0, bmp.size() - 3));
  EXPECT_THAT(error_of(load_dataset(scratch.path("set"))), HasSubstr("damaged or truncated"));
}

TEST(Images, NamesThatLeaveTheFolderAreRefused) {
  const Scratch scratch;
  scratch.write("secret.png", grey("abcd"));
  scratch.write("set/a.png", grey("abcd"));
  std::filesystem::create_symlink(scratch.path("secret.png"), scratch.path("set/link.png"));
  for (const std::string name : {"../secret.png", "a/../../secret.png", "link.png"}) {
    scratch.write("set/labels.csv", name + ",1\n");
    EXPECT_THAT(error_of(load_dataset(scratch.path("set"))), HasSubstr("leaves the folder")) << name;
  }
  scratch.write("set/labels.csv", scratch.path("secret.png") + ",1\n");
  EXPECT_THAT(error_of(load_dataset(scratch.path("set"))), HasSubstr("leaves the folder"));
}

TEST(Images, BadFoldersAreNamed) {
  const Scratch scratch;
  const auto error = [&] { return error_of(load_dataset(scratch.path("set"))); };
  scratch.write("set/a.png", grey("abcd"));
  EXPECT_THAT(error(), HasSubstr("labels.csv: no such file"));
  scratch.write("set/labels.csv", "a.png,cat\n");
  EXPECT_THAT(error(), HasSubstr("labels.csv:1: label is 'cat'; expected a class's number"));
  scratch.write("set/labels.csv", "a.png,1\nb.png,1\n");
  EXPECT_THAT(error(), HasSubstr("b.png: no such file"));
  scratch.write("set/b.png", png(3, 2, 1, "abcdef"));
  EXPECT_THAT(error(), HasSubstr("'b.png' is 3×2; expected 2×2 as 'a.png'"));
  scratch.write("set/b.png", grey("abcd").substr(0, 50));
  EXPECT_THAT(error(), HasSubstr("'b.png' is damaged or truncated"));
  scratch.write("set/b.png", png(1 << 26, 1 << 26, 1, "ab"));
  EXPECT_THAT(error(), HasSubstr("'b.png' isn't a picture of at most 4096×4096"));
  scratch.write("set/b.png", "not a picture");
  EXPECT_THAT(error(), HasSubstr("'b.png' isn't a picture"));
  scratch.write("set/labels.csv", "file,label\n");
  EXPECT_THAT(error(), HasSubstr("names no files"));
  scratch.write("set/labels.csv", "a,b,c\n");
  EXPECT_THAT(error(), HasSubstr("3 columns; expected file,label"));
}

}  // namespace
}  // namespace kerf::data
