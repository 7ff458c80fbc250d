#include "storage/file_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/sha256.h"
#include "store_fixture.h"

namespace kerf::storage {
namespace {

namespace fs = std::filesystem;

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int files_in(const std::string& directory) {
  return static_cast<int>(std::distance(fs::directory_iterator(directory), {}));
}

class FileStoreTest : public ::testing::Test {
 protected:
  FileStoreTest() : store_(std::move(FileStore::open(folder_.path()).value())) {}

  TemporaryDirectory folder_;
  FileStore store_;
};

TEST_F(FileStoreTest, PiecesBecomeOneFileUnderItsHash) {
  auto writer = store_.begin();
  ASSERT_TRUE(writer.has_value());
  ASSERT_TRUE(writer->write("hello ").has_value());
  ASSERT_TRUE(writer->write("world").has_value());
  EXPECT_EQ(writer->bytes(), 11U);
  const auto id = writer->finish();
  ASSERT_TRUE(id.has_value());
  EXPECT_EQ(*id, "sha256:" + sha256_hex("hello world"));
  EXPECT_EQ(content_of(store_.path_of(*id).value()), "hello world");
  EXPECT_EQ(store_.size(*id).value(), 11U);
  EXPECT_TRUE(store_.verify(*id).has_value());
  EXPECT_EQ(files_in(folder_.file("tmp")), 0);
}

TEST_F(FileStoreTest, EmptyFileIsAFile) {
  auto writer = store_.begin();
  const auto id = writer->finish();
  ASSERT_TRUE(id.has_value());
  EXPECT_EQ(store_.size(*id).value(), 0U);
}

TEST_F(FileStoreTest, SameContentTwiceIsThereOnce) {
  const std::string source = folder_.file("source");
  std::ofstream(source) << "weights";
  const auto first = store_.put_file(source);
  const auto second = store_.put_file(source);
  ASSERT_TRUE(first.has_value());
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(*first, *second);
}

TEST_F(FileStoreTest, ChangingTheSourceLaterChangesNothing) {
  const std::string source = folder_.file("source");
  std::ofstream(source) << "weights";
  const auto id = store_.put_file(source);
  ASSERT_TRUE(id.has_value());
  std::ofstream(source, std::ios::in | std::ios::out) << "WEIGHTS";
  EXPECT_EQ(content_of(store_.path_of(*id).value()), "weights");
  EXPECT_TRUE(store_.verify(*id).has_value());
}

TEST_F(FileStoreTest, WriterThatIsGivenUpLeavesNothing) {
  {
    auto writer = store_.begin();
    ASSERT_TRUE(writer->write("half").has_value());
    EXPECT_EQ(files_in(folder_.file("tmp")), 1);
  }
  EXPECT_EQ(files_in(folder_.file("tmp")), 0);
}

TEST_F(FileStoreTest, LimitIsKept) {
  auto writer = store_.begin(4);
  EXPECT_TRUE(writer->write("1234").has_value());
  const auto over = writer->write("5");
  ASSERT_FALSE(over.has_value());
  EXPECT_EQ(over.error().code, ErrorCode::kInvalidArgument);
  const std::string source = folder_.file("source");
  std::ofstream(source) << "12345";
  EXPECT_EQ(store_.put_file(source, 4).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(FileStoreTest, TextsThatAreNoIdsNameNoFile) {
  for (const std::string& id :
       {std::string(), std::string("sha256:"), std::string("../../etc/passwd"),
        "sha256:" + std::string(64, 'Z'), "sha256:../" + std::string(61, 'a'),
        "sha256:" + std::string(63, 'a'), "sha256:" + std::string(64, '.')}) {
    EXPECT_EQ(store_.path_of(id).error().code, ErrorCode::kInvalidArgument) << id;
    EXPECT_FALSE(store_.contains(id));
  }
  EXPECT_EQ(store_.path_of("sha256:" + std::string(64, 'a')).error().code, ErrorCode::kNotFound);
}

TEST_F(FileStoreTest, DamagedFileIsSeenAndMendedByPuttingItAgain) {
  const std::string source = folder_.file("source");
  std::ofstream(source) << "weights";
  const auto id = store_.put_file(source);
  const std::string place = store_.path_of(*id).value();
  fs::permissions(place, fs::perms::owner_all);
  std::ofstream(place) << "weightz";
  const auto verified = store_.verify(*id);
  ASSERT_FALSE(verified.has_value());
  EXPECT_EQ(verified.error().code, ErrorCode::kDataLoss);
  auto writer = store_.begin();
  ASSERT_TRUE(writer->write("weights").has_value());
  ASSERT_TRUE(writer->finish().has_value());
  EXPECT_TRUE(store_.verify(*id).has_value());
}

TEST_F(FileStoreTest, RemovedFileIsGone) {
  auto writer = store_.begin();
  const std::string id = writer->finish().value();
  EXPECT_TRUE(store_.remove(id).has_value());
  EXPECT_FALSE(store_.contains(id));
  EXPECT_EQ(store_.remove(id).error().code, ErrorCode::kNotFound);
}

TEST_F(FileStoreTest, SpecialFilesAndMissingOnesAreRefused) {
  EXPECT_EQ(store_.put_file(folder_.file("none")).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_.put_file(folder_.path()).error().code, ErrorCode::kInvalidArgument);
  const std::string fifo = folder_.file("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(store_.put_file(fifo).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(store_.put_file("/dev/zero").error().code, ErrorCode::kInvalidArgument);
}

TEST_F(FileStoreTest, WhatAKilledWriterLeftIsRemovedAndALivingOnesFileIsKept) {
  const std::string said = in_child([&]() -> std::string {
    auto writer = store_.begin();
    if (!writer->write("half").has_value()) return "write failed";
    raise(SIGKILL);
    return "survived";
  });
  EXPECT_NE(said.find("signal 9"), std::string::npos) << said;
  auto living = store_.begin();
  ASSERT_TRUE(living->write("whole").has_value());
  EXPECT_EQ(files_in(folder_.file("tmp")), 2);
  ASSERT_TRUE(FileStore::open(folder_.path()).has_value());
  EXPECT_EQ(files_in(folder_.file("tmp")), 1);
  EXPECT_TRUE(living->finish().has_value());
}

TEST_F(FileStoreTest, FullDiskIsAnErrorThatLeavesNothingBehind) {
  const std::string said = in_child([&]() -> std::string {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return "skip: no limits";
    {
      auto writer = store_.begin();
      const auto written = writer->write(std::string(200'000, 'x'));
      if (written.has_value()) return "written past the limit";
      if (written.error().code != ErrorCode::kResourceExhausted) return written.error().message;
    }
    if (files_in(folder_.file("tmp")) != 0) return "left a file";
    auto small = store_.begin();
    if (!small->write("fits").has_value() || !small->finish().has_value()) return "small one failed";
    return "";
  });
  EXPECT_EQ(said, "");
}

}  // namespace
}  // namespace kerf::storage
