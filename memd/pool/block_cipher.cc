#include "memd/pool/block_cipher.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "proto/key_text.h"

namespace agentmem {
namespace {

static_assert(std::endian::native == std::endian::little);

// Blocks of one pool were sealed by a few threads of each of its writers.
constexpr std::size_t kCachedSubkeys = 64;
constexpr std::size_t kNonceBytes = 12;
constexpr std::size_t kTagBytes = sizeof(SealedHeader::tag);
constexpr char kSubkeyPurpose[] = "agentmem sealed block 1";

using Salt = std::array<unsigned char, sizeof(SealedHeader::salt)>;

// What the tag covers besides the bytes.
struct AdditionalData {
  std::uint64_t tenant;
  std::uint64_t key_low;
  std::uint64_t key_high;
  std::uint32_t key_id;
  std::uint32_t format;
  std::uint64_t plain_length;
};
static_assert(sizeof(AdditionalData) == 40);

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const {
    EVP_CIPHER_CTX_free(context);
  }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

struct FreeKdf {
  void operator()(EVP_KDF* kdf) const { EVP_KDF_free(kdf); }
  void operator()(EVP_KDF_CTX* context) const { EVP_KDF_CTX_free(context); }
};

const unsigned char* Bytes(const char* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
unsigned char* Bytes(char* bytes) {
  return reinterpret_cast<unsigned char*>(bytes);
}

absl::Status CryptoFailed(const char* what) {
  char text[256];
  ERR_error_string_n(ERR_get_error(), text, sizeof(text));
  ERR_clear_error();
  return Internal(std::string(what) + " failed in libcrypto: " + text);
}

std::string Name(std::uint64_t tenant, const Key& key) {
  return "block " + KeyText(key) + " of tenant " + std::to_string(tenant);
}

absl::Status CheckLength(std::size_t plain_length) {
  if (plain_length >= 1 && plain_length <= kMaxBlockBytes) {
    return absl::OkStatus();
  }
  return InvalidArgument("a block has 1 to " + std::to_string(kMaxBlockBytes) +
                         " bytes, not " + std::to_string(plain_length));
}

}  // namespace

struct BlockCipher::Impl {
  // A context that is keyed once for its subkey.
  struct Subkey {
    KeyId key_id;
    Salt salt = {};
    CipherContext context;
    std::uint64_t used = 0;  // by `uses`; the least goes first
  };

  absl::Status Init();
  absl::Status NewSealingSubkey();
  absl::StatusOr<CipherContext> MakeContext(KeyId key_id, const Salt& salt,
                                            bool seals);
  absl::StatusOr<EVP_CIPHER_CTX*> ContextFor(KeyId key_id, const Salt& salt);
  // The nonce and the additional data of one block.
  static bool Begin(EVP_CIPHER_CTX* context, std::uint64_t counter,
                    const AdditionalData& additional);

  std::shared_ptr<const CipherKeys> keys;
  std::uint64_t seals_per_subkey = 0;
  std::unique_ptr<EVP_KDF, FreeKdf> kdf;

  Subkey sealing;
  std::uint64_t counter = 0;  // of the last block that `sealing` sealed

  std::vector<Subkey> opening;
  std::uint64_t uses = 0;

