#include "client/objects.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "client/messages.h"
#include "proto/key_text.h"

namespace agentmem::client {
namespace {

Outcome RandomNonce(Nonce* nonce) {
  const ssize_t got = getrandom(nonce->data(), nonce->size(), 0);
  if (got == static_cast<ssize_t>(nonce->size())) return {};
  return Fail(Code::kInternal,
              std::string("getrandom: ") + std::strerror(errno));
}

Outcome Named(const std::string& name, Outcome outcome) {
  if (!outcome.ok()) {
    outcome.message = "object \"" + name + "\": " + outcome.message;
  }
  return outcome;
}

std::uint64_t ChunkLength(const ObjectHeader& header, std::uint64_t index) {
  return std::min<std::uint64_t>(header.chunk_bytes,
                                 header.length - index * header.chunk_bytes);
}

// Reads and checks what stands at the beginning of a root.
Outcome ParseRoot(const agentmem_span& span, ObjectHeader* header) {
  const Outcome broken =
      Fail(Code::kDataLoss, "the block under its key is not an object's root");
  if (span.length < sizeof(ObjectHeader)) return broken;
  std::memcpy(header, span.data, sizeof(*header));
  if (header->magic != kObjectMagic) return broken;
  if (header->version != kObjectVersion) {
    return Fail(Code::kFailedPrecondition,
                "it is stored in version " + std::to_string(header->version) +
                    " of the object layout, this libagentmem reads version " +
                    std::to_string(kObjectVersion));
  }
  const bool in_root = (header->flags & kObjectInline) != 0;
  if (header->header_bytes != sizeof(ObjectHeader) ||
      header->chunk_bytes == 0 || header->chunk_bytes > kMaxBlockBytes ||
      (in_root && header->length != span.length - sizeof(ObjectHeader))) {
    return broken;
  }
  return {};
}

}  // namespace

Outcome Objects::ReadRoot(const Key& root, const Deadline& deadline,
                          agentmem_span* span, ObjectHeader* header) {
  Outcome outcome = reader_->Get(&root, 1, deadline, span);
  if (outcome.code == Code::kNotFound) {
    return Fail(Code::kNotFound, "there is no such object");
  }
  if (!outcome.ok()) return outcome;
  outcome = ParseRoot(*span, header);
  if (!outcome.ok()) reader_->Release(span, 1);
  return outcome;
}

Outcome Objects::Put(Namer* namer, const std::string& name, const char* bytes,
                     std::uint64_t length, const Policy& policy,
                     const Deadline& deadline) {
  const Outcome taken =
      Fail(Code::kAlreadyExists, "the name is taken; objects never change");
  const Key root = namer->ObjectRoot(name);
  agentmem_span span = {};
  ObjectHeader stored;
  Outcome looked = ReadRoot(root, deadline, &span, &stored);
  if (looked.ok()) {
    reader_->Release(&span, 1);
    return Named(name, taken);
  }
  if (looked.code != Code::kNotFound) return Named(name, std::move(looked));

  Nonce nonce;
  if (Outcome outcome = RandomNonce(&nonce); !outcome.ok()) return outcome;
  ObjectHeader header = {};
  header.magic = kObjectMagic;
  header.version = kObjectVersion;
  header.header_bytes = sizeof(header);
  header.length = length;
  header.chunk_bytes = kObjectChunkBytes;
  header.flags = length <= kObjectInlineBytesMax ? kObjectInline : 0;
  std::memcpy(header.nonce, nonce.data(), nonce.size());
  if ((header.flags & kObjectInline) == 0) {
    if (Outcome outcome =
            PutChunks(namer, nonce, bytes, length, policy, deadline);
        !outcome.ok()) {
      return Named(name, std::move(outcome));
    }
  }
  if (Outcome outcome = PutRoot(root, header, bytes, policy, deadline);
      !outcome.ok()) {
    return Named(name, std::move(outcome));
  }
  // Of two writers at once, whose root is it? A cache block may be gone again.
  looked = ReadRoot(root, deadline, &span, &stored);
  if (!looked.ok()) {
    return looked.code == Code::kNotFound ? Outcome{}
                                          : Named(name, std::move(looked));
  }
  reader_->Release(&span, 1);
  if (std::memcmp(stored.nonce, nonce.data(), nonce.size()) != 0) {
    return Named(name, taken);
  }
  return {};
}

Outcome Objects::PutChunks(Namer* namer, const Nonce& nonce, const char* bytes,
                           std::uint64_t length, const Policy& policy,
                           const Deadline& deadline) {
  Posted window[kWindow];
  Outcome outcome;
  const std::uint64_t chunks =
      (length + kObjectChunkBytes - 1) / kObjectChunkBytes;
  for (std::uint64_t i = 0; i < chunks && outcome.ok(); ++i) {
    Posted& posted = window[i % kWindow];
    if (posted.id != 0) outcome = Finish(&posted, deadline);
    if (!outcome.ok()) break;
    const std::uint64_t offset = i * kObjectChunkBytes;
    posted.request = {
        namer->ObjectChunk(nonce, i), policy.block_class, policy.ack,
        std::min<std::uint64_t>(kObjectChunkBytes, length - offset)};
    posted.bytes = bytes + offset;
    outcome = writer_->Put(posted.request, posted.bytes, deadline, &posted.id);
  }
  for (Posted& posted : window) {
    if (posted.id == 0) continue;
    if (outcome.ok()) {
      outcome = Finish(&posted, deadline);
    } else {
      writer_->Forget(posted.id);
    }
  }
  return outcome;
}

Outcome Objects::PutRoot(const Key& root, const ObjectHeader& header,
                         const char* bytes, const Policy& policy,
                         const Deadline& deadline) {
  const std::uint64_t in_root =
      (header.flags & kObjectInline) != 0 ? header.length : 0;
  const auto block =
      std::make_unique_for_overwrite<char[]>(sizeof(header) + in_root);
  std::memcpy(block.get(), &header, sizeof(header));
  if (in_root != 0) std::memcpy(block.get() + sizeof(header), bytes, in_root);
  Posted posted;
  posted.request = {root, policy.block_class, policy.ack,
                    sizeof(header) + in_root};
  posted.bytes = block.get();
  Outcome outcome =
      writer_->Put(posted.request, posted.bytes, deadline, &posted.id);
  if (!outcome.ok()) return outcome;
  return Finish(&posted, deadline);
}

// Waits for a put; if memd died under it, puts once more.
Outcome Objects::Finish(Posted* posted, const Deadline& deadline) {
  Outcome outcome = writer_->Wait(posted->id, deadline);
  if (outcome.code == Code::kUnavailable && !deadline.Passed()) {
    posted->id = 0;
    outcome =
        writer_->Put(posted->request, posted->bytes, deadline, &posted->id);
    if (outcome.ok()) outcome = writer_->Wait(posted->id, deadline);
  }
  if (outcome.code == Code::kDeadlineExceeded && posted->id != 0) {
    writer_->Forget(posted->id);
  }
  posted->id = 0;
  return outcome;
}

Outcome Objects::Size(Namer* namer, const std::string& name,
                      const Deadline& deadline, std::uint64_t* length) {
  agentmem_span span = {};
  ObjectHeader header;
  if (Outcome outcome =
          ReadRoot(namer->ObjectRoot(name), deadline, &span, &header);
      !outcome.ok()) {
    return Named(name, std::move(outcome));
  }
  reader_->Release(&span, 1);
  *length = header.length;
  return {};
}

Outcome Objects::Get(Namer* namer, const std::string& name,
                     std::uint64_t offset, char* bytes, std::uint64_t capacity,
                     const Deadline& deadline, std::uint64_t* length) {
  *length = 0;
  agentmem_span span = {};
  ObjectHeader header;
  if (Outcome outcome =
          ReadRoot(namer->ObjectRoot(name), deadline, &span, &header);
      !outcome.ok()) {
    return Named(name, std::move(outcome));
  }
  const std::uint64_t count =
      offset >= header.length ? 0 : std::min(capacity, header.length - offset);
  const bool in_root = (header.flags & kObjectInline) != 0;
  if (in_root && count != 0) {
    std::memcpy(bytes,
                static_cast<const char*>(span.data) + sizeof(header) + offset,
                count);
  }
  reader_->Release(&span, 1);
  if (!in_root && count != 0) {
    if (Outcome outcome =
            CopyChunks(namer, header, offset, bytes, count, deadline);
        !outcome.ok()) {
      return Named(name, std::move(outcome));
    }
  }
  *length = count;
  return {};
}

Outcome Objects::CopyChunks(Namer* namer, const ObjectHeader& header,
                            std::uint64_t offset, char* bytes,
                            std::uint64_t count, const Deadline& deadline) {
  Nonce nonce;
  std::memcpy(nonce.data(), header.nonce, nonce.size());
  const std::uint64_t end = offset + count;
  std::uint64_t at = offset;
  while (at < end) {
    const std::uint64_t first = at / header.chunk_bytes;
    const std::uint64_t last = (end - 1) / header.chunk_bytes;
    const std::size_t chunks =
        std::min<std::uint64_t>(last - first + 1, kWindow);
    Key keys[kWindow];
    agentmem_span spans[kWindow] = {};
    for (std::size_t i = 0; i < chunks; ++i) {
      keys[i] = namer->ObjectChunk(nonce, first + i);
    }
    Outcome outcome = reader_->Get(keys, chunks, deadline, spans);
    for (std::size_t i = 0; i < chunks && outcome.ok(); ++i) {
      if (spans[i].length != ChunkLength(header, first + i)) {
        outcome = Fail(Code::kDataLoss, "block " + KeyText(keys[i]) +
                                            " is not as long as its chunk");
        break;
      }
      const std::uint64_t skip = at - (first + i) * header.chunk_bytes;
      const std::uint64_t part =
          std::min<std::uint64_t>(spans[i].length - skip, end - at);
      std::memcpy(bytes + (at - offset),
                  static_cast<const char*>(spans[i].data) + skip, part);
      at += part;
    }
    reader_->Release(spans, chunks);
    if (!outcome.ok()) return outcome;
  }
  return {};
}

}  // namespace agentmem::client
