#include "memd/store/block_writer.h"

#include <algorithm>
#include <memory>

#include "base/status.h"

namespace agentmem {
namespace {

// A group's small blocks, and for each operation keys, both records and
// RocksDB's framing.
constexpr std::size_t kBatchBytesMax =
    kSegmentGroupRecordsMax * (kBytesInBlocksMax + 256);

bool IsPut(const StoreOp& op) { return op.kind == StoreOp::Kind::kPut; }

BlockLocation LocationOf(const StoreOp& put, const SegmentPlace& place) {
  BlockLocation location;
  location.block = {put.tenant, put.key, put.block_class,
                    static_cast<std::uint32_t>(put.bytes[0].iov_len)};
  location.place = place;
  return location;
}

}  // namespace

BlockWriter::BlockWriter(RocksDatabase* database, SegmentSet* segments,
                         SpaceReclaimer* reclaimer)
    : database_(database),
      reclaimer_(reclaimer),
      writer_(segments),
      batch_(kBatchBytesMax) {}

void BlockWriter::Execute(std::span<const StoreOp> ops, bool in_log,
                          std::vector<StoreCompletion>* done) {
  writes_.clear();
  for (const StoreOp& op : ops) writes_.emplace_back().op = &op;
  absl::Status status = FindBefore();
  if (status.ok()) {
    Append();
    status = WriteBatch(in_log);
    if (status.ok()) {
      FreeReplaced(in_log);
    } else {
      FreeWritten();
    }
  }
  for (const Write& write : writes_) {
    StoreCompletion completion{.ticket = write.op->ticket};
    const absl::Status& own = status.ok() ? write.status : status;
    completion.code = static_cast<Code>(own.code());
    if (own.ok() && IsPut(*write.op)) {
      completion.length =
          static_cast<std::uint32_t>(write.op->bytes[0].iov_len);
    }
    done->push_back(completion);
  }
}

absl::Status BlockWriter::FindBefore() {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                            database_->Use());
  for (std::size_t i = 0; i < writes_.size(); ++i) {
    Write& write = writes_[i];
    const StoreOp& op = *write.op;
    for (std::size_t j = i; j-- > 0 && write.earlier == kNone;) {
      const StoreOp& other = *writes_[j].op;
      if (other.key == op.key && other.tenant == op.tenant) write.earlier = j;
    }
    if (write.earlier != kNone) continue;
    absl::StatusOr<BlockLocation> before =
        FindLocation(opened.get(), op.tenant, op.key);
    write.before_known =
        before.ok() || before.status().code() == absl::StatusCode::kNotFound;
    if (before.ok()) write.before = *std::move(before);
    // One that cannot be read is replaced or deleted like any other; the sweep
    // of the next start finds its space.
    if (!write.before_known &&
        before.status().code() != absl::StatusCode::kDataLoss) {
      return before.status();
    }
  }
  return absl::OkStatus();
}

void BlockWriter::Append() {
  std::vector<const StoreOp*> puts;
  std::vector<Write*> writes;
  bool sync = false;
  for (Write& write : writes_) {
    if (!IsSegmentPut(*write.op)) continue;
    puts.push_back(write.op);
    writes.push_back(&write);
    sync |=
        write.op->durable || write.before.has_value() || !write.before_known;
  }
  if (puts.empty()) return;
  std::vector<SegmentPlace> places;
  absl::Status status = writer_.Append(puts, sync, &places);
  if (status.code() == absl::StatusCode::kResourceExhausted &&
      reclaimer_->Reclaim().ok()) {
    status = writer_.Append(puts, sync, &places);
  }
  if (!status.ok()) {
    database_->LogOnce("the store in " + database_->path() + ": " +
                       StatusMessage(status));
  }
  for (std::size_t i = 0; i < writes.size(); ++i) {
    writes[i]->status = status;
    if (status.ok()) writes[i]->place = places[i];
  }
}

absl::Status BlockWriter::WriteBatch(bool in_log) {
  batch_.Clear();
  rocksdb::WriteOptions options;
  options.disableWAL = !in_log;
  {
    // Families keep their numbers when the database is opened again, so the
    // batch outlives this use of it.
    AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                              database_->Use());
    for (const Write& write : writes_) {
      if (!write.status.ok()) continue;
      options.sync |= write.op->durable;
      AGENTMEM_RETURN_IF_ERROR(AddToBatch(opened.get(), write));
    }
  }
  if (batch_.Count() == 0) return absl::OkStatus();
  return database_->Write(options, &batch_);
}

absl::Status BlockWriter::AddToBatch(OpenedRocks* opened, const Write& write) {
  const StoreOp& op = *write.op;
  if (IsPut(op) && !write.place.in_segment()) {
    return AddRecord(opened, op, &batch_);
  }
  if (MayBeInBlocks(write)) {
    AGENTMEM_RETURN_IF_ERROR(DeleteRecord(opened, op, &batch_));
  }
  if (IsPut(op)) return AddLocation(opened, op, write.place, &batch_);
  return DeleteLocation(opened, op, &batch_);
}

// Does "blocks" hold the block's bytes, as far as is known?
bool BlockWriter::MayBeInBlocks(const Write& write) const {
  const Write* first = &write;
  while (first->earlier != kNone) {
    first = &writes_[first->earlier];
    if (IsPut(*first->op) && !IsSegmentPut(*first->op)) return true;
  }
  return !first->before_known ||
         (first->before.has_value() && !first->before->place.in_segment());
}

void BlockWriter::FreeReplaced(bool in_log) {
  freed_.clear();
  for (const Write& write : writes_) {
    if (!write.status.ok()) continue;
    // What it took the place of: the last one before it that was carried out.
    const Write* before = &write;
    while (before->earlier != kNone) {
      before = &writes_[before->earlier];
      if (before->status.ok()) break;
    }
    if (before != &write && before->status.ok()) {
      if (before->place.in_segment()) {
        freed_.push_back({LocationOf(*before->op, before->place), in_log});
      }
    } else if (before->before.has_value() &&
               before->before->place.in_segment()) {
      freed_.push_back({*before->before, in_log});
    }
  }
  reclaimer_->Free(freed_);
}

void BlockWriter::FreeWritten() {
  freed_.clear();
  for (const Write& write : writes_) {
    if (!write.place.in_segment()) continue;
    freed_.push_back({LocationOf(*write.op, write.place), true});
  }
  reclaimer_->Free(freed_);
}

}  // namespace agentmem
