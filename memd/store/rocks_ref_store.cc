#include "memd/store/rocks_ref_store.h"

#include <rocksdb/write_batch.h>

#include <memory>

#include "base/status.h"
#include "memd/store/record_codec.h"

namespace agentmem {
namespace {

absl::Status CheckName(const std::string& name) {
  if (!name.empty() && name.size() <= RefStore::kNameBytesMax) {
    return absl::OkStatus();
  }
  return InvalidArgument("a ref's name of " + std::to_string(name.size()) +
                         " bytes: allowed are 1 to " +
                         std::to_string(RefStore::kNameBytesMax));
}

}  // namespace

absl::StatusOr<Ref> RocksRefStore::Get(const std::string& name) {
  AGENTMEM_RETURN_IF_ERROR(CheckName(name));
  AGENTMEM_ASSIGN_OR_RETURN(Ref ref, Read(name));
  if (ref.version == 0) return NotFound("ref '" + name + "' has no value");
  return ref;
}

absl::StatusOr<Fence> RocksRefStore::AcquireFence(const std::string& name) {
  AGENTMEM_RETURN_IF_ERROR(CheckName(name));
  MutexLock lock(&mutex_);
  AGENTMEM_ASSIGN_OR_RETURN(Ref ref, Read(name));
  ref.fence = Fence(ref.fence.value() + 1);
  const Fence fence = ref.fence;
  const NamedRef named = {name, std::move(ref)};
  AGENTMEM_RETURN_IF_ERROR(Write({&named, 1}, {}));
  return fence;
}

absl::StatusOr<std::uint64_t> RocksRefStore::CompareAndSwap(
    const std::string& name, std::uint64_t expected_version, Fence fence,
    const std::string& value) {
  const RefChange change = {name, expected_version, fence, value, false};
  AGENTMEM_RETURN_IF_ERROR(Commit({&change, 1}, {}));
  return expected_version + 1;
}

absl::Status RocksRefStore::Commit(std::span<const RefChange> changes,
                                   std::span<const RefBlock> blocks) {
  std::size_t bytes = 0;
  for (const RefBlock& block : blocks) bytes += block.bytes.size();
  if (bytes > kCommitBytesMax) {
    return InvalidArgument("a commit with " + std::to_string(bytes) +
                           " bytes of blocks: allowed are " +
                           std::to_string(kCommitBytesMax));
  }
  MutexLock lock(&mutex_);
  std::vector<NamedRef> refs;
  for (const RefChange& change : changes) {
    AGENTMEM_ASSIGN_OR_RETURN(NamedRef changed, Changed(change));
    if (!change.only_check) refs.push_back(std::move(changed));
  }
  return Write(refs, blocks);
}

absl::StatusOr<NamedRef> RocksRefStore::Changed(const RefChange& change) {
  AGENTMEM_RETURN_IF_ERROR(CheckName(change.name));
  if (change.value.size() > kValueBytesMax) {
    return InvalidArgument("the value of ref '" + change.name + "' of " +
                           std::to_string(change.value.size()) +
                           " bytes: allowed are 0 to " +
                           std::to_string(kValueBytesMax));
  }
  AGENTMEM_ASSIGN_OR_RETURN(Ref ref, Read(change.name));
  if (ref.fence != change.fence) {
    return Aborted("ref '" + change.name + "': expected fence " +
                   std::to_string(change.fence.value()) + ", found fence " +
                   std::to_string(ref.fence.value()) +
                   "; another writer took over: stop writing, or take a new "
                   "fence");
  }
  if (ref.version != change.expected_version) {
    return Aborted("ref '" + change.name + "': expected version " +
                   std::to_string(change.expected_version) +
                   ", found version " + std::to_string(ref.version) +
                   "; read it again and decide anew");
  }
  ref.version = change.remove ? 0 : change.expected_version + 1;
  ref.value = change.remove ? std::string() : change.value;
  if (change.new_fence) ref.fence = Fence(ref.fence.value() + 1);
  return NamedRef{change.name, std::move(ref)};
}

absl::StatusOr<std::vector<std::string>> RocksRefStore::List(
    const std::string& prefix) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<NamedRef> refs,
                            ReadAll({&prefix, 1}));
  std::vector<std::string> names;
  names.reserve(refs.size());
  for (const NamedRef& named : refs) names.push_back(named.name);
  return names;
}

absl::StatusOr<std::vector<NamedRef>> RocksRefStore::ReadAll(
    std::span<const std::string> prefixes) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                            database_->Use());
  std::vector<NamedRef> refs;
  // One iterator: it shows one moment.
  const std::unique_ptr<rocksdb::Iterator> iterator(
      opened->db()->NewIterator(rocksdb::ReadOptions(), opened->refs()));
  for (const std::string& prefix : prefixes) {
    for (iterator->Seek(prefix);
         iterator->Valid() && iterator->key().starts_with(prefix);
         iterator->Next()) {
      std::string name = iterator->key().ToString();
      AGENTMEM_ASSIGN_OR_RETURN(Ref ref,
                                DecodeRef(name, {iterator->value().data(),
                                                 iterator->value().size()}));
      if (ref.version > 0) refs.push_back({std::move(name), std::move(ref)});
    }
    AGENTMEM_RETURN_IF_ERROR(
        RocksStatus(iterator->status(), "listing refs", database_->path()));
  }
  return refs;
}

absl::StatusOr<Ref> RocksRefStore::Read(const std::string& name) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                            database_->Use());
  std::string value;
  const rocksdb::Status status =
      opened->db()->Get(rocksdb::ReadOptions(), opened->refs(), name, &value);
  if (status.IsNotFound()) return Ref();
  AGENTMEM_RETURN_IF_ERROR(
      RocksStatus(status, "reading ref '" + name + "'", database_->path()));
  return DecodeRef(name, value);
}

absl::Status RocksRefStore::Write(std::span<const NamedRef> refs,
                                  std::span<const RefBlock> blocks) {
  rocksdb::WriteBatch batch;
  {
    AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                              database_->Use());
    for (const RefBlock& block : blocks) {
      const StoreKey key = EncodeStoreKey(block.tenant, block.key);
      const RecordHeader header = MakeRecordHeader(
          block.tenant, block.key, BlockClass::kState, block.bytes);
      const rocksdb::Slice record[] = {
          {reinterpret_cast<const char*>(&header), sizeof(header)},
          {block.bytes.data(), block.bytes.size()}};
      const rocksdb::Slice name(key.data(), key.size());
      const std::string location =
          EncodeLocation(BlockClass::kState,
                         static_cast<std::uint32_t>(block.bytes.size()), {});
      rocksdb::Status status =
          batch.Put(opened->blocks(), rocksdb::SliceParts(&name, 1),
                    rocksdb::SliceParts(record, 2));
      if (status.ok()) {
        status = batch.Put(opened->locations(), name, location);
      }
      AGENTMEM_RETURN_IF_ERROR(
          RocksStatus(status, "making " + BlockName(block.tenant, block.key),
                      database_->path()));
    }
    for (const NamedRef& named : refs) {
      AGENTMEM_RETURN_IF_ERROR(RocksStatus(
          batch.Put(opened->refs(), named.name, EncodeRef(named.ref)),
          "making ref '" + named.name + "'", database_->path()));
    }
  }  // Write may have to close the database: no use is held then
  rocksdb::WriteOptions synced;
  synced.sync = true;
  return database_->Write(synced, &batch);
}

}  // namespace agentmem
