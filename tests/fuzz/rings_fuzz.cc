// A client's rings, grants, pins and notes: whatever stands in its file, the
// tenant's books stay whole. The input is a list of 8-byte stores into the
// client file, with a turn of memd after each eighth.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/unit/memd/tenant_bench.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t bytes) {
  using namespace agentmem;
  static TenantBench* bench = new TenantBench();
  auto client = bench->Attach();
  for (std::size_t at = 0; at + 12 <= bytes; at += 12) {
    std::uint32_t place;
    std::uint64_t word;
    std::memcpy(&place, data + at, 4);
    std::memcpy(&word, data + at + 4, 8);
    std::memcpy(client->base() + place % (kClientFileBytes / 8) * 8, &word, 8);
    if (at / 12 % 8 != 7) continue;
    bench->Drain(client.get());
    bench->store.FinishOne();
    bench->PollStore();
    bench->Advance(kMillisecondNs);
  }
  bench->tenant->RemoveClient(client->id(), bench->now);
  const std::string wrong = bench->tenant->CheckInvariants();
  if (!wrong.empty()) {
    std::fprintf(stderr, "%s\n", wrong.c_str());
    std::abort();
  }
  return 0;
}
