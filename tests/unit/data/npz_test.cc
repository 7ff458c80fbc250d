#include "workers/data/npz.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zip.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "tests/unit/data/scratch.h"

namespace kerf::data {
namespace {

using graph::DType;
using graph::Tensor;
using testing::ElementsAre;
using testing::HasSubstr;

std::string header_text(const std::string& dictionary, char major = 1) {
  std::string text = dictionary;
  const std::size_t preamble = major == 1 ? 10 : 12;
  while ((preamble + text.size() + 1) % 64 != 0) text += ' ';
  text += '\n';
  std::string out = "\x93NUMPY";
  out += major;
  out += '\0';
  out += static_cast<char>(text.size() & 0xFFU);
  out += static_cast<char>(text.size() >> 8U);
  if (major > 1) out += std::string(2, '\0');
  return out + text;
}

/// An archive as anybody may write it: any members, any content.
std::string archive(const Scratch& scratch, const std::vector<std::pair<std::string, std::string>>& members,
                    int method = ZIP_CM_DEFLATE) {
  const std::string path = scratch.path("made.npz");
  int code = 0;
  zip_t* zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  for (const auto& [name, bytes] : members) {
    zip_source_t* source = zip_source_buffer(zip, bytes.data(), bytes.size(), 0);
    const auto index = zip_file_add(zip, name.c_str(), source, ZIP_FL_ENC_UTF_8);
    zip_set_file_compression(zip, static_cast<zip_uint64_t>(index), method, 0);
  }
  EXPECT_EQ(zip_close(zip), 0);
  return path;
}

std::string npy(const std::string& dictionary, const std::string& data) {
  return header_text(dictionary) + data;
}

std::string error_of(const Result<Arrays>& result) {
  return result.has_value() ? "no error" : result.error().message;
}

TEST(Npz, ReadsEveryNumericTypeThatNumPyWrites) {
  std::map<std::string, std::string> left_out;
  const auto arrays = read_npz(golden("numpy_types.npz"), {}, &left_out);
  ASSERT_TRUE(arrays.has_value()) << arrays.error().message;
  const std::map<std::string, DType> types = {
      {"f2", DType::kF16}, {"f4", DType::kF32}, {"f8", DType::kF64}, {"i1", DType::kS8},
      {"i2", DType::kS16}, {"i4", DType::kS32}, {"i8", DType::kS64}, {"u1", DType::kU8},
      {"u2", DType::kU16}, {"u4", DType::kU32}, {"u8", DType::kU64}};
  for (const auto& [name, dtype] : types) {
    const Tensor& tensor = arrays->at(name);
    EXPECT_EQ(tensor.dtype(), dtype) << name;
    EXPECT_THAT(tensor.shape(), ElementsAre(2, 3)) << name;
    EXPECT_THAT(tensor.to_floats(), ElementsAre(0, 7, 14, 21, 28, 35)) << name;
  }
  EXPECT_EQ(arrays->at("b1").dtype(), DType::kBool);
  EXPECT_THAT(arrays->at("b1").to_integers(), ElementsAre(1, 0, 1, 0, 1, 0));
  EXPECT_THAT(arrays->at("big").to_integers(), ElementsAre(0, 1000, 2000, 3000, 4000, 5000));
  EXPECT_THAT(arrays->at("bigf").to_floats(), ElementsAre(0, 0.25, 0.5, 0.75, 1, 1.25));
  EXPECT_THAT(arrays->at("scalar").shape(), ElementsAre());
  EXPECT_EQ(arrays->at("scalar").to_floats().front(), 1.5F);
  EXPECT_THAT(arrays->at("empty").shape(), ElementsAre(0, 3));
  EXPECT_FALSE(arrays->contains("text"));
  EXPECT_EQ(left_out.at("text"), "text has dtype '<U3'; expected numbers");
}

TEST(Npz, FortranOrderBecomesRowMajor) {
  const auto arrays = read_npz(golden("numpy_types.npz"));
  ASSERT_TRUE(arrays.has_value());
  std::vector<std::int64_t> expected(24);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_THAT(arrays->at("fortran").shape(), ElementsAre(2, 3, 4));
  EXPECT_EQ(arrays->at("fortran").to_integers(), expected);
}

TEST(Npz, ReadsStoredMembers) {
  const auto arrays = read_npz(golden("numpy_stored.npz"));
  ASSERT_TRUE(arrays.has_value());
  EXPECT_THAT(arrays->at("x").to_floats(), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(arrays->at("y").dtype(), DType::kS64);
}

TEST(Npz, WhatIsWrittenIsReadBack) {
  const Scratch scratch;
  for (const bool compressed : {false, true}) {
    const Arrays arrays = {{"x", Tensor::f32({2, 2}, {1, -2, std::nanf(""), 4})},
                           {"ids", Tensor::s64({3}, {-1, 0, 1LL << 62U})},
                           {"one", Tensor::scalar(7)},
                           {"none", Tensor(DType::kU8, {0, 4})},
                           {"half", Tensor::of<std::uint16_t>(DType::kF16, {1}, {0x3C00})}};
    const std::string path = scratch.path("out.npz");
    ASSERT_TRUE(write_npz(path, arrays, compressed).has_value());
    const auto back = read_npz(path);
    ASSERT_TRUE(back.has_value()) << back.error().message;
    ASSERT_EQ(back->size(), arrays.size());
    for (const auto& [name, tensor] : arrays) {
      EXPECT_EQ(back->at(name).dtype(), tensor.dtype()) << name;
      EXPECT_EQ(back->at(name).shape(), tensor.shape()) << name;
      if (tensor.bytes() == 0) continue;
      EXPECT_EQ(std::memcmp(back->at(name).raw(), tensor.raw(), tensor.bytes()), 0) << name;
    }
  }
}

TEST(Npz, SameArraysGiveTheSameBytes) {
  const Scratch scratch;
  const Arrays arrays = {{"x", Tensor::f32({3}, {1, 2, 3})}};
  ASSERT_TRUE(write_npz(scratch.path("a.npz"), arrays).has_value());
  ASSERT_TRUE(write_npz(scratch.path("b.npz"), arrays).has_value());
  EXPECT_EQ(file_bytes(scratch.path("a.npz")), file_bytes(scratch.path("b.npz")));
}

TEST(Npz, HeaderIsWhatNumPyWrites) {
  // numpy.lib.format of np.zeros((2, 3), "f4") and of np.zeros(5, "u1"), NumPy 2.4.6.
  const auto text = [](const Tensor& tensor) {
    const auto bytes = npy_bytes(tensor);
    return std::string(reinterpret_cast<const char*>(bytes.data()), 128);
  };
  EXPECT_EQ(text(Tensor(DType::kF32, {2, 3})),
            header_text("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
  EXPECT_EQ(text(Tensor(DType::kU8, {5})),
            header_text("{'descr': '|u1', 'fortran_order': False, 'shape': (5,), }"));
}

TEST(Npz, BFloat16IsWrittenAsF32) {
  const Scratch scratch;
  ASSERT_TRUE(write_npz(scratch.path("b.npz"),
                        {{"x", Tensor::of<std::uint16_t>(DType::kBF16, {1}, {0x4000})}}).has_value());
  const auto back = read_npz(scratch.path("b.npz"));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->at("x").dtype(), DType::kF32);
  EXPECT_EQ(back->at("x").as<float>()[0], 2.0F);
}

TEST(Npz, ReadsVersionsTwoAndThree) {
  const Scratch scratch;
  for (const char version : {2, 3}) {
    const std::string bytes =
        header_text("{'descr': '|u1', 'fortran_order': False, 'shape': (2L,), }", version) + "\x05\x06";
    const auto arrays = read_npz(archive(scratch, {{"x.npy", bytes}}));
    ASSERT_TRUE(arrays.has_value()) << arrays.error().message;
    EXPECT_THAT(arrays->at("x").to_integers(), ElementsAre(5, 6));
  }
}

TEST(Npz, FileThatIsNotThereIsNotFound) {
  const auto arrays = read_npz("/nowhere/eval.npz");
  ASSERT_FALSE(arrays.has_value());
  EXPECT_EQ(arrays.error().code, ErrorCode::kNotFound);
}

TEST(Npz, WritingToAFolderThatIsNotThereIsAnError) {
  EXPECT_FALSE(write_npz("/nowhere/out.npz", {{"x", Tensor::scalar(1)}}).has_value());
}

TEST(Npz, EveryTruncationIsRefused) {
  const Scratch scratch;
  const std::string whole = file_bytes(golden("numpy_types.npz"));
  for (std::size_t size = 0; size < whole.size(); size += 7) {
    const auto arrays = read_npz(scratch.write("cut.npz", whole.substr(0, size)));
    ASSERT_FALSE(arrays.has_value()) << size;
    EXPECT_THAT(arrays.error().message, HasSubstr("cut.npz: ")) << size;
  }
}

TEST(Npz, DamagedBytesAreAnErrorOrUnchangedNumbers) {
  const Scratch scratch;
  const std::string whole = file_bytes(golden("numpy_stored.npz"));
  const auto reference = read_npz(golden("numpy_stored.npz"));
  ASSERT_TRUE(reference.has_value());
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    const auto arrays = read_npz(scratch.write("bad.npz", damaged));
    if (!arrays.has_value() || !arrays->contains("x")) continue;  // refused, or renamed in place
    EXPECT_EQ(arrays->at("x").to_floats(), reference->at("x").to_floats()) << "byte " << i;
  }
}

TEST(Npz, PythonObjectsAreRefusedAndNeverUnpickled) {
  const Scratch scratch;
  // A pickle that would run a command if somebody loaded it.
  const std::string pickle = "cos\nsystem\n(S'touch " + scratch.path("owned") + "'\ntR.";
  const auto arrays = read_npz(
      archive(scratch, {{"x.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle)}}));
  EXPECT_THAT(error_of(arrays), HasSubstr("made.npz: x has dtype '|O' (Python objects"));
  EXPECT_FALSE(std::filesystem::exists(scratch.path("owned")));
}

TEST(Npz, HostileHeadersAreNamedErrors) {
  const Scratch scratch;
  const std::string end = ", 'fortran_order': False, 'shape': ";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {npy("{'descr': '<f4'" + end + "(1099511627776, 1099511627776), }", "ab"), "at most 2^40 elements"},
      {npy("{'descr': '<f4'" + end + "(0, 9223372036854775807, 9223372036854775807), }", ""), "at most 2^40"},
      {npy("{'descr': '<f4'" + end + "(99999999999999999999,), }", ""), "a tuple of sizes"},
      {npy("{'descr': '<f4'" + end + "(-1,), }", ""), "a tuple of sizes"},
      {npy("{'descr': '<f4'" + end + "(1000000,), }", "abcd"), "expected 4000000"},
      {npy("{'descr': '<f4'" + end + "(1,), }", "abcdefgh"), "has 8 bytes of data; expected 4"},
      {npy("{'descr': '<f4'" + end + "(1,), 'descr': '|O'}", "abcd"), "once each"},
      {npy("{'descr': '<c8'" + end + "(1,), }", "abcdefgh"), "has dtype '<c8'"},
      {npy("{'descr': '<f16'" + end + "(1,), }", std::string(16, 'a')), "has dtype '<f16'"},
      {npy("{'descr': ''" + end + "(1,), }", "a"), "has dtype ''"},
      {npy("{'descr': __import__('os').system('true')" + end + "(1,), }", ""), "malformed header"},
      {npy("{'descr': '<f4'" + end + "(" + std::string(2000, '1') + ",), }", ""), "malformed header"},
      {npy("{'descr': '<f4'" + end + "(1," + [] {
         std::string ones;
         for (int i = 0; i < 40; ++i) ones += "1,";
         return ones;
       }() + "), }", "abcd"), "a tuple of sizes"},
      {npy("{'descr': '<f4", ""), "malformed header"},
      {npy("", ""), "a dictionary"},
      {std::string("\x93NUMPY\x01\x00\xFF\xFF{", 11), "ends within its header"},
      {std::string("\x93NUMPY\x02\x00\xFF\xFF\xFF\x7F{", 13), "header of 2147483647 bytes"},
      {std::string("\x93NUMPY\x09\x00", 8) + std::string(100, ' '), "version 9.0"},
      {"hello", "isn't a .npy array"},
      {"", "isn't a .npy array"},
      {npy("{'descr': '\n\x1b[31m'" + end + "(1,), }", ""), "has dtype '??[31m'"}};
  for (const auto& [bytes, expected] : cases) {
    const auto arrays = read_npz(archive(scratch, {{"x.npy", bytes}}));
    EXPECT_THAT(error_of(arrays), HasSubstr("made.npz: x ")) << expected;
    EXPECT_THAT(error_of(arrays), HasSubstr(expected));
    EXPECT_EQ(error_of(arrays).find('\n'), std::string::npos) << expected;
  }
}

TEST(Npz, StructuredTypesAreLeftOut) {
  const Scratch scratch;
  std::map<std::string, std::string> left_out;
  const auto arrays = read_npz(
      archive(scratch, {{"s.npy", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "abcd")},
                        {"notes.txt", "hello"}}),
      {}, &left_out);
  ASSERT_TRUE(arrays.has_value()) << arrays.error().message;
  EXPECT_TRUE(arrays->empty());
  EXPECT_EQ(left_out.at("s"), "s has a structured dtype; expected numbers");
  EXPECT_TRUE(left_out.contains("notes.txt"));
}

TEST(Npz, AnArchiveThatUnpacksAThousandfoldIsRefusedUnpacked) {
  const Scratch scratch;
  const std::string zeros = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3000000,), }",
                                std::string(3000000, '\0'));
  const std::string path = archive(scratch, {{"x.npy", zeros}});
  EXPECT_TRUE(read_npz(path).has_value()) << "small ones are let through";
  NpzLimits limits;
  limits.bomb_bytes = 1U << 20U;
  EXPECT_THAT(error_of(read_npz(path, limits)), HasSubstr("claims to unpack"));
}

TEST(Npz, LimitsHold) {
  const Scratch scratch;
  const std::string bytes =
      npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000,), }", std::string(1000, 'a'));
  NpzLimits limits;
  limits.bytes = 1500;
  EXPECT_THAT(error_of(read_npz(archive(scratch, {{"a.npy", bytes}, {"b.npy", bytes}}), limits)),
              HasSubstr("in all"));
  limits = {};
  limits.arrays = 1;
  EXPECT_THAT(error_of(read_npz(archive(scratch, {{"a.npy", bytes}, {"b.npy", bytes}}), limits)),
              HasSubstr("2 members; expected at most 1"));
}

TEST(Npz, NpyFileIsOneArray) {
  const Scratch scratch;
  const auto bytes = npy_bytes(Tensor::f32({2, 1}, {3, 4}));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto whole = read_npy(scratch.write("a.npy", text));
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  EXPECT_THAT(whole->to_floats(), ElementsAre(3, 4));
  EXPECT_FALSE(read_npy(scratch.write("b.npy", text.substr(0, text.size() - 1))).has_value());
  EXPECT_FALSE(read_npy(scratch.write("c.npy", text.substr(0, 20))).has_value());
}

}  // namespace
}  // namespace kerf::data
