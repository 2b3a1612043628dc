#include "tests/demo/progress.h"

#include <unistd.h>

#include <algorithm>

namespace agentmem::demo {
namespace {

constexpr DurationNs kIntervalNs = 100 * kMillisecondNs;
constexpr std::uint64_t kBarWidth = 30;
constexpr char kEraseLine[] = "\r\x1b[K";

}  // namespace

Progress::Progress(int fd, std::uint64_t total)
    : fd_(fd), total_(total), terminal_(isatty(fd) == 1) {}

void Progress::Write(const std::string& text) const {
  // Progress that cannot be written is not worth an error.
  [[maybe_unused]] const ssize_t written = write(fd_, text.data(), text.size());
}

void Progress::Update(std::uint64_t done, const std::string& text, TimeNs now) {
  const std::string counts = std::to_string(done) + "/" +
                             std::to_string(total_) + " requests  " + text;
  if (!terminal_) {
    if (done * 10 / total_ < tenths_ + 1) return;
    tenths_ = done * 10 / total_;
    return Write(std::to_string(tenths_ * 10) + "%  " + counts + "\n");
  }
  if (done < total_ && now < written_ns_ + kIntervalNs) return;
  written_ns_ = now;
  const std::uint64_t filled = std::min(done * kBarWidth / total_, kBarWidth);
  bar_ = "[" + std::string(filled, '#') + std::string(kBarWidth - filled, '.') +
         "] " + counts;
  Write(kEraseLine + bar_);
  if (done == total_) {
    Write("\n");
    bar_.clear();
  }
}

void Progress::Say(const std::string& line) {
  if (!bar_.empty()) Write(kEraseLine);
  Write(line + "\n");
  Write(bar_);
}

}  // namespace agentmem::demo
