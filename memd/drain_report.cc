#include "memd/drain_report.h"

namespace agentmem {
namespace {

std::string Text(const DrainSum& sum) {
  return std::to_string(sum.blocks) + " (" + std::to_string(sum.bytes) +
         " bytes)";
}

std::string Text(const char* whose, const DrainReport::ByReason& left) {
  std::string text;
  for (const auto& [reason, sum] : left) {
    text += "; not " + Text(sum) + " of " + whose + ": " + reason;
  }
  return text;
}

}  // namespace

std::string DrainReport::Text() const {
  return "drained: wrote down " + agentmem::Text(own_written) +
         " of this node's state blocks, " + agentmem::Text(lent_written) +
         " of those in the memory that it lends" +
         agentmem::Text("this node's", own_left) +
         agentmem::Text("the lent memory's", lent_left);
}

}  // namespace agentmem
