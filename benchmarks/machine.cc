#include "benchmarks/machine.h"

#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>

namespace agentmem::bench {
namespace {

// What stands behind "field ... :" in a file of such lines; empty: not there.
std::string FieldOf(const std::string& path, const std::string& field) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.compare(0, field.size(), field) != 0) continue;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::uint64_t KibibytesOf(const std::string& field) {
  const std::string text = FieldOf("/proc/meminfo", field);
  return std::strtoull(text.c_str(), nullptr, 10) * 1024;
}

}  // namespace

Machine DescribeMachine() {
  Machine machine;
  const std::string cpu = FieldOf("/proc/cpuinfo", "model name");
  if (!cpu.empty()) machine.cpu = cpu;
  const long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (cores > 0) machine.cores = static_cast<std::uint32_t>(cores);
  utsname names;
  if (::uname(&names) == 0) {
    machine.kernel = std::string(names.sysname) + " " + names.release;
  }
  machine.memory_bytes = KibibytesOf("MemTotal");
  return machine;
}

std::uint64_t AvailableMemoryBytes() { return KibibytesOf("MemAvailable"); }

double LoadAverage() {
  double load = 0;
  return ::getloadavg(&load, 1) == 1 ? load : 0;
}

}  // namespace agentmem::bench
