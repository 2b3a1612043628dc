// How much of a device's memory each process may hold blocks in.
//
// Max-min fair, twice: the device among tenants, then a tenant's share among
// its processes. Who wants less than an equal part gets all that it wants, and
// the rest is divided among the others in the same way.
//
// What a tenant gets depends on the others by what they want alone, and not by
// more than that they want it: at an equal part of the device, as its own
// processes say how large it is, its wants are met whatever the others say.
//
// Pure: integers, the same answer for the same question. Threads: pure
// functions. Errors: none. Cost: O(n log n) of the processes, times the sizes
// that tenants say the device has (one, if nobody lies).
#ifndef AGENTMEM_TIERING_DEVICE_SHARES_H_
#define AGENTMEM_TIERING_DEVICE_SHARES_H_

#include <cstdint>
#include <span>
#include <vector>

namespace agentmem::tiering {

// Of `bytes`, to each at most what it wants. All of it is given, or all wants
// are met. A byte that cannot be divided goes to one who wants more; among
// equals to the later one.
std::vector<std::uint64_t> MaxMinShares(std::uint64_t bytes,
                                        std::span<const std::uint64_t> wants);

struct DeviceTenant {
  std::uint64_t device_bytes = 0;    // as its processes say
  std::uint64_t quota_bytes = 0;     // of the device; 0: no limit
  std::vector<std::uint64_t> wants;  // its processes'; their sum fits 64 bits
};

// Shares in the order of `tenants` and of their wants. Where all say the same
// of the device, the shares fit into it.
std::vector<std::vector<std::uint64_t>> DivideDevice(
    std::span<const DeviceTenant> tenants);

}  // namespace agentmem::tiering

#endif  // AGENTMEM_TIERING_DEVICE_SHARES_H_
