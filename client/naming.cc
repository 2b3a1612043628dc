#include "client/naming.h"

#include <openssl/evp.h>

#include <bit>
#include <cstring>

namespace agentmem::client {
namespace {

static_assert(std::endian::native == std::endian::little,
              "integers are hashed as they stand in memory");

// Fetched once: the fetch takes locks and searches providers.
const EVP_MD* Sha256() {
  static const EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return fetched;
}

Key KeyFrom(const Digest& digest) {
  Key key;
  std::memcpy(key.name.data(), digest.data(), 12);
  std::memcpy(&key.group, digest.data() + 12, 4);
  return key;
}

}  // namespace

void Namer::ContextDeleter::operator()(EVP_MD_CTX* context) const {
  EVP_MD_CTX_free(context);
}

Namer::Namer(const TenantKey& tenant_key)
    : tenant_key_(tenant_key), context_(EVP_MD_CTX_new()) {
  ok_ = context_ != nullptr && Sha256() != nullptr &&
        EVP_DigestInit_ex(context_.get(), Sha256(), nullptr) == 1;
}

void Namer::Begin() {
  ok_ = ok_ && EVP_DigestInit_ex(context_.get(), Sha256(), nullptr) == 1;
}

void Namer::BeginKeyed(const char* domain) {
  Begin();
  Add(tenant_key_.data(), tenant_key_.size());
  Add(domain, 8);
}

void Namer::Add(const void* bytes, std::size_t count) {
  ok_ = ok_ && EVP_DigestUpdate(context_.get(), bytes, count) == 1;
}

Digest Namer::End() {
  Digest digest = {};
  ok_ = ok_ && EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1;
  return digest;
}

Digest Namer::ModelDigest(const std::string& model,
                          const std::string& layout_digest) {
  Begin();
  Add32(static_cast<std::uint32_t>(model.size()));
  Add(model.data(), model.size());
  Add32(static_cast<std::uint32_t>(layout_digest.size()));
  Add(layout_digest.data(), layout_digest.size());
  return End();
}

Key Namer::SequenceBlock(const Digest& model, const Key& parent,
                         std::uint64_t index,
                         std::span<const std::uint32_t> tokens) {
  const std::array<std::uint32_t, 3> parent_name =
      index == 0 ? std::array<std::uint32_t, 3>{} : parent.name;
  BeginKeyed("AGMSEQ01");
  Add32(static_cast<std::uint32_t>(tokens.size()));
  Add(model.data(), model.size());
  Add(parent_name.data(), sizeof(parent_name));
  Add64(index);
  Add(tokens.data(), tokens.size_bytes());
  const Digest digest = End();
  Key key;
  std::memcpy(key.name.data(), digest.data(), sizeof(key.name));
  key.group = parent.group;
  if (index % kBlocksInGroup == 0) {
    BeginKeyed("AGMGRP01");
    Add(key.name.data(), sizeof(key.name));
    const Digest group = End();
    std::memcpy(&key.group, group.data(), sizeof(key.group));
  }
  return key;
}

Key Namer::ObjectRoot(const std::string& name) {
  BeginKeyed("AGMOBJ01");
  Add(name.data(), name.size());
  return KeyFrom(End());
}

Key Namer::ObjectChunk(const Nonce& nonce, std::uint64_t index) {
  BeginKeyed("AGMCHK01");
  Add(nonce.data(), nonce.size());
  Add64(index);
  return KeyFrom(End());
}

}  // namespace agentmem::client
