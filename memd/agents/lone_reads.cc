#include "memd/agents/lone_reads.h"

namespace agentmem {

LoneReads::LoneReads(BlockStore* store, TenantId tenant)
    : tenant_(tenant), reader_(store->NewReader()), buffer_(kBytesMax) {}

bool LoneReads::Read(const Key& key, std::uint32_t length,
                     absl::FunctionRef<void(const char*)> use) {
  if (reader_ == nullptr || length > kBytesMax) return false;
  if (busy_.exchange(true, std::memory_order_acquire)) return false;
  StoreOp get;
  get.kind = StoreOp::Kind::kGet;
  get.tenant = tenant_;
  get.key = key;
  get.bytes[0] = {buffer_.data(), length};
  const bool read = reader_->Read(get).code == Code::kOk;
  if (read) use(buffer_.data());
  busy_.store(false, std::memory_order_release);
  return read;
}

}  // namespace agentmem
