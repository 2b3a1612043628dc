// Tests of transport and pool, over the provider and the interfaces that are
// asked for: PROGRAM PROVIDER BIND_ADDRESS PEER_BIND_ADDRESS [lossy] [gtest
// flags].
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdio>
#include <cstring>

#include "tests/unit/transport/fabric_fixture.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // What is freed is made useless at once: libfabric must not come back to it.
  mallopt(M_PERTURB, 0xa5);
  const bool lossy = argc == 5 && std::strcmp(argv[4], "lossy") == 0;
  if (argc == 4 || lossy) {
    agentmem::FabricTestPlace& place = agentmem::TestPlace();
    place.provider = argv[1];
    place.bind_address = argv[2];
    place.peer_bind_address = argv[3];
    // Under software emulation, and with packets lost: each costs 2 s.
    // Many reads of 8 MiB at a time, the most that rxe takes, stall there.
    place.piece_bytes_max = 1 << 20;
    place.lossy = lossy;
    place.patience = 100 * agentmem::kSecondNs;
  } else if (argc != 1) {  // 1: a peer of another test, which tells it where
    std::fprintf(stderr,
                 "usage: %s PROVIDER BIND_ADDRESS PEER_BIND_ADDRESS [lossy]\n",
                 argv[0]);
    return 2;
  }
  return RUN_ALL_TESTS();
}
