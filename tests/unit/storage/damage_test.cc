#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "storage/sqlite/sqlite_store.h"
#include "store_fixture.h"

namespace kerf::storage {
namespace {

namespace fs = std::filesystem;

/// 250 unless $KERF_FLIPS asks for more.
unsigned flips() {
  const char* wanted = std::getenv("KERF_FLIPS");
  return wanted == nullptr ? 250 : static_cast<unsigned>(std::atoi(wanted));
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

/// A store's files at one moment, to be damaged again and again.
struct Snapshot {
  std::vector<std::pair<std::string, std::string>> files;
  Json content;

  void put(const std::string& folder) const {
    for (const auto& entry : fs::directory_iterator(folder)) fs::remove_all(entry.path());
    for (const auto& [name, bytes] : files) write_file(folder + "/" + name, bytes);
  }
};

class DamageTest : public ::testing::Test {
 protected:
  /// With everything in the main file, or as a killed process leaves it: much in the WAL.
  Snapshot snapshot(bool closed) {
    const TemporaryDirectory source;
    auto store = open_or_die(source.file("kerf.db"), clock_);
    // Enough pages for inner nodes, and a WAL that has begun anew over an older one.
    fill(*store, 600);
    Snapshot out;
    out.content = dump(*store);
    if (closed) store.reset();
    for (const char* name : {"kerf.db", "kerf.db-wal", "kerf.db-ack"}) {
      if (fs::exists(source.file(name))) out.files.emplace_back(name, content_of(source.file(name)));
    }
    return out;
  }

  /// What opening the damaged copy leads to: "right", "refused", or what went wrong.
  std::string outcome(const Snapshot& snapshot) {
    const auto store = open_sqlite_store(folder_.file("kerf.db"), clock_);
    if (!store.has_value()) {
      const Error error = store.error();
      if (error.code != ErrorCode::kDataLoss) return "another error: " + error.message;
      const bool helps = error.message.find("kerf.db") != std::string::npos &&
                         error.message.find("kerf restore") != std::string::npos;
      return helps ? "refused" : "no way back: " + error.message;
    }
    return dump(**store) == snapshot.content ? "right" : "silently wrong";
  }

  void flip_bits(const Snapshot& snapshot, unsigned first_seed) {
    int right = 0;
    int refused = 0;
    for (unsigned seed = first_seed; seed < first_seed + flips(); ++seed) {
      std::mt19937_64 random(seed);
      Snapshot damaged = snapshot;
      std::uint64_t total = 0;
      for (const auto& [name, bytes] : damaged.files) total += bytes.size();
      std::uint64_t at = random() % total;
      std::string where;
      for (auto& [name, bytes] : damaged.files) {
        if (at < bytes.size()) {
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
          where = name + " byte " + std::to_string(at);
          break;
        }
        at -= bytes.size();
      }
      damaged.put(folder_.path());
      const std::string said = outcome(snapshot);
      right += said == "right" ? 1 : 0;
      refused += said == "refused" ? 1 : 0;
      EXPECT_TRUE(said == "right" || said == "refused") << "seed " << seed << ", " << where << ": "
                                                        << said;
    }
    EXPECT_EQ(right + refused, static_cast<int>(flips()));
    EXPECT_GT(refused, 0);
    RecordProperty("right", right);
    RecordProperty("refused", refused);
    std::printf("%d flipped bits: %d right content, %d refused\n", right + refused, right, refused);
  }

  TemporaryDirectory folder_;
  ManualClock clock_;
};

TEST_F(DamageTest, FlippedBitInAClosedDatabaseIsNeverSilentlyWrong) {
  flip_bits(snapshot(true), 1000);
}

TEST_F(DamageTest, FlippedBitInAKilledDatabaseIsNeverSilentlyWrong) {
  flip_bits(snapshot(false), 2000);
}

TEST_F(DamageTest, EveryByteOfTheFirstHeaderMatters) {
  const Snapshot closed = snapshot(true);
  for (std::size_t at = 0; at < 100; ++at) {
    Snapshot damaged = closed;
    damaged.files[0].second[at] = static_cast<char>(damaged.files[0].second[at] ^ 0x10);
    damaged.put(folder_.path());
    EXPECT_EQ(outcome(closed), "refused") << "byte " << at;
  }
}

TEST_F(DamageTest, TruncatedFilesAreNeverSilentlyWrong) {
  for (const bool closed : {true, false}) {
    const Snapshot whole = snapshot(closed);
    for (unsigned seed = 0; seed < 60; ++seed) {
      std::mt19937_64 random(seed);
      Snapshot damaged = whole;
      auto& [name, bytes] = damaged.files[random() % damaged.files.size()];
      bytes.resize(random() % bytes.size());
      damaged.put(folder_.path());
      const std::string said = outcome(whole);
      EXPECT_TRUE(said == "right" || said == "refused") << "seed " << seed << ", " << name << ": "
                                                        << said;
    }
  }
}

TEST_F(DamageTest, MissingWalIsNoticed) {
  const Snapshot whole = snapshot(false);
  Snapshot damaged = whole;
  std::erase_if(damaged.files, [](const auto& file) { return file.first == "kerf.db-wal"; });
  damaged.put(folder_.path());
  EXPECT_EQ(outcome(whole), "refused");
}

TEST_F(DamageTest, RefusingLeavesTheFilesAsTheyWere) {
  Snapshot damaged = snapshot(false);
  std::string& wal = damaged.files[1].second;
  wal[wal.size() / 3] = static_cast<char>(wal[wal.size() / 3] ^ 1);
  damaged.put(folder_.path());
  for (int n = 0; n < 3; ++n) EXPECT_EQ(outcome(damaged), "refused");
  for (const auto& [name, bytes] : damaged.files) {
    EXPECT_EQ(content_of(folder_.file(name)), bytes) << name;
  }
}

TEST_F(DamageTest, DamageDuringWorkThrows) {
  const std::string path = folder_.file("kerf.db");
  {
    auto store = open_or_die(path, clock_);
    const std::string study = store->create_study({{"name", "a"}}, "i", "").value().id;
    std::vector<NewWork> work;
    for (int n = 0; n < 2000; ++n) {
      work.push_back(trial_work(n));
      work.back().candidate = std::string(3000, 'x');
    }
    ASSERT_TRUE(store->enqueue(study, work).has_value());
  }
  auto store = open_or_die(path, clock_);
  std::string bytes = content_of(path);
  // More than the page cache holds from opening: pages are read again, and all are damaged.
  for (std::size_t at = 4096 + 100; at < bytes.size(); at += 4096) {
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
  }
  // In place: another inode would not be seen.
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file << bytes;
  file.close();
  EXPECT_THROW((void)dump(*store), std::runtime_error);
}

}  // namespace
}  // namespace kerf::storage
