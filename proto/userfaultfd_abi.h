// What of userfaultfd the kernel headers of Debian 12 (6.1) lack. Values are
// the kernel's ABI (include/uapi/linux/userfaultfd.h of 6.7) and final; a newer
// header's own definitions win.
//
// Defining a name says nothing of the running kernel: ask UFFDIO_API for its
// features, and take ENOTTY of an ioctl for "not here".
//
//   WP_UNPOPULATED  6.4   write-protects what has no page yet
//   CONTINUE_MODE_WP 6.4  UFFDIO_CONTINUE maps write-protected
//   POISON          6.6   SIGBUS for one page
//   WP_ASYNC        6.7   write faults only leave a mark: memd refuses it
#ifndef AGENTMEM_PROTO_USERFAULTFD_ABI_H_
#define AGENTMEM_PROTO_USERFAULTFD_ABI_H_

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

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

#endif  // AGENTMEM_PROTO_USERFAULTFD_ABI_H_
