// kill -9 of a process that writes to the store, at named moments, round after
// round in one directory; then everything acknowledged must be there.
//
//   parent                         child: this executable with --writer
//     starts it              ->
//                            <-    a Notice at each moment (a pipe)
//     SIGKILL at the n-th Notice of a moment chosen by the seed
//     reads what else came before the end, then the database itself
//
// The moments of the segments' files come from a SegmentIo around the real one:
// before and after what it does to the disk.
//
// The verifier reads the database with RocksDB and the segments as files, and
// takes records and locations apart by the offsets in docs/formats.md: it
// shares no code with the store, so that a mistake in the format cannot hide in
// both.
#include <gtest/gtest.h>
#include <poll.h>
#include <rocksdb/db.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "memd/store/direct_segment_io.h"
#include "memd/store/rocks_store.h"

namespace agentmem {
namespace {

enum class Moment : std::uint32_t {
  kOpening,     // before RocksStore::Open
  kSubmitted,   // a group of operations was accepted, none is known as done
  kPut,         // key: a durable put was acknowledged
  kDeleted,     // key: a durable delete was acknowledged
  kRefChanged,  // key: the ref's version that was acknowledged
  kFlushing,    // before Flush
  kFlushed,     // key: every key below it, deleted ones aside, is stable
  kClosing,     // before the store is closed
  // Of the segments:
  kAllocated,  // space was taken
  kWriting,    // before a group's write
  kWritten,    // a group was written and not synced
  kSynced,     // a group was synced and has no location
  kPunched,    // a deleted record's space was given back
  kRemoved,    // an empty segment was removed
};
constexpr const char* kMomentNames[] = {
    "opening",         "submitted",       "put",           "deleted",
    "ref changed",     "flushing",        "flushed",       "closing",
    "space allocated", "writing a group", "group written", "group synced",
    "space punched",   "segment removed"};

struct Notice {
  Moment moment;
  std::uint32_t round;
  std::uint64_t key;
};

constexpr std::uint64_t kKeysARound = 600;
constexpr std::size_t kGroup = 12;

// A key's length, class and bytes follow from its number.
std::uint32_t LengthOf(std::uint64_t key) {
  constexpr std::uint32_t kLengths[] = {100,     32'768,  5000,   65536,
                                        200'000, 262'144, 300'001};
  return kLengths[key % 7];
}
bool IsDurable(std::uint64_t key) { return key % 3 != 0; }
bool IsDeleted(std::uint64_t key) { return key % 11 == 5; }

std::string ContentOf(std::uint64_t key) {
  std::string bytes(LengthOf(key), '\0');
  std::uint64_t state = key + 0x1234567;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i % 8 == 0)
      state = state * 6364136223846793005ULL + 1442695040888963407;
    bytes[i] = static_cast<char>(state >> (8 * (i % 8)));
  }
  return bytes;
}

// The child ------------------------------------------------------------------

void Tell(Moment moment, std::uint32_t round, std::uint64_t key) {
  const Notice notice = {moment, round, key};
  if (::write(STDOUT_FILENO, &notice, sizeof(notice)) != sizeof(notice)) {
    ::_exit(1);
  }
}

// The machine's disk, telling what it does.
class TellingIo final : public SegmentIo {
 public:
  explicit TellingIo(std::uint32_t round) : round_(round) {}

  absl::StatusOr<UniqueFd> Open(const std::string& path, bool create) override {
    return disk_.Open(path, create);
  }
  absl::Status Allocate(int fd, std::uint64_t offset,
                        std::uint64_t length) override {
    return After(disk_.Allocate(fd, offset, length), Moment::kAllocated);
  }
  absl::Status Write(int fd, std::span<iovec> parts,
                     std::uint64_t offset) override {
    Tell(Moment::kWriting, round_, 0);
    // In two writes, so that a group can be torn.
    const std::size_t half = parts.size() / 2;
    std::uint64_t first = 0;
    for (const iovec& part : parts.first(half)) first += part.iov_len;
    absl::Status status = disk_.Write(fd, parts.first(half), offset);
    if (status.ok()) {
      status = disk_.Write(fd, parts.subspan(half), offset + first);
    }
    return After(status, Moment::kWritten);
  }
  absl::Status Read(int fd, std::span<iovec> parts,
                    std::uint64_t offset) override {
    return disk_.Read(fd, parts, offset);
  }
  absl::Status Sync(int fd) override {
    return After(disk_.Sync(fd), Moment::kSynced);
  }
  absl::Status Punch(int fd, std::uint64_t offset,
                     std::uint64_t length) override {
    return After(disk_.Punch(fd, offset, length), Moment::kPunched);
  }
  absl::Status Truncate(int fd, std::uint64_t bytes) override {
    return disk_.Truncate(fd, bytes);
  }
  absl::Status Remove(const std::string& path) override {
    return After(disk_.Remove(path), Moment::kRemoved);
  }

