// What of userfaultfd and PAGEMAP_SCAN the kernel headers of Debian 12 (6.1)
// lack. Values are the kernel's ABI (include/uapi/linux/userfaultfd.h and fs.h
// of 6.7) and final; a newer header's own definitions win.
//
// Defining a name says nothing of the running kernel: ask UFFDIO_API for its
// features, and take ENOTTY of an ioctl for "not here".
//
//   WP_UNPOPULATED  6.4   write-protects what has no page yet
//   CONTINUE_MODE_WP 6.4  UFFDIO_CONTINUE maps write-protected
//   POISON          6.6   SIGBUS for one page
//   WP_ASYNC        6.7   write faults only leave a mark; PAGEMAP_SCAN reads it
#ifndef AGENTMEM_PROTO_USERFAULTFD_ABI_H_
#define AGENTMEM_PROTO_USERFAULTFD_ABI_H_

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <cstdint>

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif

#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#define _UFFDIO_POISON (0x08)
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#define UFFDIO_POISON_MODE_DONTWAKE ((__u64)1 << 0)
struct uffdio_poison {
  struct uffdio_range range;
  __u64 mode;
  __s64 updated;  // written by the kernel: bytes, or a negated errno
};
#endif
static_assert(sizeof(uffdio_poison) == 32);

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

#ifndef UFFDIO_CONTINUE_MODE_WP
#define UFFDIO_CONTINUE_MODE_WP ((__u64)1 << 1)
#endif

namespace agentmem {

// PAGEMAP_SCAN, an ioctl of /proc/PID/pagemap. Under names of ours: fs.h, which
// has the kernel's, does not go together with sys/mount.h.
struct PageRegion {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t categories;
};
static_assert(sizeof(PageRegion) == 24);

struct PagemapScanArg {
  std::uint64_t size;  // sizeof(PagemapScanArg)
  std::uint64_t flags;
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t walk_end;  // written by the kernel: where it stopped
  std::uint64_t vec;       // PageRegion[vec_len]
  std::uint64_t vec_len;
  std::uint64_t max_pages;  // 0: no limit
  std::uint64_t category_inverted;
  std::uint64_t category_mask;
  std::uint64_t category_anyof_mask;
  std::uint64_t return_mask;
};
static_assert(sizeof(PagemapScanArg) == 96);

// Answers how many of `vec` it filled.
inline constexpr unsigned long kPagemapScan =  // NOLINT: ioctl's type
    _IOWR('f', 16, PagemapScanArg);

// PagemapScanArg.flags.
inline constexpr std::uint64_t kScanWpMatching = 1 << 0;
inline constexpr std::uint64_t kScanCheckWpAsync = 1 << 1;

// Categories.
inline constexpr std::uint64_t kPageIsWpAllowed = 1 << 0;
inline constexpr std::uint64_t kPageIsWritten = 1 << 1;
inline constexpr std::uint64_t kPageIsFile = 1 << 2;
inline constexpr std::uint64_t kPageIsPresent = 1 << 3;
inline constexpr std::uint64_t kPageIsSwapped = 1 << 4;
inline constexpr std::uint64_t kPageIsPfnZero = 1 << 5;
inline constexpr std::uint64_t kPageIsHuge = 1 << 6;
inline constexpr std::uint64_t kPageIsSoftDirty = 1 << 7;

}  // namespace agentmem

#endif  // AGENTMEM_PROTO_USERFAULTFD_ABI_H_
