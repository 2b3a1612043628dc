#include "memd/pool/block_hash_functions.h"

namespace agentmem {

BlockHash PlainBlockHash() { return MakeBlockHash(); }

const BlockHash& FastBlockHash() {
  static const BlockHash hash =
      __builtin_cpu_supports("avx2") ? Avx2BlockHash() : PlainBlockHash();
  return hash;
}

}  // namespace agentmem
