// Compiled for AVX2 (memd/CMakeLists.txt); called where there is AVX2.
#include "memd/pool/block_hash_functions.h"

namespace agentmem {

BlockHash Avx2BlockHash() { return MakeBlockHash(); }

}  // namespace agentmem