  // Of a StartOpen that goes on; nullptr: none does.
  EVP_CIPHER_CTX* open_context = nullptr;
  std::size_t open_left = 0;
  std::uint64_t open_tenant = 0;
  Key open_key;
  std::array<unsigned char, kTagBytes> open_tag = {};
};

absl::Status BlockCipher::Impl::Init() {
  kdf.reset(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  if (kdf == nullptr) return CryptoFailed("finding HKDF");
  opening.reserve(kCachedSubkeys);
  return NewSealingSubkey();
}

absl::Status BlockCipher::Impl::NewSealingSubkey() {
  Subkey fresh;
  fresh.key_id = keys->newest();
  if (getrandom(fresh.salt.data(), fresh.salt.size(), 0) !=
      static_cast<ssize_t>(fresh.salt.size())) {
    return ErrnoStatus("getrandom");
  }
  AGENTMEM_ASSIGN_OR_RETURN(fresh.context,
                            MakeContext(fresh.key_id, fresh.salt, true));
  sealing = std::move(fresh);
  counter = 0;
  return absl::OkStatus();
}

absl::StatusOr<CipherContext> BlockCipher::Impl::MakeContext(KeyId key_id,
                                                             const Salt& salt,
                                                             bool seals) {
  const CipherKeys::Secret* const secret = keys->Find(key_id);
  if (secret == nullptr) {
    return NotFound("key id " + std::to_string(key_id.value()) +
                    " is not in this node's key file (" +
                    std::to_string(keys->size()) +
                    " keys): give all nodes the same keys");
  }
  std::unique_ptr<EVP_KDF_CTX, FreeKdf> derivation(EVP_KDF_CTX_new(kdf.get()));
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(
          OSSL_KDF_PARAM_KEY, const_cast<unsigned char*>(secret->data()),
          secret->size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT,
                                        const_cast<unsigned char*>(salt.data()),
                                        salt.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO,
                                        const_cast<char*>(kSubkeyPurpose),
                                        sizeof(kSubkeyPurpose) - 1),
      OSSL_PARAM_construct_end()};
  CipherKeys::Secret subkey;
  CipherContext context(EVP_CIPHER_CTX_new());
  const bool made =
      derivation != nullptr && context != nullptr &&
      EVP_KDF_derive(derivation.get(), subkey.data(), subkey.size(),
                     parameters) == 1 &&
      EVP_CipherInit_ex(context.get(), EVP_aes_256_gcm(), nullptr,
                        subkey.data(), nullptr, seals ? 1 : 0) == 1;
  OPENSSL_cleanse(subkey.data(), subkey.size());
  if (!made) return CryptoFailed("deriving a subkey");
  return context;
}

absl::StatusOr<EVP_CIPHER_CTX*> BlockCipher::Impl::ContextFor(
    KeyId key_id, const Salt& salt) {
  ++uses;
  for (Subkey& subkey : opening) {
    if (subkey.key_id == key_id && subkey.salt == salt) {
      subkey.used = uses;
      return subkey.context.get();
    }
  }
  AGENTMEM_ASSIGN_OR_RETURN(CipherContext context,
                            MakeContext(key_id, salt, false));
  Subkey* place = nullptr;
  if (opening.size() < kCachedSubkeys) {
    place = &opening.emplace_back();
  } else {
    place = &*std::min_element(
        opening.begin(), opening.end(),
        [](const Subkey& a, const Subkey& b) { return a.used < b.used; });
  }
  *place = Subkey{key_id, salt, std::move(context), uses};
  return place->context.get();
}

bool BlockCipher::Impl::Begin(EVP_CIPHER_CTX* context, std::uint64_t counter,
                              const AdditionalData& additional) {
  unsigned char nonce[kNonceBytes] = {};
  std::memcpy(nonce, &counter, sizeof(counter));
  int taken = 0;
  return EVP_CipherInit_ex(context, nullptr, nullptr, nullptr, nonce, -1) ==
             1 &&
         EVP_CipherUpdate(context, nullptr, &taken,
                          reinterpret_cast<const unsigned char*>(&additional),
                          sizeof(additional)) == 1;
}

BlockCipher::BlockCipher(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BlockCipher::~BlockCipher() = default;

absl::StatusOr<std::unique_ptr<BlockCipher>> BlockCipher::Make(
    std::shared_ptr<const CipherKeys> keys, std::uint64_t seals_per_subkey) {
  AGENTMEM_CHECK(keys != nullptr && !keys->empty() && seals_per_subkey > 0);
  auto impl = std::make_unique<Impl>();
  impl->keys = std::move(keys);
  impl->seals_per_subkey = seals_per_subkey;
  AGENTMEM_RETURN_IF_ERROR(impl->Init());
  return std::unique_ptr<BlockCipher>(new BlockCipher(std::move(impl)));
}

std::uint64_t BlockCipher::counter() const { return impl_->counter; }

absl::Status BlockCipher::Seal(std::uint64_t tenant, const Key& key,
                               std::span<const char> plain,
                               std::span<char> out) {
  AGENTMEM_RETURN_IF_ERROR(CheckLength(plain.size()));
  if (out.size() != SealedBytes(plain.size())) {
    return InvalidArgument("sealing " + std::to_string(plain.size()) +
                           " bytes takes " +
                           std::to_string(SealedBytes(plain.size())) +
                           ", there is room for " + std::to_string(out.size()));
  }
  if (impl_->counter == impl_->seals_per_subkey) {
    AGENTMEM_RETURN_IF_ERROR(impl_->NewSealingSubkey());
  }
  // Counted before it is used: a seal that fails uses its nonce up.
  const std::uint64_t counter = ++impl_->counter;
  SealedHeader header = {
      kSealedFormat, impl_->sealing.key_id.value(), {}, counter, {}};
  std::memcpy(header.salt, impl_->sealing.salt.data(), sizeof(header.salt));
  EVP_CIPHER_CTX* const context = impl_->sealing.context.get();
  unsigned char* const body = Bytes(out.data()) + kSealedHeaderBytes;
  int made = 0;
  int rest = 0;
  if (!Impl::Begin(context, counter,
                   {tenant, key.low(), key.high(), header.key_id, header.format,
                    plain.size()}) ||
      EVP_EncryptUpdate(context, body, &made, Bytes(plain.data()),
                        static_cast<int>(plain.size())) != 1 ||
      EVP_EncryptFinal_ex(context, body + made, &rest) != 1 ||
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagBytes,
                          header.tag) != 1) {
    return CryptoFailed("sealing a block");
  }
  AGENTMEM_CHECK(static_cast<std::size_t>(made + rest) == plain.size());
  std::memcpy(out.data(), &header, sizeof(header));
  return absl::OkStatus();
}

absl::Status BlockCipher::Open(std::uint64_t tenant, const Key& key,
                               std::span<const char> sealed,
                               std::span<char> out) {
  if (sealed.size() <= kSealedHeaderBytes) {
    return DataLoss(Name(tenant, key) + ": " + std::to_string(sealed.size()) +
                    " sealed bytes are less than a header and one byte");
  }
  const std::span<const char> body = sealed.subspan(kSealedHeaderBytes);
  if (out.size() != body.size()) {
    return InvalidArgument("opening gives " + std::to_string(body.size()) +
                           " bytes, there is room for " +
                           std::to_string(out.size()));
  }
  AGENTMEM_RETURN_IF_ERROR(
      StartOpen(tenant, key, sealed.first(kSealedHeaderBytes), body.size()));
  absl::Status status = UpdateOpen(body, out);
  if (status.ok()) status = FinishOpen();
  if (!status.ok()) OPENSSL_cleanse(out.data(), out.size());
  return status;
}

absl::Status BlockCipher::StartOpen(std::uint64_t tenant, const Key& key,
                                    std::span<const char> header_bytes,
                                    std::size_t plain_length) {
  impl_->open_context = nullptr;
  AGENTMEM_RETURN_IF_ERROR(CheckLength(plain_length));
  if (header_bytes.size() != kSealedHeaderBytes) {
    return InvalidArgument("a sealed block's header has " +
                           std::to_string(kSealedHeaderBytes) + " bytes, not " +
                           std::to_string(header_bytes.size()));
  }
  SealedHeader header;
  std::memcpy(&header, header_bytes.data(), sizeof(header));
  if (header.format != kSealedFormat) {
    return DataLoss(Name(tenant, key) + ": is of sealed format " +
                    std::to_string(header.format) +
                    ", this memd opens format " +
                    std::to_string(kSealedFormat));
  }
  Salt salt;
  std::memcpy(salt.data(), header.salt, sizeof(header.salt));
  const absl::StatusOr<EVP_CIPHER_CTX*> context =
      impl_->ContextFor(KeyId(header.key_id), salt);
  if (!context.ok()) {
    return MakeStatus(
        context.status().code(),
        Name(tenant, key) + ": " + StatusMessage(context.status()));
  }
  if (!Impl::Begin(*context, header.counter,
                   {tenant, key.low(), key.high(), header.key_id, header.format,
                    plain_length})) {
    return CryptoFailed("opening a block");
  }
  impl_->open_context = *context;
  impl_->open_left = plain_length;
  impl_->open_tenant = tenant;
  impl_->open_key = key;
  std::memcpy(impl_->open_tag.data(), header.tag, kTagBytes);
  return absl::OkStatus();
}

absl::Status BlockCipher::UpdateOpen(std::span<const char> piece,
                                     std::span<char> out) {
  if (impl_->open_context == nullptr) {
    return FailedPrecondition("no block is being opened: StartOpen goes first");
  }
  if (piece.size() > impl_->open_left || out.size() != piece.size()) {
    impl_->open_context = nullptr;
    return InvalidArgument("a piece of " + std::to_string(piece.size()) +
                           " bytes into " + std::to_string(out.size()) +
                           ", when " + std::to_string(impl_->open_left) +
                           " bytes of the block are left");
  }
  if (piece.empty()) return absl::OkStatus();
  int made = 0;
  if (EVP_DecryptUpdate(impl_->open_context, Bytes(out.data()), &made,
                        Bytes(piece.data()),
                        static_cast<int>(piece.size())) != 1) {
    impl_->open_context = nullptr;
    return CryptoFailed("opening a block");
  }
  impl_->open_left -= piece.size();
  return absl::OkStatus();
}

absl::Status BlockCipher::FinishOpen() {
  EVP_CIPHER_CTX* const context = std::exchange(impl_->open_context, nullptr);
  if (context == nullptr) {
    return FailedPrecondition("no block is being opened: StartOpen goes first");
  }
  if (impl_->open_left != 0) {
    return DataLoss(Name(impl_->open_tenant, impl_->open_key) + ": " +
                    std::to_string(impl_->open_left) +
                    " sealed bytes are missing");
  }
  unsigned char unused[EVP_MAX_BLOCK_LENGTH];
  int rest = 0;
  if (EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagBytes,
                          impl_->open_tag.data()) != 1) {
    return CryptoFailed("opening a block");
  }
  if (EVP_DecryptFinal_ex(context, unused, &rest) != 1) {
    ERR_clear_error();
    return DataLoss(Name(impl_->open_tenant, impl_->open_key) +
                    ": the sealed bytes are not what was sealed under this "
                    "tenant, key and key id");
  }
  return absl::OkStatus();
}

}  // namespace agentmem
