// Where in the configuration file a value stands, for messages about it that
// are found once all of it is read.
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: at start
// only.
#ifndef AGENTMEM_MEMD_CONFIG_PLACES_H_
#define AGENTMEM_MEMD_CONFIG_PLACES_H_

#include <cstdint>
#include <map>
#include <string>

namespace agentmem {

struct ConfigPlaces {
  std::string file = "defaults";
  // "cluster.listen", "tenant.1.slots" -> its line; tables have theirs, too.
  std::map<std::string, std::uint32_t> lines;

  // "memd.toml:12"; of a value that the file does not give, its table's line,
  // or else the file alone.
  std::string Of(std::string path) const {
    while (true) {
      if (const auto found = lines.find(path); found != lines.end()) {
        return file + ":" + std::to_string(found->second);
      }
      const std::size_t dot = path.rfind('.');
      if (dot == std::string::npos) return file;
      path.resize(dot);
    }
  }
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CONFIG_PLACES_H_
