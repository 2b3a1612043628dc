// How memd's descriptors are shared out, so that no tenant can use up those of
// the others: each has an account, from which every connection, process with
// agents and open region of its own is charged while it lasts.
//
// Ownership: an account outlives its charges. Threads: thread-safe; a charge is
// one thread's at a time. Errors: none; a charge that did not fit is not valid.
// Cost: one atomic operation.
#ifndef AGENTMEM_MEMD_DESCRIPTOR_BUDGET_H_
#define AGENTMEM_MEMD_DESCRIPTOR_BUDGET_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace agentmem {

// Socket, pidfd, the shared file, the doorbell.
inline constexpr std::uint64_t kDescriptorsOfClient = 4;
// Socket, pidfd, userfaultfd, eventfd, board; the port's file, its two
// eventfds, and the session's copies of these.
inline constexpr std::uint64_t kDescriptorsOfSession = 12;
inline constexpr std::uint64_t kDescriptorsOfRegion = 1;

// What each of `tenants` may have open, of `limit`: RLIMIT_NOFILE. `fabric`:
// what peers and links to them take.
std::uint64_t DescriptorsOfEach(std::uint64_t limit, std::size_t tenants,
                                std::uint64_t fabric = 0);

class DescriptorAccount {
 public:
  explicit DescriptorAccount(std::uint64_t max) : max_(max) {}
  DescriptorAccount(const DescriptorAccount&) = delete;
  DescriptorAccount& operator=(const DescriptorAccount&) = delete;

  // False: so many are not left; nothing was taken.
  bool Take(std::uint64_t count);
  void Give(std::uint64_t count) { taken_.fetch_sub(count); }
  std::uint64_t taken() const { return taken_.load(); }

  // "17930 of the 17936 descriptors that tenant "chat" may have in memd are in
  // use; ...": the end of an error, with the remedy.
  std::string Describe(const std::string& tenant) const;

 private:
  const std::uint64_t max_;
  std::atomic<std::uint64_t> taken_{0};
};

// What was taken, until the charge ends.
class DescriptorCharge {
 public:
  DescriptorCharge() = default;
  DescriptorCharge(DescriptorAccount* account, std::uint64_t count)
      : account_(account->Take(count) ? account : nullptr), count_(count) {}
  DescriptorCharge(DescriptorCharge&& other) noexcept
      : account_(std::exchange(other.account_, nullptr)),
        count_(other.count_) {}
  DescriptorCharge& operator=(DescriptorCharge&& other) noexcept {
    std::swap(account_, other.account_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~DescriptorCharge() {
    if (account_ != nullptr) account_->Give(count_);
  }

  bool valid() const { return account_ != nullptr; }

 private:
  DescriptorAccount* account_ = nullptr;
  std::uint64_t count_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_DESCRIPTOR_BUDGET_H_
