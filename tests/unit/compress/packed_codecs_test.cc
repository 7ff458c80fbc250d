// The parts of a packed file: checksums, codes, runs of bytes, tensors, texts.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <queue>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/packed/byte_stream.h"
#include "workers/compress/packed/crc32c.h"
#include "workers/compress/packed/huffman.h"
#include "workers/compress/packed/tensor_codec.h"
#include "workers/compress/packed/text_codec.h"

namespace kerf::compress::packed {
namespace {

using graph::DType;
using testing::Numbers;
using testing::Tensor;

TEST(Crc32c, MatchesThePublishedValues) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43U);
  EXPECT_EQ(crc32c(""), 0U);
}

std::uint64_t total_bits(const Counts& counts, const CodeLengths& lengths) {
  std::uint64_t sum = 0;
  for (std::size_t s = 0; s < 256; ++s) sum += counts[s] * lengths[s];
  return sum;
}

/// The cost of the best prefix code with lengths up to `limit`: every assignment is tried.
std::uint64_t brute_force(const std::vector<std::uint64_t>& counts, std::size_t at, unsigned used,
                          int limit, std::uint64_t so_far) {
  const unsigned whole = 1U << static_cast<unsigned>(limit);
  if (at == counts.size()) return used <= whole ? so_far : ~0ULL;
  std::uint64_t best = ~0ULL;
  for (int length = 1; length <= limit; ++length) {
    const unsigned more = used + (whole >> static_cast<unsigned>(length));
    if (more > whole) continue;
    best = std::min(best, brute_force(counts, at + 1, more, limit,
                                      so_far + counts[at] * static_cast<unsigned>(length)));
  }
  return best;
}

TEST(Huffman, CodesAreTheShortestUnderTheLimit) {
  Numbers numbers(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint64_t> some(static_cast<std::size_t>(2 + numbers.below(6)));
    Counts counts{};
    for (std::size_t i = 0; i < some.size(); ++i) {
      some[i] = 1ULL << static_cast<unsigned>(numbers.below(14));
      counts[i * 17] = some[i];
    }
    for (const int limit : {3, 4}) {
      EXPECT_EQ(total_bits(counts, code_lengths(counts, limit)), brute_force(some, 0, 0, limit, 0));
    }
  }
}

TEST(Huffman, WithoutNeedOfALimitIsHuffmansCost) {
  Numbers numbers(12);
  for (int round = 0; round < 20; ++round) {
    Counts counts{};
    std::priority_queue<std::uint64_t, std::vector<std::uint64_t>, std::greater<>> queue;
    for (std::size_t s = 0; s < 256; ++s) {
      counts[s] = static_cast<std::uint64_t>(100 + numbers.below(400));
      queue.push(counts[s]);
    }
    std::uint64_t cost = 0;
    while (queue.size() > 1) {
      std::uint64_t joined = queue.top();
      queue.pop();
      joined += queue.top();
      queue.pop();
      cost += joined;
      queue.push(joined);
    }
    EXPECT_EQ(total_bits(counts, code_lengths(counts, kLongestCode)), cost);
  }
}

TEST(Huffman, FibonacciCountsStayWithinTheLimit) {
  Counts counts{};
  std::uint64_t a = 1;
  std::uint64_t b = 1;
  for (std::size_t s = 0; s < 40; ++s) {
    counts[s] = a;
    a = std::exchange(b, a + b);
  }
  const CodeLengths lengths = code_lengths(counts, kLongestCode);
  EXPECT_EQ(*std::max_element(lengths.begin(), lengths.end()), kLongestCode);
  std::string bytes;
  Writer writer(bytes);
  write_lengths(lengths, writer);
  EXPECT_EQ(bytes.size(), lengths_size(lengths));
  Reader reader(bytes);
  CodeLengths back;
  ASSERT_TRUE(read_lengths(reader, back));  // which asks for a complete code
  EXPECT_EQ(back, lengths);
}

