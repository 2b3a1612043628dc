// PoolNode: finds that this node's store answers, a while later.
#include <cstring>

#include "memd/pool/message_builder.h"
#include "memd/pool/pool_node.h"
#include "memd/pool/pool_timing.h"

namespace agentmem {

void PoolNode::ServeFinds(std::uint32_t index, const PoolHeader& header,
                          std::span<const char> body) {
  Deferred answer;
  answer.peer = index;
  answer.instance = peers_[index]->card.instance;
  answer.header = header;
  const std::uint64_t id = next_deferred_++;
  for (std::uint32_t i = 0; i < header.count; ++i) {
    const auto asked = EntryAt<PoolName>(body, i);
    const ExportPool::Name name = {asked.tenant, asked.key};
    answer.found.push_back(FindHere(name));
    if (answer.found.back().code == Code::kOk) continue;
    PoolFound& found = answer.found.back();
    StoredLoad* const load = LoadStored(name, &found.code, &found.block_class);
    if (load == nullptr) continue;
    load->waiters.push_back({id, i});
    ++answer.left;
  }
  if (answer.left == 0) return SendFound(answer);
  deferred_[id] = std::move(answer);
}

PoolFound PoolNode::FindHere(const ExportPool::Name& name) {
  PoolFound found = {};
  found.code = Code::kNotFound;
  if (exports_ == nullptr) return found;
  const ExportPool::Block* const block = exports_->Find(name);
  if (block == nullptr) return found;
  found.code = Code::kOk;
  found.block_class = block->block_class;
  found.length = block->length;
  found.offset = block->offset;
  found.generation = block->generation;
  found.checksum = block->checksum;
  std::memcpy(found.seal, &block->seal, sizeof(found.seal));
  return found;
}

// Null: the store does not have it, or cannot read it; `code` says which, and
// `block_class` of what class it was.
PoolNode::StoredLoad* PoolNode::LoadStored(const ExportPool::Name& name,
                                           Code* code,
                                           BlockClass* block_class) {
  if (stored_ == nullptr || exports_ == nullptr) return nullptr;
  if (const auto under_way = loading_.find(name); under_way != loading_.end()) {
    return &stored_loads_.find(under_way->second)->second;
  }
  StoredBlocks::Found stored;
  if (!stored_->Lookup(name.tenant, name.key, &stored)) return nullptr;
  *block_class = stored.block_class;
  *code = stored.corrupt ? Code::kDataLoss : Code::kUnavailable;
  if (stored.corrupt || stored_loads_.size() >= kStoredLoadsMax) return nullptr;
  ExportPool::Block block;
  block.name = name;
  block.block_class = stored.block_class;
  block.length = stored.length;
  block.owner = id_;
  block.below = true;
  if (exports_->Reserve(&block, now_) != Code::kOk) return nullptr;
  // Nothing lies in the clear where peers can read it, if blocks are sealed.
  char* const buffer = sealing_ == nullptr ? nullptr : sealing_->Take();
  char* const to = buffer == nullptr ? exports_->At(block.offset) : buffer;
  if ((sealing_ != nullptr && buffer == nullptr) ||
      !stored_->Load(name.tenant, name.key, to, block.length,
                     block.generation)) {
    if (buffer != nullptr) sealing_->Give(buffer);
    exports_->Abandon(block.generation);
    return nullptr;
  }
  loading_[name] = block.generation;
  StoredLoad& load = stored_loads_[block.generation];
  load.block = block;
  load.buffer = buffer;
  return &load;
}

void PoolNode::OnLoaded(std::uint64_t generation, Code code) {
  const auto found = stored_loads_.find(generation);
  if (found == stored_loads_.end()) return;
  const StoredLoad load = std::move(found->second);
  stored_loads_.erase(found);
  const ExportPool::Block& block = load.block;
  loading_.erase(block.name);
  char* const place = exports_->At(block.offset);
  SealedHeader seal = {};
  if (code == Code::kOk && load.buffer != nullptr) {
    const absl::Status sealed =
        sealing_->Seal(block.name.tenant, block.name.key,
                       {load.buffer, block.length}, load.buffer, &seal);
    if (sealed.ok()) {
      std::memcpy(place, load.buffer, block.length);
    } else {
      code = Code::kInternal;
    }
  }
  if (load.buffer != nullptr) sealing_->Give(load.buffer);
  if (code == Code::kOk) {
    const std::uint64_t hash = PieceDigest::Of(
        PoolSeed(block.name.tenant, block.name.key), place, block.length);
    exports_->Commit(block.name, generation, PoolChecksum(hash, generation),
                     seal);
  } else {
    exports_->Abandon(generation);
  }
  for (const auto& [id, entry] : load.waiters) {
    const auto waiting = deferred_.find(id);
    if (waiting == deferred_.end()) continue;
    Deferred& answer = waiting->second;
    answer.found[entry] = FindHere(block.name);
    // The store failed; it does not say that the block is gone.
    if (answer.found[entry].code != Code::kOk && code != Code::kNotFound) {
      answer.found[entry].block_class = block.block_class;
      answer.found[entry].code =
          code == Code::kDataLoss ? code : Code::kUnavailable;
    }
    if (--answer.left != 0) continue;
    SendFound(answer);
    deferred_.erase(waiting);
  }
}

void PoolNode::SendFound(const Deferred& answer) {
  const Peer& peer = *peers_[answer.peer];
  // Another run of it did not ask.
  if (peer.gone || peer.card.instance != answer.instance) return;
  MessageBuilder message(PoolMessage::kFound, peer.card.token,
                         answer.header.request);
  for (const PoolFound& found : answer.found) message.Add(found);
  SendOrKeep(answer.peer, message.Finish());
}

}  // namespace agentmem
