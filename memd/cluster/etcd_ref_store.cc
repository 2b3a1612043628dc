#include "memd/cluster/etcd_ref_store.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/status.h"
#include "memd/cluster/cluster_keys.h"
#include "memd/store/record_codec.h"

namespace agentmem {
namespace {

// 64 KiB each at most: half of what a response may have (etcd_channels.cc).
constexpr std::int64_t kListPageRefs = 120;
// Of a change in a transaction, apart from its key (three times) and value.
constexpr std::size_t kChangeFramingBytes = 96;

absl::Status CheckName(const std::string& name) {
  if (!name.empty() && name.size() <= RefStore::kNameBytesMax) {
    return absl::OkStatus();
  }
  return InvalidArgument("a ref's name of " + std::to_string(name.size()) +
                         " bytes: allowed are 1 to " +
                         std::to_string(RefStore::kNameBytesMax));
}

absl::Status CheckKey(const std::string& key, const std::string& expected) {
  if (key == expected) return absl::OkStatus();
  return DataLoss("etcd was asked for '" + expected + "', and answers for '" +
                  key + "'");
}

// The ref as `change` makes it of what is there.
absl::StatusOr<Ref> Changed(const RefChange& change, const Ref& ref) {
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
  Ref changed;
  changed.fence = change.new_fence ? Fence(ref.fence.value() + 1) : ref.fence;
  if (change.remove) return changed;
  changed.version = change.expected_version + 1;
  changed.value = change.value;
  return changed;
}

EtcdOp Write(const std::string& key, const Ref& ref) {
  // Without a value and a fence it is as if it had never been.
  if (ref.version == 0 && ref.fence == Fence()) {
    return {EtcdOp::Kind::kDelete, key};
  }
  return {EtcdOp::Kind::kPut, key, EncodeRef(ref)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<EtcdRefStore>> EtcdRefStore::Make(
    EtcdClient* client, EtcdRefStoreOptions options) {
  AGENTMEM_RETURN_IF_ERROR(
      CheckClusterName("the cluster's name", options.cluster));
  if (options.timeout_ns <= 0) {
    return InvalidArgument("refs in etcd: a timeout of " +
                           std::to_string(options.timeout_ns) +
                           " ns: allowed is more than 0");
  }
  return std::unique_ptr<EtcdRefStore>(
      new EtcdRefStore(client, std::move(options)));
}

EtcdRefStore::EtcdRefStore(EtcdClient* client, EtcdRefStoreOptions options)
    : client_(client),
      options_(std::move(options)),
      prefix_(RefsPrefix(options_.cluster)) {}

absl::StatusOr<Ref> EtcdRefStore::Get(const std::string& name) {
  AGENTMEM_ASSIGN_OR_RETURN(Ref ref, Read(name));
  if (ref.version == 0) return NotFound("ref '" + name + "' has no value");
  return ref;
}

absl::StatusOr<Ref> EtcdRefStore::Read(const std::string& name) {
  AGENTMEM_RETURN_IF_ERROR(CheckName(name));
  AGENTMEM_ASSIGN_OR_RETURN(Found found,
                            Find(name, MonotonicNowNs() + options_.timeout_ns));
  return std::move(found.ref);
}

absl::StatusOr<EtcdRefStore::Found> EtcdRefStore::Find(const std::string& name,
                                                       TimeNs deadline) {
  AGENTMEM_ASSIGN_OR_RETURN(const EtcdRangeResult range,
                            client_->Range({prefix_ + name}, deadline));
  if (range.values.empty()) return Found();
  AGENTMEM_RETURN_IF_ERROR(CheckKey(range.values[0].key, prefix_ + name));
  AGENTMEM_ASSIGN_OR_RETURN(Ref ref, DecodeRef(name, range.values[0].value));
  return Found{std::move(ref), range.values[0].mod_revision};
}

absl::StatusOr<Fence> EtcdRefStore::AcquireFence(const std::string& name) {
  AGENTMEM_RETURN_IF_ERROR(CheckName(name));
  const TimeNs deadline = MonotonicNowNs() + options_.timeout_ns;
  while (true) {
    AGENTMEM_ASSIGN_OR_RETURN(Found found, Find(name, deadline));
    found.ref.fence = Fence(found.ref.fence.value() + 1);
    EtcdTxn txn;
    txn.unchanged = {{prefix_ + name, found.revision}};
    txn.then = {Write(prefix_ + name, found.ref)};
    AGENTMEM_ASSIGN_OR_RETURN(const EtcdTxnResult result,
                              client_->Txn(txn, deadline));
    if (result.held) return found.ref.fence;
  }
}

absl::StatusOr<std::uint64_t> EtcdRefStore::CompareAndSwap(
    const std::string& name, std::uint64_t expected_version, Fence fence,
    const std::string& value) {
  const RefChange change = {name, expected_version, fence, value, false};
  AGENTMEM_RETURN_IF_ERROR(Commit({&change, 1}, {}));
  return expected_version + 1;
}

absl::Status EtcdRefStore::CheckCommit(std::span<const RefChange> changes,
                                       std::span<const RefBlock> blocks) const {
  std::size_t block_bytes = 0;
  for (const RefBlock& block : blocks) block_bytes += block.bytes.size();
  if (block_bytes > kCommitBytesMax) {
    return InvalidArgument("a commit with " + std::to_string(block_bytes) +
                           " bytes of blocks: allowed are " +
                           std::to_string(kCommitBytesMax));
  }
  if (!blocks.empty() && options_.write_blocks == nullptr) {
    return FailedPrecondition(
        "a commit with blocks, and these refs have no store of blocks beside "
        "them: put the blocks first");
  }
  if (changes.size() > kEtcdTxnOpsMax) {
    return InvalidArgument("a commit of " + std::to_string(changes.size()) +
                           " refs: etcd allows " +
                           std::to_string(kEtcdTxnOpsMax) +
                           " in a transaction");
  }
  std::size_t bytes = 0;
  std::set<std::string> names;
  for (const RefChange& change : changes) {
    AGENTMEM_RETURN_IF_ERROR(CheckName(change.name));
    if (change.value.size() > kValueBytesMax) {
      return InvalidArgument("the value of ref '" + change.name + "' of " +
                             std::to_string(change.value.size()) +
                             " bytes: allowed are 0 to " +
                             std::to_string(kValueBytesMax));
    }
    if (!names.insert(change.name).second) {
      return InvalidArgument("a commit changes ref '" + change.name +
                             "' twice: once is allowed");
    }
    bytes += 3 * (prefix_.size() + change.name.size()) + change.value.size() +
             kChangeFramingBytes;
  }
  if (bytes > kEtcdRequestBytesMax) {
    return InvalidArgument("a commit of " + std::to_string(changes.size()) +
                           " refs makes a transaction of " +
                           std::to_string(bytes) + " bytes: etcd allows " +
                           std::to_string(kEtcdRequestBytesMax));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<EtcdRefStore::Found>> EtcdRefStore::Match(
    std::span<const RefChange> changes,
    const std::vector<EtcdKeyValue>& found) const {
  std::vector<Found> refs(changes.size());
  auto next = found.begin();  // the gets' order, less what is not there
  for (std::size_t i = 0; i < changes.size(); ++i) {
    if (next == found.end() || next->key != prefix_ + changes[i].name) continue;
    AGENTMEM_ASSIGN_OR_RETURN(refs[i].ref,
                              DecodeRef(changes[i].name, next->value));
    refs[i].revision = next->mod_revision;
    ++next;
  }
  return refs;
}

absl::StatusOr<bool> EtcdRefStore::TryCommit(std::span<const RefChange> changes,
                                             std::vector<Found>* refs,
                                             TimeNs deadline) {
  EtcdTxn txn;
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const std::string key = prefix_ + changes[i].name;
    AGENTMEM_ASSIGN_OR_RETURN(const Ref changed,
                              Changed(changes[i], (*refs)[i].ref));
    txn.unchanged.emplace_back(key, (*refs)[i].revision);
    if (!changes[i].only_check) txn.then.push_back(Write(key, changed));
    txn.otherwise.push_back({EtcdOp::Kind::kGet, key});
  }
  AGENTMEM_ASSIGN_OR_RETURN(const EtcdTxnResult result,
                            client_->Txn(txn, deadline));
  if (result.held) return true;
  AGENTMEM_ASSIGN_OR_RETURN(*refs, Match(changes, result.values));
  return false;
}

absl::Status EtcdRefStore::Commit(std::span<const RefChange> changes,
                                  std::span<const RefBlock> blocks) {
  AGENTMEM_RETURN_IF_ERROR(CheckCommit(changes, blocks));
  TimeNs deadline = MonotonicNowNs() + options_.timeout_ns;
  EtcdTxn look;
  for (const RefChange& change : changes) {
    look.then.push_back({EtcdOp::Kind::kGet, prefix_ + change.name});
  }
  AGENTMEM_ASSIGN_OR_RETURN(const EtcdTxnResult looked,
                            client_->Txn(look, deadline));
  AGENTMEM_ASSIGN_OR_RETURN(std::vector<Found> refs,
                            Match(changes, looked.values));
  if (!blocks.empty()) {
    for (std::size_t i = 0; i < changes.size(); ++i) {
      AGENTMEM_RETURN_IF_ERROR(Changed(changes[i], refs[i].ref).status());
    }
    AGENTMEM_RETURN_IF_ERROR(options_.write_blocks(blocks));
    deadline = MonotonicNowNs() + options_.timeout_ns;
  }
  if (changes.empty()) return absl::OkStatus();
  // Again only when somebody changed a ref, and then to what is expected.
  while (true) {
    AGENTMEM_ASSIGN_OR_RETURN(const bool made,
                              TryCommit(changes, &refs, deadline));
    if (made) return absl::OkStatus();
  }
}

absl::StatusOr<std::vector<std::string>> EtcdRefStore::List(
    const std::string& prefix) {
  AGENTMEM_ASSIGN_OR_RETURN(std::vector<NamedRef> refs, ReadAll({&prefix, 1}));
  std::vector<std::string> names;
  names.reserve(refs.size());
  for (NamedRef& named : refs) names.push_back(std::move(named.name));
  return names;
}

absl::StatusOr<std::vector<NamedRef>> EtcdRefStore::ReadAll(
    std::span<const std::string> prefixes) {
  std::vector<NamedRef> refs;
  std::int64_t revision = 0;
  for (const std::string& prefix : prefixes) {
    AGENTMEM_RETURN_IF_ERROR(AddAll(
        prefix, MonotonicNowNs() + options_.timeout_ns, &revision, &refs));
  }
  return refs;
}

absl::Status EtcdRefStore::AddAll(const std::string& prefix, TimeNs deadline,
                                  std::int64_t* revision,
                                  std::vector<NamedRef>* refs) {
  EtcdRangeRequest request;
  request.key = prefix_ + prefix;
  request.range_end = EtcdPrefixEnd(request.key);
  request.limit = kListPageRefs;
  while (true) {
    request.revision = *revision;
    auto page = client_->Range(request, deadline);
    if (page.status().code() == absl::StatusCode::kOutOfRange) {
      return Unavailable("listing refs: " + StatusMessage(page.status()) +
                         " (it took too long: list them again)");
    }
    AGENTMEM_RETURN_IF_ERROR(page.status());
    for (const EtcdKeyValue& value : page->values) {
      AGENTMEM_RETURN_IF_ERROR(
          CheckKey(value.key.substr(0, prefix_.size() + prefix.size()),
                   prefix_ + prefix));
      std::string name = value.key.substr(prefix_.size());
      AGENTMEM_ASSIGN_OR_RETURN(Ref ref, DecodeRef(name, value.value));
      if (ref.version > 0) refs->push_back({std::move(name), std::move(ref)});
    }
    // All that comes after is of the same moment.
    if (*revision == 0) *revision = page->revision;
    if (!page->more || page->values.empty()) return absl::OkStatus();
    request.key = page->values.back().key + '\0';
  }
}

}  // namespace agentmem
