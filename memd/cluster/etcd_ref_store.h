// RefStore over etcd: refs that a whole cluster agrees on.
//
// A ref is one key (memd/cluster/cluster_keys.h); its value is the record of
// proto/record_layout.h, as RocksDB has it: format, version, fence, value. A
// change reads the records, decides, and replaces them in one transaction that
// holds only if none was changed since (by etcd's revision of each key). So a
// writer whose fence is old never succeeds, on whatever node it is.
//
// A commit's blocks go to `write_blocks` first, and are durable before a ref
// speaks of them; when the refs are then refused they are garbage.
//
// Ownership: borrows the client. Threads: thread-safe. Errors: as RefStore;
// UNAVAILABLE is etcd's absence or slowness too, and leaves open whether the
// change was made; DATA_LOSS: a record of a format that this memd does not
// know, or a torn one, which is then never changed; RESOURCE_EXHAUSTED: etcd's
// space. A commit has at most 128 changes of different refs, and fits in 1.5
// MiB. Cost: a read one round trip; a change two, and etcd's synced write; each
// call blocks for `timeout_ns` at most, and for write_blocks.
#ifndef AGENTMEM_MEMD_CLUSTER_ETCD_REF_STORE_H_
#define AGENTMEM_MEMD_CLUSTER_ETCD_REF_STORE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "memd/cluster/etcd_client.h"
#include "memd/store/ref_store.h"

namespace agentmem {

struct EtcdRefStoreOptions {
  std::string cluster;
  DurationNs timeout_ns = kEtcdCallNs;
  // Makes the blocks durable, readable from every node. Not called without
  // blocks, nor for changes that cannot succeed.
  std::function<absl::Status(std::span<const RefBlock>)> write_blocks;
};

class EtcdRefStore final : public RefStore {
 public:
  static absl::StatusOr<std::unique_ptr<EtcdRefStore>> Make(
      EtcdClient* client, EtcdRefStoreOptions options);

  absl::StatusOr<Ref> Get(const std::string& name) override;
  absl::StatusOr<Ref> Read(const std::string& name) override;
  absl::StatusOr<Fence> AcquireFence(const std::string& name) override;
  absl::StatusOr<std::uint64_t> CompareAndSwap(
      const std::string& name, std::uint64_t expected_version, Fence fence,
      const std::string& value) override;
  absl::Status Commit(std::span<const RefChange> changes,
                      std::span<const RefBlock> blocks) override;
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& prefix) override;
  absl::StatusOr<std::vector<NamedRef>> ReadAll(
      std::span<const std::string> prefixes) override;

 private:
  // A ref, and the revision of etcd that made it so (0: nothing is there).
  struct Found {
    Ref ref;
    std::int64_t revision = 0;
  };

  EtcdRefStore(EtcdClient* client, EtcdRefStoreOptions options);

  absl::StatusOr<Found> Find(const std::string& name, TimeNs deadline);
  // What `found` says of each change's ref, in their order.
  absl::StatusOr<std::vector<Found>> Match(
      std::span<const RefChange> changes,
      const std::vector<EtcdKeyValue>& found) const;
  // Once; true if it holds, else `refs` is what was there instead.
  absl::StatusOr<bool> TryCommit(std::span<const RefChange> changes,
                                 std::vector<Found>* refs, TimeNs deadline);
  absl::Status CheckCommit(std::span<const RefChange> changes,
                           std::span<const RefBlock> blocks) const;
  // Adds them as they were at `*revision` of etcd; 0: now, which it is set to.
  absl::Status AddAll(const std::string& prefix, TimeNs deadline,
                      std::int64_t* revision, std::vector<NamedRef>* refs);

  EtcdClient* const client_;
  const EtcdRefStoreOptions options_;
  const std::string prefix_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_ETCD_REF_STORE_H_
