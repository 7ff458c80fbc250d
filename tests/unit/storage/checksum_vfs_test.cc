#include "storage/sqlite/checksum_vfs.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

namespace kerf::storage {
namespace {

using Page = std::array<std::byte, kPageSize>;

Page random_page(unsigned seed) {
  std::mt19937 random(seed);
  Page page;
  for (std::byte& b : page) b = static_cast<std::byte>(random() & 0xFFU);
  return page;
}

TEST(PageChecksum, EveryFlippedBitChangesIt) {
  Page page = random_page(1);
  const std::uint64_t right = page_checksum(page, 3);
  for (std::size_t bit = 0; bit < (kPageSize - kPageReserved) * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    page[bit / 8] ^= mask;
    ASSERT_NE(page_checksum(page, 3), right) << "bit " << bit;
    page[bit / 8] ^= mask;
  }
  EXPECT_EQ(page_checksum(page, 3), right);
}

TEST(PageChecksum, KnowsWhereThePageBelongs) {
  const Page page = random_page(2);
  EXPECT_NE(page_checksum(page, 3), page_checksum(page, 4));
}

TEST(PageChecksum, IgnoresTheReservedBytes) {
  Page page = random_page(3);
  const std::uint64_t right = page_checksum(page, 0);
  page[kPageSize - 1] ^= std::byte{0xFF};
  page[kPageSize - kPageReserved] ^= std::byte{0xFF};
  EXPECT_EQ(page_checksum(page, 0), right);
}

TEST(PageChecksum, IsFrozen) {
  Page page{};
  page[0] = std::byte{1};
  page[100] = std::byte{0xAB};
  EXPECT_EQ(page_checksum(page, 5), 4483441559103376859ULL);
}

}  // namespace
}  // namespace kerf::storage