std::vector<std::uint8_t> run_of(std::size_t size, int kind, Numbers& numbers) {
  std::vector<std::uint8_t> out(size);
  for (std::uint8_t& byte : out) {
    switch (kind) {
      case 0: byte = 7; break;
      case 1: byte = static_cast<std::uint8_t>(numbers.below(256)); break;
      case 2: byte = static_cast<std::uint8_t>(std::lround(numbers.normal() * 20)); break;
      case 3: byte = static_cast<std::uint8_t>(std::lround(numbers.normal() * 2)); break;
      case 4: byte = static_cast<std::uint8_t>(numbers.below(2)); break;
      case 5: byte = static_cast<std::uint8_t>(250 + numbers.below(6)); break;
      default: byte = static_cast<std::uint8_t>(std::countr_zero(static_cast<std::uint32_t>(numbers.below(1 << 30)) | 1U << 30U)); break;
    }
  }
  return out;
}

TEST(ByteStream, ComesBackAndItsSizeIsKnownBefore) {
  Numbers numbers(13);
  for (const std::size_t size : {0U, 1U, 2U, 7U, 63U, 1000U, 1023U, 1024U, 1025U, 1026U, 1027U, 5000U, 70001U}) {
    for (int kind = 0; kind < 7; ++kind) {
      for (const std::uint8_t flip : {0, 0x80}) {
        const auto bytes = run_of(size, kind, numbers);
        const StreamPlan plan(bytes, flip);
        std::string out;
        Writer writer(out);
        plan.write(bytes, writer, out);
        ASSERT_EQ(out.size(), plan.size()) << size << " " << kind;
        std::vector<std::uint8_t> back(size);
        Reader reader(out);
        ASSERT_TRUE(read_stream(reader, flip, back)) << size << " " << kind;
        EXPECT_TRUE(reader.finished());
        EXPECT_EQ(back, bytes) << size << " " << kind;
        EXPECT_LE(plan.size(), 3 + size);
      }
    }
  }
}

TEST(ByteStream, IsNearTheEntropyOfNormalIntegers) {
  Numbers numbers(14);
  const auto bytes = run_of(100000, 2, numbers);
  std::array<double, 256> counts{};
  for (const std::uint8_t byte : bytes) ++counts[byte];
  double bits = 0;
  for (const double count : counts) bits -= count > 0 ? count * std::log2(count / 100000.0) : 0;
  EXPECT_LT(static_cast<double>(StreamPlan(bytes, 0x80).size()), bits / 8 * 1.01 + 200);
}

std::string packed_tensor(const Tensor& tensor) {
  const TensorPlan plan(tensor);
  std::string out;
  plan.write(out);
  EXPECT_EQ(out.size(), plan.size());
  return out;
}

void expect_back(const Tensor& tensor) {
  const std::string bytes = packed_tensor(tensor);
  Tensor back;
  ASSERT_TRUE(read_tensor(bytes, tensor.dtype(), tensor.shape(), back));
  if (tensor.bytes() > 0) {
    EXPECT_EQ(std::memcmp(back.raw(), tensor.raw(), tensor.bytes()), 0);
  }
}

TEST(TensorCodec, EveryTypeComesBackBitForBit) {
  Numbers numbers(15);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kS8, DType::kU8, DType::kS16,
                            DType::kU16, DType::kS32, DType::kU32, DType::kS64, DType::kU64, DType::kBool, DType::kS4, DType::kU4}) {
    for (const std::int64_t count : {1, 5, 300, 5000}) {
      for (const std::int64_t zeros : {0, 3, 50, 99, 100}) {
        Tensor tensor(dtype, {count});
        auto* bytes = reinterpret_cast<std::uint8_t*>(tensor.mutable_raw());
        const std::size_t element = graph::element_size(dtype);
        for (std::size_t i = 0; i < tensor.bytes(); i += element) {
          if (numbers.below(100) < zeros) continue;
          for (std::size_t k = 0; k < element; ++k) bytes[i + k] = static_cast<std::uint8_t>(numbers.below(k == 1 ? 3 : 256));
        }
        expect_back(tensor);
      }
    }
  }
}

TEST(TensorCodec, OddFloatsComeBackToo) {
  expect_back(Tensor::f32({8}, {NAN, -NAN, INFINITY, -INFINITY, -0.0F, 0.0F, 1e-45F, 3.4e38F}));
  expect_back(Tensor(DType::kF32, {0}));
  expect_back(Tensor(DType::kF32, {4096}));
  expect_back(Tensor(DType::kF32, {1000, 1000}));
  expect_back(Tensor::scalar(2.5F));
}

