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
  AGENTMEM_RETURN_IF_ERROR(Write(name, ref));
  return ref.fence;
}

absl::StatusOr<std::uint64_t> RocksRefStore::CompareAndSwap(
    const std::string& name, std::uint64_t expected_version, Fence fence,
    const std::string& value) {
  AGENTMEM_RETURN_IF_ERROR(CheckName(name));
  if (value.size() > kValueBytesMax) {
    return InvalidArgument(
        "the value of ref '" + name + "' of " + std::to_string(value.size()) +
        " bytes: allowed are 0 to " + std::to_string(kValueBytesMax));
  }
  MutexLock lock(&mutex_);
  AGENTMEM_ASSIGN_OR_RETURN(Ref ref, Read(name));
  if (ref.fence != fence) {
    return Aborted("ref '" + name + "': expected fence " +
                   std::to_string(fence.value()) + ", found fence " +
                   std::to_string(ref.fence.value()) +
                   "; another writer took over: stop writing, or take a new "
                   "fence");
  }
  if (ref.version != expected_version) {
    return Aborted("ref '" + name + "': expected version " +
                   std::to_string(expected_version) + ", found version " +
                   std::to_string(ref.version) +
                   "; read it again and decide anew");
  }
  ref.version = expected_version + 1;
  ref.value = value;
  AGENTMEM_RETURN_IF_ERROR(Write(name, ref));
  return ref.version;
}

absl::StatusOr<std::vector<std::string>> RocksRefStore::List(
    const std::string& prefix) {
  AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                            database_->Use());
  std::vector<std::string> names;
  const std::unique_ptr<rocksdb::Iterator> iterator(
      opened->db()->NewIterator(rocksdb::ReadOptions(), opened->refs()));
  for (iterator->Seek(prefix);
       iterator->Valid() && iterator->key().starts_with(prefix);
       iterator->Next()) {
    std::string name = iterator->key().ToString();
    AGENTMEM_ASSIGN_OR_RETURN(
        const Ref ref,
        DecodeRef(name, {iterator->value().data(), iterator->value().size()}));
    if (ref.version > 0) names.push_back(std::move(name));
  }
  AGENTMEM_RETURN_IF_ERROR(
      RocksStatus(iterator->status(), "listing refs", database_->path()));
  return names;
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

absl::Status RocksRefStore::Write(const std::string& name, const Ref& ref) {
  rocksdb::WriteBatch batch;
  {
    AGENTMEM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenedRocks> opened,
                              database_->Use());
    AGENTMEM_RETURN_IF_ERROR(
        RocksStatus(batch.Put(opened->refs(), name, EncodeRef(ref)),
                    "making ref '" + name + "'", database_->path()));
  }  // Write may have to close the database: no use is held then
  rocksdb::WriteOptions synced;
  synced.sync = true;
  return database_->Write(synced, &batch);
}

}  // namespace agentmem