 private:
  absl::Status After(absl::Status status, Moment moment) {
    Tell(moment, round_, 0);
    return status;
  }

  const std::uint32_t round_;
  DirectSegmentIo disk_;
};

class Writer {
 public:
  Writer(const std::string& path, std::uint32_t round)
      : path_(path), round_(round), io_(round) {}

  int Run() {
    Tell(Moment::kOpening, 0);
    RocksStoreOptions options;
    options.path = path_;
    options.segment_io = &io_;
    auto store = RocksStore::Open(options);
    if (!store.ok()) {
      std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
      return 1;
    }
    store_ = std::move(store).value();
    const std::uint64_t first = round_ * kKeysARound;
    for (std::uint64_t key = first; key < first + kKeysARound; key += kGroup) {
      if (!WriteGroup(key) || !ChangeRef()) return 1;
      if ((key - first) % (kKeysARound / 3) == 0) {
        Tell(Moment::kFlushing, key);
        if (!store_->blocks().Flush().ok()) return 1;
        Tell(Moment::kFlushed, key + kGroup);
      }
    }
    Tell(Moment::kClosing, 0);
    store_.reset();
    return 0;
  }

 private:
  void Tell(Moment moment, std::uint64_t key) {
    agentmem::Tell(moment, round_, key);
  }

