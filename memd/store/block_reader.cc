#include "memd/store/block_reader.h"

#include <rocksdb/snapshot.h>

#include <cstring>
#include <memory>
#include <string>

#include "base/status.h"

namespace agentmem {
namespace {

// How often a block may be replaced between its lookup and its read.
constexpr int kLookupsMax = 8;

// A record in "blocks", or else a place in a segment.
struct Found {
  rocksdb::PinnableSlice record;
  BlockLocation location;
};

// RocksDB's own checksums are not verified here: Debian's build computes them
// in software, at a fifth of the speed of the record's, which covers all that
// is handed out. What only RocksDB's would notice is a block that seems not to
// be there; its location, read with checksums, tells that from a miss.
rocksdb::Status ReadRecord(OpenedRocks* opened, const StoreKey& key,
                           const rocksdb::Snapshot* moment,
                           rocksdb::PinnableSlice* record) {
  rocksdb::ReadOptions options;
  options.verify_checksums = false;
  options.snapshot = moment;
  return opened->db()->Get(options, opened->blocks(),
                           rocksdb::Slice(key.data(), key.size()), record);
}

absl::Status Find(OpenedRocks* opened, const StoreOp& get, Found* found) {
  const StoreKey key = EncodeStoreKey(get.tenant, get.key);
  const std::string what = "reading " + BlockName(get.tenant, get.key);
  if (get.bytes[0].iov_len <= kBytesInBlocksMax) {
    const rocksdb::Status read =
        ReadRecord(opened, key, nullptr, &found->record);
    if (!read.IsNotFound()) return RocksStatus(read, what, opened->path());
  }
  AGENTMEM_ASSIGN_OR_RETURN(found->location,
                            FindLocation(opened, get.tenant, get.key, nullptr));
  if (found->location.place.in_segment()) return absl::OkStatus();
  // One moment for both, or a put in between would look like a loss.
  rocksdb::ManagedSnapshot moment(opened->db());
  AGENTMEM_ASSIGN_OR_RETURN(
      found->location,
      FindLocation(opened, get.tenant, get.key, moment.snapshot()));
  if (found->location.place.in_segment()) return absl::OkStatus();
  found->record.Reset();
  const rocksdb::Status again =
      ReadRecord(opened, key, moment.snapshot(), &found->record);
  if (!again.IsNotFound()) return RocksStatus(again, what, opened->path());
  return DataLoss(what + ": it has a location and no record");
}

bool HasRoom(const StoreOp& get, std::size_t length) {
  return get.bytes[0].iov_len == length && get.bytes[0].iov_base != nullptr;
}

}  // namespace

void BlockReader::Execute(std::span<const StoreOp> gets, Complete complete) {
  reads_.clear();
  order_.clear();
  done_.clear();
  for (std::size_t i = 0; i < gets.size(); ++i) {
    SegmentRead read;
    StoreCompletion done;
    if (Begin(gets[i], &read, &done)) {
      read.index = i;
      reads_.push_back(read);
    } else {
      done_.push_back(done);
    }
  }
  if (!done_.empty()) complete(done_);
  for (SegmentRead& read : reads_) order_.push_back(&read);
  std::vector<SegmentRead*> failed;
  reader_.Read(order_, [&](std::span<SegmentRead* const> finished) {
    done_.clear();
    for (SegmentRead* const read : finished) {
      if (read->status.ok()) {
        done_.push_back(
            {.ticket = gets[read->index].ticket, .length = read->length});
      } else {
        failed.push_back(read);
      }
    }
    if (!done_.empty()) complete(done_);
  });
  for (SegmentRead* const read : failed) {
    const StoreCompletion done = Finish(gets[read->index], read);
    complete({&done, 1});
  }
}

bool BlockReader::Begin(const StoreOp& get, SegmentRead* read,
                        StoreCompletion* done) {
  *done = StoreCompletion{.ticket = get.ticket};
  const absl::StatusOr<std::shared_ptr<OpenedRocks>> opened = database_->Use();
  Found found;
  const absl::Status status =
      opened.ok() ? Find(opened->get(), get, &found) : opened.status();
  if (!status.ok()) {
    *done = Failed(get, status);
    return false;
  }
  const SegmentPlace& place = found.location.place;
  if (place.in_segment()) {
    done->length = found.location.block.length;
    if (!HasRoom(get, done->length)) {
      done->code = Code::kInvalidArgument;
      return false;
    }
    read->place = place;
    read->to = get.bytes[0].iov_base;
    read->length = done->length;
    return true;
  }
  const absl::StatusOr<std::span<const char>> bytes = CheckRecord(
      get.tenant, get.key, {found.record.data(), found.record.size()});
  if (!bytes.ok()) {
    *done = Failed(get, bytes.status());
    return false;
  }
  done->length = static_cast<std::uint32_t>(bytes->size());
  if (!HasRoom(get, bytes->size())) {
    done->code = Code::kInvalidArgument;
    return false;
  }
  std::memcpy(get.bytes[0].iov_base, bytes->data(), bytes->size());
  return false;
}

StoreCompletion BlockReader::Finish(const StoreOp& get, SegmentRead* read) {
  for (int lookups = 1; lookups < kLookupsMax; ++lookups) {
    if (read->status.ok()) {
      return {.ticket = get.ticket, .length = read->length};
    }
    if (read->status.code() != absl::StatusCode::kDataLoss) break;
    SegmentRead now;
    StoreCompletion done;
    if (!Begin(get, &now, &done)) return done;
    if (now.place == read->place) break;
    *read = now;
    SegmentRead* one = read;
    reader_.Read({&one, 1}, [](std::span<SegmentRead* const>) {});
  }
  return Failed(get, MakeStatus(read->status.code(),
                                "reading " + BlockName(get.tenant, get.key) +
                                    ": " + StatusMessage(read->status)));
}

StoreCompletion BlockReader::Failed(const StoreOp& get,
                                    const absl::Status& status) {
  if (status.code() != absl::StatusCode::kNotFound) {
    // (The status names the block, with the tenant's number.)
    database_->LogOnce(StatusMessage(status) + ", in " + database_->path() +
                       database_->WhoseText(get.tenant));
  }
  return {.ticket = get.ticket, .code = static_cast<Code>(status.code())};
}

}  // namespace agentmem
