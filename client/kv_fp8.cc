#include "client/kv_fp8.h"

#include <string>

#include "client/kv_wait.h"

namespace agentmem::client {

Outcome Compress(const DeviceProperties& properties, const KvCache& plain,
                 KvCache* compressed) {
  const KvLayout& layout = plain.layout;
  if (!IsFp8Source(layout.type)) {
    return Fail(Code::kInvalidArgument,
                "type is " + std::to_string(static_cast<int>(layout.type)) +
                    "; float16 (0), bfloat16 (1) and float32 (2) become FP8");
  }
  const std::uint32_t most = properties.kernel_fragments_max;
  if (most == 0) {
    return Fail(Code::kFailedPrecondition,
                "device " + properties.name +
                    " runs no kernels of this process, which compress");
  }
  const std::uint64_t descriptors = DescriptorsOf(
      std::uint64_t{layout.layers} * layout.planes, plain.block_pages);
  if (descriptors > most) {
    return Fail(Code::kInvalidArgument,
                "a block has " + std::to_string(plain.block_pages) +
                    " pages: with its layers these are " +
                    std::to_string(descriptors) +
                    " descriptors of a kernel; at most " +
                    std::to_string(most) + " are allowed");
  }
  *compressed = plain;
  compressed->fp8 =
      Fp8Block(layout, std::uint64_t{plain.block_pages} * layout.page_tokens);
  compressed->block_bytes = compressed->fp8->bytes();
  return {};
}

KvFp8Post::KvFp8Post(Device* device, const KvCache& cache, Direction direction,
                     Stream stream)
    : device_(device), cache_(cache), direction_(direction), stream_(stream) {}

Outcome KvFp8Post::Add(std::uint32_t first, std::uint32_t count,
                       std::span<const std::uint32_t> pages, char* block,
                       const Deadline& deadline) {
  const std::uint64_t more = std::uint64_t{count} * cache_.layout.planes;
  if (DescriptorsOf(pieces_.size() + more, pages_.size() + pages.size()) >
      device_->properties().kernel_fragments_max) {
    Outcome outcome = Flush(deadline);
    if (!outcome.ok()) return outcome;
  }
  const auto first_page = static_cast<std::uint32_t>(pages_.size());
  pages_.insert(pages_.end(), pages.begin(), pages.end());
  for (std::uint32_t layer = first; layer < first + count; ++layer) {
    cache_.fp8->AppendPieces(cache_.view(), layer, first_page,
                             static_cast<std::uint32_t>(pages.size()), block,
                             &pieces_);
  }
  return {};
}

Outcome KvFp8Post::Flush(const Deadline& deadline) {
  const Fp8Batch fp8 = {Fp8Shape::Of(cache_.layout), pieces_, pages_};
  CopyBatch batch;
  batch.direction = direction_;
  batch.method = CopyMethod::kKernel;
  batch.fp8 = &fp8;
  Outcome outcome;
  if (!pieces_.empty()) {
    // Kernels that are under way give descriptors back when they end: they wait
    // for nothing that the caller has yet to do.
    WaitForDevice(
        [&] {
          outcome = device_->Copy(batch, stream_);
          return outcome.code != Code::kResourceExhausted;
        },
        deadline);
  }
  pieces_.clear();
  pages_.clear();
  return outcome;
}

}  // namespace agentmem::client
