// A page's bytes from and to the pieces that hold them.
//
// Ownership: borrows. Threads: pure functions. Errors: none; what does not fit
// together is an invariant. Cost: one copy; no allocation but of the string.
#ifndef AGENTMEM_MEMD_AGENTS_PAGE_BYTES_H_
#define AGENTMEM_MEMD_AGENTS_PAGE_BYTES_H_

#include <cstdint>
#include <span>
#include <string>

#include "memd/agents/page_content.h"
#include "proto/manifest_layout.h"

namespace agentmem {

// Appends the units of `units`, packed in ascending order, without the zeros
// at their end, and returns how many bytes that were; 0: all are zeros. That is
// Piece::bytes.
std::uint32_t PackUnits(std::span<const char, kPageBytes> page,
                        std::uint16_t units, std::string* to);

// Writes a piece's units into the page. `bytes` are the piece's, piece.bytes
// long. A page is zeros, and then all of its pieces in their order.
void UnpackPiece(const Piece& piece, std::span<const char> bytes,
                 std::span<char, kPageBytes> page);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_AGENTS_PAGE_BYTES_H_
