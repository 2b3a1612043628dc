#include "memd/pool/cipher_keys.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "base/unique_fd.h"

namespace agentmem {
namespace {

constexpr std::size_t kFileBytesMax = 64 << 10;

// A file's text, wiped when it goes. Never grows: no copy is left behind.
class WipedText {
 public:
  explicit WipedText(std::size_t bytes) : bytes_(bytes) {}
  ~WipedText() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }
  WipedText(const WipedText&) = delete;
  WipedText& operator=(const WipedText&) = delete;

  char* data() { return bytes_.data(); }
  std::size_t room() const { return bytes_.size(); }

 private:
  std::vector<char> bytes_;
};

absl::Status CheckFile(const std::string& path, const struct stat& status) {
  if (!S_ISREG(status.st_mode)) {
    return InvalidArgument("the key file " + path + " is not a regular file");
  }
  if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    return PermissionDenied(
        "the key file " + path + " belongs to user " +
        std::to_string(status.st_uid) + ", memd runs as user " +
        std::to_string(::geteuid()) + ": give it to that user, or to root");
  }
  if ((status.st_mode & 07777 & ~0600) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof(mode), "%04o", status.st_mode & 07777);
    return PermissionDenied("the key file " + path + " has mode " + mode +
                            ", at most 0600 is allowed: run chmod 0600 " +
                            path);
  }
  return absl::OkStatus();
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// False: not 64 hexadecimal digits.
bool ParseSecret(std::string_view digits, CipherKeys::Secret* secret) {
  if (digits.size() != 2 * kCipherKeyBytes) return false;
  for (std::size_t i = 0; i < kCipherKeyBytes; ++i) {
    const char* const first = digits.data() + 2 * i;
    const auto [end, error] =
        std::from_chars(first, first + 2, (*secret)[i], 16);
    if (error != std::errc() || end != first + 2) return false;
  }
  return true;
}

absl::Status AddLine(std::string_view line, CipherKeys* keys) {
  const std::size_t blank = line.find_first_of(" \t");
  const std::string_view number = line.substr(0, blank);
  std::uint32_t id = 0;
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), id);
  if (error != std::errc() || end != number.data() + number.size() ||
      blank == std::string_view::npos) {
    return InvalidArgument(
        "must be \"KEY_ID 64_HEX_DIGITS\" with a key id of 1 to 4294967295");
  }
  const std::string_view digits = Trim(line.substr(blank));
  CipherKeys::Secret secret;
  absl::Status status =
      ParseSecret(digits, &secret)
          ? keys->Add(KeyId(id), secret)
          : InvalidArgument("key id " + std::to_string(id) + " has " +
                            std::to_string(digits.size()) +
                            " characters of key, wanted are 64 hexadecimal "
                            "digits: make them with openssl rand -hex 32");
  OPENSSL_cleanse(secret.data(), secret.size());
  return status;
}

absl::StatusOr<CipherKeys> ParseKeys(const std::string& path,
                                     std::string_view text) {
  CipherKeys keys;
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view whole = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string_view line = Trim(whole.substr(0, whole.find('#')));
    if (line.empty()) continue;
    if (absl::Status added = AddLine(line, &keys); !added.ok()) {
      return InvalidArgument("the key file " + path + ", line " +
                             std::to_string(number) + ": " +
                             StatusMessage(added));
    }
  }
  if (keys.empty()) {
    return InvalidArgument("the key file " + path +
                           " has no key: add a line \"1 64_HEX_DIGITS\"");
  }
  return keys;
}

}  // namespace

CipherKeys::~CipherKeys() {
  for (Entry& entry : entries_) {
    OPENSSL_cleanse(entry.secret.data(), entry.secret.size());
  }
}

absl::Status CipherKeys::Add(KeyId id, const Secret& secret) {
  if (id.value() == 0) {
    return InvalidArgument("key id 0 means no key: use 1 to 4294967295");
  }
  if (Find(id) != nullptr) {
    return InvalidArgument("key id " + std::to_string(id.value()) +
                           " is there twice: a key id is never used again");
  }
  if (entries_.size() == kCipherKeysMax) {
    return InvalidArgument("more than " + std::to_string(kCipherKeysMax) +
                           " keys: remove the oldest");
  }
  entries_.reserve(kCipherKeysMax);  // never moved: no copy is left behind
  entries_.push_back({id, secret});
  return absl::OkStatus();
}

const CipherKeys::Secret* CipherKeys::Find(KeyId id) const {
  for (const Entry& entry : entries_) {
    if (entry.id == id) return &entry.secret;
  }
  return nullptr;
}

absl::StatusOr<CipherKeys> LoadCipherKeys(const std::string& path) {
  // Not blocked by a pipe that stands there instead of a file.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus("cannot open the key file " + path);
  struct stat status;
  if (::fstat(fd.get(), &status) != 0) {
    return ErrnoStatus("cannot look at the key file " + path);
  }
  AGENTMEM_RETURN_IF_ERROR(CheckFile(path, status));
  WipedText text(kFileBytesMax + 1);
  std::size_t bytes = 0;
  while (bytes < text.room()) {
    const ssize_t got =
        ::read(fd.get(), text.data() + bytes, text.room() - bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus("cannot read the key file " + path);
    if (got == 0) break;
    bytes += static_cast<std::size_t>(got);
  }
  if (bytes > kFileBytesMax) {
    return InvalidArgument("the key file " + path + " has more than " +
                           std::to_string(kFileBytesMax) + " bytes");
  }
  return ParseKeys(path, std::string_view(text.data(), bytes));
}

}  // namespace agentmem