  bool WriteGroup(std::uint64_t first) {
    std::vector<std::string> bytes;
    std::vector<StoreOp> ops;
    for (std::uint64_t key = first; key < first + kGroup; ++key) {
      bytes.push_back(ContentOf(key));
      StoreOp op;
      op.tenant = TenantId(3);
      op.key = Key::FromWords(key, 77);
      op.ticket = key;
      op.durable = IsDurable(key);
      op.block_class = key % 2 ? BlockClass::kState : BlockClass::kCache;
      op.bytes[0] = {bytes.back().data(), bytes.back().size()};
      ops.push_back(op);
      if (!IsDeleted(key)) continue;
      op.kind = StoreOp::Kind::kDelete;
      op.durable = true;
      op.ticket = key | kDeleteTicket;
      ops.push_back(op);
    }
    if (store_->blocks().Submit(ops) != ops.size()) return false;
    Tell(Moment::kSubmitted, first);
    for (std::size_t done = 0; done < ops.size();) {
      pollfd waits = {store_->blocks().completion_fd(), POLLIN, 0};
      if (::poll(&waits, 1, 60'000) != 1) return false;
      StoreCompletion taken[4];
      const std::size_t count = store_->blocks().Poll(taken);
      for (std::size_t i = 0; i < count; ++i) {
        if (taken[i].code != Code::kOk) return false;
        const std::uint64_t key = taken[i].ticket & ~kDeleteTicket;
        if (taken[i].ticket & kDeleteTicket) {
          Tell(Moment::kDeleted, key);
        } else if (IsDurable(key) && !IsDeleted(key)) {
          Tell(Moment::kPut, key);
        }
      }
      done += count;
    }
    return true;
  }

  bool ChangeRef() {
    const auto ref = store_->refs().Get("head");
    const std::uint64_t version = ref.ok() ? ref->version : 0;
    const auto changed = store_->refs().CompareAndSwap(
        "head", version, Fence(), std::to_string(version + 1));
    if (!changed.ok()) return false;
    Tell(Moment::kRefChanged, *changed);
    return true;
  }

  static constexpr std::uint64_t kDeleteTicket = 1ULL << 63;

  const std::string path_;
  const std::uint32_t round_;
  TellingIo io_;
  std::unique_ptr<RocksStore> store_;
};

// The parent -----------------------------------------------------------------

// What the children were told is safe.
struct Acknowledged {
  std::set<std::uint64_t> put;
  std::set<std::uint64_t> deleted;
  std::uint64_t ref_version = 0;

  void Add(const Notice& notice) {
    switch (notice.moment) {
      case Moment::kPut:
        put.insert(notice.key);
        break;
      case Moment::kDeleted:
        deleted.insert(notice.key);
        break;
      case Moment::kRefChanged:
        ref_version = notice.key;
        break;
      case Moment::kFlushed:
        for (std::uint64_t key = notice.round * kKeysARound; key < notice.key;
             ++key) {
          if (!IsDeleted(key)) put.insert(key);
        }
        break;
      default:
        break;
    }
  }
};

// Runs a child until the `count`-th notice of `moment`, or its end. `moments`:
// all those of which notices came.
void RunAndKill(const std::string& path, std::uint32_t round, Moment moment,
                int count, Acknowledged* acknowledged,
                std::set<Moment>* moments) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  const std::string number = std::to_string(round);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::dup2(pipe_ends[1], STDOUT_FILENO);
    ::close(pipe_ends[0]);
    ::close(pipe_ends[1]);
    ::execl("/proc/self/exe", "store_crash_test", "--writer", path.c_str(),
            number.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(pipe_ends[1]);
  Notice notice;
  bool killed = false;
  while (::read(pipe_ends[0], &notice, sizeof(notice)) == sizeof(notice)) {
    acknowledged->Add(notice);
    moments->insert(notice.moment);
    if (!killed && notice.moment == moment && --count == 0) {
      ::kill(child, SIGKILL);
      killed = true;
    }
  }
  ::close(pipe_ends[0]);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  const bool was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  const bool ended_well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  EXPECT_TRUE(was_killed || ended_well) << "status " << status;
}

template <typename T>
T At(const std::string& bytes, std::size_t offset) {
  T value = {};
  if (offset + sizeof(T) <= bytes.size()) {
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
  }
  return value;
}

// The column family `name`, key to value.
using Contents = std::map<std::string, std::string>;
struct Database {
  Contents blocks;
  Contents locations;
  Contents refs;
};

Database ReadDatabase(const std::string& path) {
  Database found;
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const char* const name : {"default", "blocks", "locations", "refs"}) {
    families.emplace_back(name, rocksdb::ColumnFamilyOptions());
  }
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status = rocksdb::DB::OpenForReadOnly(
      rocksdb::DBOptions(), path, families, &handles, &opened);
  // Killed before the first open had made them all: nothing is there.
  if (!status.ok()) return found;
  const std::unique_ptr<rocksdb::DB> db(opened);
  Contents* const contents[] = {nullptr, &found.blocks, &found.locations,
                                &found.refs};
  for (std::size_t i = 0; i < handles.size(); ++i) {
    if (contents[i] != nullptr) {
      const std::unique_ptr<rocksdb::Iterator> it(
          db->NewIterator(rocksdb::ReadOptions(), handles[i]));
      for (it->SeekToFirst(); it->Valid(); it->Next()) {
        contents[i]->emplace(it->key().ToString(), it->value().ToString());
      }
      EXPECT_TRUE(it->status().ok()) << it->status().ToString();
    }
    db->DestroyColumnFamilyHandle(handles[i]);
  }
  return found;
}

std::string SegmentPath(const std::string& path, const std::string& location) {
  char name[32];
  std::snprintf(
      name, sizeof(name), "/segments/%016llx.seg",
      static_cast<unsigned long long>(At<std::uint64_t>(location, 16)));
  return path + name;
}

// The bytes that a location of version 2 names.
std::string ReadSegment(const std::string& path, const std::string& location) {
  std::ifstream file(SegmentPath(path, location), std::ios::binary);
  std::string bytes(At<std::uint32_t>(location, 4), '\0');
  file.seekg(static_cast<std::streamoff>(At<std::uint64_t>(location, 24)));
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

// What the groups of a segment say is in it: offset to key.
std::map<std::uint64_t, std::uint64_t> DescribedIn(const std::string& segment) {
  std::map<std::uint64_t, std::uint64_t> described;
  std::ifstream file(segment, std::ios::binary);
  std::string sector(4096, '\0');
  for (std::uint64_t at = 0;; at += At<std::uint64_t>(sector, 32)) {
    file.seekg(static_cast<std::streamoff>(at));
    if (!file.read(sector.data(), 4096)) return described;
    if (sector.substr(0, 8) != "AGEMSEG1") return described;
    EXPECT_EQ(At<std::uint64_t>(sector, 24), at);
    for (std::uint32_t i = 0; i < At<std::uint32_t>(sector, 12); ++i) {
      const std::string record = sector.substr(64 + 48 * i, 48);
      EXPECT_EQ(At<std::uint32_t>(record, 0), 3u) << "tenant";
      const std::uint64_t key = At<std::uint64_t>(record, 8);
      EXPECT_EQ(At<std::uint32_t>(record, 4), LengthOf(key));
      described[At<std::uint64_t>(record, 24)] = key;
    }
  }
}

void Verify(const std::string& path, const Acknowledged& acknowledged) {
  const Database found = ReadDatabase(path);
  std::map<std::string, std::map<std::uint64_t, std::uint64_t>> described;
  std::set<std::uint64_t> keys;
  std::size_t in_blocks = 0;
  for (const auto& [store_key, location] : found.locations) {
    const std::uint64_t key = At<std::uint64_t>(store_key, 4);
    ASSERT_EQ(store_key.size(), 20u);
    ASSERT_EQ(store_key.substr(0, 4), std::string("\0\0\0\3", 4));
    ASSERT_EQ(At<std::uint64_t>(store_key, 12), 77u);
    EXPECT_EQ(At<std::uint32_t>(location, 4), LengthOf(key)) << key;
    // Nothing half-written, acknowledged or not.
    if (At<std::uint32_t>(location, 0) == 2) {
      ASSERT_EQ(location.size(), 48u);
      ASSERT_GT(LengthOf(key), 32768u);
      EXPECT_TRUE(ReadSegment(path, location) == ContentOf(key)) << key;
      const std::string segment = SegmentPath(path, location);
      if (!described.count(segment)) described[segment] = DescribedIn(segment);
      const auto& records = described[segment];
      const auto record = records.find(At<std::uint64_t>(location, 24));
      ASSERT_NE(record, records.end()) << key << " is in no group";
      EXPECT_EQ(record->second, key);
    } else {
      ASSERT_EQ(location.size(), 16u);
      const auto record = found.blocks.find(store_key);
      ASSERT_NE(record, found.blocks.end()) << key << " has no record";
      ASSERT_GE(record->second.size(), 64u);
      EXPECT_EQ(At<std::uint32_t>(record->second, 16), LengthOf(key)) << key;
      EXPECT_TRUE(record->second.substr(64) == ContentOf(key)) << key;
      ++in_blocks;
    }
    keys.insert(key);
  }
  EXPECT_EQ(in_blocks, found.blocks.size())
      << "records of blocks that have no location";
  for (const std::uint64_t key : acknowledged.put) {
    EXPECT_TRUE(keys.count(key)) << "acknowledged key " << key << " is gone";
  }
  for (const std::uint64_t key : acknowledged.deleted) {
    EXPECT_FALSE(keys.count(key)) << "deleted key " << key << " is back";
  }
  if (acknowledged.ref_version == 0) return;
  const auto ref = found.refs.find("head");
  ASSERT_NE(ref, found.refs.end()) << "the acknowledged ref is gone";
  const std::uint64_t version = At<std::uint64_t>(ref->second, 8);
  EXPECT_GE(version, acknowledged.ref_version);
  EXPECT_EQ(ref->second.substr(24), std::to_string(version));
}

TEST(StoreCrash, WhatWasAcknowledgedSurvivesSigkillAtEveryNamedMoment) {
  std::string path = testing::TempDir() + "agentmem_crash_XXXXXX";
  ASSERT_NE(::mkdtemp(path.data()), nullptr);
  // One seed, one run. Each moment comes twice: early and anywhere in a round.
  std::mt19937_64 random(20260101);
  Acknowledged acknowledged;
  std::set<Moment> moments;
  std::uint32_t round = 0;
  for (const bool early : {true, false}) {
    for (std::uint32_t m = 0; m < std::size(kMomentNames); ++m) {
      const Moment moment = static_cast<Moment>(m);
      const bool is_many =
          moment == Moment::kSubmitted || moment == Moment::kPut ||
          moment == Moment::kDeleted || moment == Moment::kRefChanged;
      const bool is_some =
          moment == Moment::kFlushing || moment == Moment::kFlushed;
      const bool is_of_segment =
          moment == Moment::kWriting || moment == Moment::kWritten ||
          moment == Moment::kSynced || moment == Moment::kPunched;
      const int most = early           ? 1
                       : is_many       ? 48
                       : is_of_segment ? 12
                       : is_some       ? 3
                                       : 1;
      const int count = 1 + static_cast<int>(random() % most);
      SCOPED_TRACE("round " + std::to_string(round) + ", killed at '" +
                   kMomentNames[m] + "' number " + std::to_string(count));
      RunAndKill(path, round, moment, count, &acknowledged, &moments);
      Verify(path, acknowledged);
      if (HasFailure()) return;  // the directory is kept for a look
      ++round;
    }
  }
  EXPECT_EQ(moments.size(), std::size(kMomentNames)) << "some never came";
  EXPECT_GT(acknowledged.put.size(), 500u) << "too little was at risk";
  EXPECT_GT(acknowledged.deleted.size(), 20u);
  std::filesystem::remove_all(path);
}

}  // namespace

int RunWriter(const std::string& path, std::uint32_t round) {
  return Writer(path, round).Run();
}

}  // namespace agentmem

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--writer") == 0) {
    return agentmem::RunWriter(argv[2], static_cast<std::uint32_t>(std::strtoul(
                                            argv[3], nullptr, 10)));
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