TEST(TensorCodec, TakesTheSmallestForm) {
  Numbers numbers(16);
  Tensor dense = numbers.tensor({100, 100});
  EXPECT_FALSE(TensorPlan(dense).sparse());
  EXPECT_LT(TensorPlan(dense).size(), 36500U);  // an exponent has few values
  Tensor sparse = dense;
  for (std::size_t i = 0; i < 10000; ++i) {
    if (i % 10 != 0) sparse.mutable_as<float>()[i] = 0;
  }
  EXPECT_TRUE(TensorPlan(sparse).sparse());
  EXPECT_LT(TensorPlan(sparse).size(), 3800U);
  Tensor shared = dense;
  for (float& value : shared.mutable_as<float>()) value = std::round(value * 4) / 4;
  EXPECT_TRUE(TensorPlan(shared).palette());
  EXPECT_LT(TensorPlan(shared).size(), 5500U);  // 4.05 bits of entropy each
  Tensor half = dense;
  for (float& value : half.mutable_as<float>()) value = graph::bf16_to_f32(graph::f32_to_bf16(value));
  EXPECT_LT(TensorPlan(half).size(), 16500U);
}

TEST(TensorCodec, DamageIsRefusedOrReadAsAnotherTensorButNeverMore) {
  Numbers numbers(17);
  Tensor sparse(DType::kS8, {3000});
  for (std::size_t i = 0; i < 3000; ++i) sparse.mutable_as<std::int8_t>()[i] = static_cast<std::int8_t>(numbers.below(6) == 0 ? std::lround(numbers.normal() * 20) : 0);
  Tensor palette(DType::kF32, {2000});
  for (float& value : palette.mutable_as<float>()) value = static_cast<float>(numbers.below(9));
  for (const Tensor& tensor : {sparse, palette, numbers.tensor({500})}) {
    const std::string bytes = packed_tensor(tensor);
    Tensor back;
    for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
      EXPECT_FALSE(read_tensor(bytes.substr(0, cut), tensor.dtype(), tensor.shape(), back)) << cut;
    }
    EXPECT_FALSE(read_tensor(bytes + '\0', tensor.dtype(), tensor.shape(), back));
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      for (const int flip : {1, 0x10, 0x80, 0xFF}) {
        std::string damaged = bytes;
        damaged[at] = static_cast<char>(damaged[at] ^ flip);
        if (read_tensor(damaged, tensor.dtype(), tensor.shape(), back)) {
          EXPECT_EQ(back.shape(), tensor.shape());
        }
      }
    }
    // Shapes that promise more than the bytes can hold take no memory.
    EXPECT_FALSE(read_tensor(bytes, tensor.dtype(), {1LL << 39}, back));
    EXPECT_FALSE(read_tensor(bytes, tensor.dtype(), {-1}, back));
  }
}

TEST(TextCodec, ShortensWhatRepeatsItselfAndGivesItBack) {
  Numbers numbers(18);
  std::string names;
  for (int i = 0; i < 200; ++i) {
    const std::string stem = "model/layer" + std::to_string(i) + "/conv.weight";
    for (const char* end : {"", ".integers", ".scale", ".zero_point", ".dequantize"}) names += stem + end;
  }
  EXPECT_LT(shorten(names).size(), names.size() / 12);
  std::string noise;
  for (int i = 0; i < 3000; ++i) noise.push_back(static_cast<char>(numbers.below(256)));
  EXPECT_LE(shorten(noise).size(), noise.size() + 1);
  for (const std::string& text : {std::string(), std::string("abc"), names, noise, std::string(100000, 'x'), names + noise + names}) {
    const std::string bytes = shorten(text);
    std::string back;
    Reader reader(bytes);
    ASSERT_TRUE(lengthen(reader, 1U << 24U, back));
    EXPECT_EQ(back, text);
    Reader small(bytes);
    if (!text.empty()) {
      EXPECT_FALSE(lengthen(small, text.size() - 1, back));
    }
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
      Reader in(damaged);
      if (lengthen(in, 1U << 24U, back)) {
        EXPECT_LE(back.size(), most_bytes_from(bytes.size()));
      }
    }
  }
}

}  // namespace
}  // namespace kerf::compress::packed
