#include "cuda/crossover_file.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"

namespace agentmem {
namespace {

constexpr std::string_view kMagic = "agentmem-crossovers";
constexpr std::string_view kStraight = "kernel";
constexpr std::string_view kStaged = "staged";
constexpr std::size_t kFileBytesMax = 1 << 20;
constexpr std::size_t kNameBytesMax = 256;

Outcome FileFailed(const std::string& path, int error) {
  const Code code =
      error == ENOENT                      ? Code::kNotFound
      : error == EACCES || error == EPERM  ? Code::kPermissionDenied
      : error == ENOSPC || error == EDQUOT ? Code::kResourceExhausted
                                           : Code::kUnavailable;
  return Fail(code, path + ": " + std::strerror(error));
}

std::string SumOf(std::string_view text) {
  std::uint64_t sum = 14695981039346656037ULL;
  for (const char c : text) {
    sum = (sum ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  }
  char digits[17];
  std::snprintf(digits, sizeof(digits), "%016llx",
                static_cast<unsigned long long>(sum));
  return digits;
}

Outcome ReadFile(const std::string& path, std::string* text) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return FileFailed(path, errno);
  text->clear();
  char part[4096];
  for (;;) {
    const ssize_t got = ::read(fd.get(), part, sizeof(part));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileFailed(path, errno);
    if (got == 0) return {};
    text->append(part, static_cast<std::size_t>(got));
    if (text->size() > kFileBytesMax) {
      return Fail(Code::kDataLoss, path + ": larger than " +
                                       std::to_string(kFileBytesMax) +
                                       " bytes: it is no file of crossovers");
    }
  }
}

// Reads a text word by word and line by line; what is not there makes it bad,
// and everything after fails.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  bool good() const { return good_; }
  std::size_t line() const { return line_; }
  std::string_view rest() const { return rest_; }

  // The line's next word, up to a space or its end.
  std::string_view Word() {
    const std::size_t end = rest_.find_first_of(" \n");
    if (!good_ || end == 0 || end == rest_.npos) return Bad();
    const std::string_view word = rest_.substr(0, end);
    rest_.remove_prefix(rest_[end] == ' ' ? end + 1 : end);
    return word;
  }
  void Expect(std::string_view word) {
    if (Word() != word) Bad();
  }
  template <typename Number>
  Number Next() {
    const std::string_view word = Word();
    Number number = 0;
    const auto [end, error] =
        std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size()) Bad();
    return good_ ? number : 0;
  }
  std::string_view RestOfLine() {
    const std::size_t end = rest_.find('\n');
    if (!good_ || end == 0 || end == rest_.npos) return Bad();
    const std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end);
    return line;
  }
  void EndLine() {
    if (!good_ || rest_.empty() || rest_[0] != '\n') {
      Bad();
      return;
    }
    rest_.remove_prefix(1);
    ++line_;
  }
  std::string_view Bad() {
    good_ = false;
    return {};
  }

 private:
  std::string_view rest_;
  std::size_t line_ = 1;
  bool good_ = true;
};

std::string CrossoverText(std::uint32_t bytes) {
  if (bytes == kKernelNever) return "never";
  if (bytes == kKernelAlways) return "always";
  return std::to_string(bytes);
}

void ReadCrossover(std::string_view name, Reader* reader,
                   Crossover* crossover) {
  reader->Expect(name);
  const std::string_view bytes = reader->Word();
  const auto of_ladder = std::find_if(
      kCrossoverLadder.begin(), kCrossoverLadder.end(),
      [bytes](std::uint32_t step) { return bytes == std::to_string(step); });
  if (bytes == "never") {
    crossover->rule.below = kKernelNever;
  } else if (bytes == "always") {
    crossover->rule.below = kKernelAlways;
  } else if (of_ladder != kCrossoverLadder.end()) {
    crossover->rule.below = *of_ladder;
  } else {
    reader->Bad();
  }
  const std::string_view small = reader->Word();
  if (small != kStraight && small != kStaged) reader->Bad();
  crossover->rule.small =
      small == kStaged ? CopyMethod::kStaged : CopyMethod::kKernel;
  reader->EndLine();
  for (std::size_t step = 0; step < kCrossoverLadder.size(); ++step) {
    reader->Expect("rates");
    reader->Expect(std::to_string(kCrossoverLadder.at(step)));
    CopyRates& rates = crossover->rates.at(step);
    rates.engine = reader->Next<std::uint64_t>();
    rates.kernel = reader->Next<std::uint64_t>();
    rates.staged = reader->Next<std::uint64_t>();
    reader->EndLine();
  }
}

DeviceCrossovers ReadDevice(Reader* reader) {
  DeviceCrossovers device;
  reader->Expect("device");
  device.multiprocessors = reader->Next<std::uint32_t>();
  const auto batches = reader->Next<std::uint32_t>();
  if (batches > 1) reader->Bad();
  device.copies_batches = batches == 1;
  device.device = reader->RestOfLine();
  reader->EndLine();
  ReadCrossover("to_host", reader, &device.crossovers.to_host);
  ReadCrossover("to_device", reader, &device.crossovers.to_device);
  return device;
}

std::string TextOf(const std::vector<DeviceCrossovers>& devices) {
  std::string text =
      std::string(kMagic) + " " + std::to_string(kCrossoverFileVersion) + "\n";
  for (const DeviceCrossovers& device : devices) {
    text += "device " + std::to_string(device.multiprocessors) + " " +
            (device.copies_batches ? "1 " : "0 ") + device.device + "\n";
    for (const Direction direction :
         {Direction::kToHost, Direction::kToDevice}) {
      const Crossover& crossover = device.crossovers.of(direction);
      text += direction == Direction::kToHost ? "to_host " : "to_device ";
      text += CrossoverText(crossover.rule.below) + " ";
      text += crossover.rule.small == CopyMethod::kStaged ? kStaged : kStraight;
      text += "\n";
      for (std::size_t step = 0; step < kCrossoverLadder.size(); ++step) {
        const CopyRates& rates = crossover.rates.at(step);
        text += "rates " + std::to_string(kCrossoverLadder.at(step)) + " " +
                std::to_string(rates.engine) + " " +
                std::to_string(rates.kernel) + " " +
                std::to_string(rates.staged) + "\n";
      }
    }
  }
  return text + "end " + SumOf(text) + "\n";
}

Outcome WriteAll(const UniqueFd& fd, std::string_view text,
                 const std::string& path) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd.get(), text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return FileFailed(path, errno);
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  if (::fsync(fd.get()) != 0) return FileFailed(path, errno);
  return {};
}

bool IsLine(const std::string& name) {
  return !name.empty() && name.size() <= kNameBytesMax &&
         std::none_of(name.begin(), name.end(),
                      [](unsigned char c) { return c < ' ' || c == 0x7f; });
}

bool SameDevice(const DeviceCrossovers& a, const DeviceCrossovers& b) {
  return a.device == b.device && a.multiprocessors == b.multiprocessors &&
         a.copies_batches == b.copies_batches;
}

// For a device that stages, or not: whether it had room for its ring when it
// was opened. False: it stages, and nothing is known of that.
bool Suits(const Crossovers& known, bool stages, Crossovers* crossovers) {
  Crossovers suiting = known;
  for (Crossover* crossover : {&suiting.to_host, &suiting.to_device}) {
    LadderRates& rates = crossover->rates;
    const bool is_known =
        std::any_of(rates.begin(), rates.end(),
                    [](const CopyRates& step) { return step.staged != 0; });
    if (stages && !is_known) return false;
    if (stages || !is_known) continue;
    for (CopyRates& step : rates) step.staged = 0;
    crossover->rule = RuleOf(rates);
  }
  *crossovers = suiting;
  return true;
}

// Of the file's directory: who measures has it, so that no two do on one
// machine at once and find each other's copies in their rates. Until then it
// waits, but not for ever: a process that holds it may be stopped; and not
// where the file cannot be written anyway. (What was locked is unlocked with
// the descriptor's end.)
UniqueFd LockToMeasure(const std::string& path, const Clock& clock,
                       DurationNs patience) {
  const std::size_t name = path.find_last_of('/');
  const std::string directory =
      name == path.npos ? "." : path.substr(0, name + 1);
  if (::access(directory.c_str(), W_OK) != 0) return UniqueFd();
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return fd;
  // Tells of the other's end: that closes the directory, just before it
  // unlocks.
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ::inotify_add_watch(watch.get(), directory.c_str(), IN_CLOSE_NOWRITE);
  constexpr int kLookMs = 50;
  const TimeNs until = clock.Now() + patience;
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK &&
         clock.Now() < until) {
    pollfd ended = {watch.get(), POLLIN, 0};
    ::poll(&ended, 1, kLookMs);
    char events[4096];
    [[maybe_unused]] const ssize_t read =
        ::read(watch.get(), events, sizeof(events));
  }
  return fd;
}

void AddNote(const std::string& text, std::string* note) {
  if (!note->empty()) *note += "; ";
  *note += text;
}

}  // namespace

Outcome LoadCrossovers(const std::string& path,
                       std::vector<DeviceCrossovers>* devices) {
  std::string text;
  Outcome read = ReadFile(path, &text);
  if (!read.ok()) return read;
  Reader reader(text);
  reader.Expect(kMagic);
  const auto version = reader.Next<std::uint32_t>();
  reader.EndLine();
  if (reader.good() && version != kCrossoverFileVersion) {
    return Fail(version < kCrossoverFileVersion ? Code::kNotFound
                                                : Code::kFailedPrecondition,
                path + ": its version is " + std::to_string(version) +
                    ", this program reads " +
                    std::to_string(kCrossoverFileVersion));
  }
  std::vector<DeviceCrossovers> found;
  while (reader.good() && !reader.rest().starts_with("end ")) {
    found.push_back(ReadDevice(&reader));
  }
  const std::string sum = SumOf(
      std::string_view(text).substr(0, text.size() - reader.rest().size()));
  reader.Expect("end");
  reader.Expect(sum);
  reader.EndLine();
  if (!reader.good() || !reader.rest().empty()) {
    return Fail(Code::kDataLoss,
                path + ": damaged at line " + std::to_string(reader.line()));
  }
  *devices = std::move(found);
  return {};
}

Outcome SaveCrossovers(const std::string& path,
                       const std::vector<DeviceCrossovers>& devices) {
  for (const DeviceCrossovers& device : devices) {
    if (IsLine(device.device)) continue;
    return Fail(Code::kInvalidArgument,
                path + ": a device's name is 1 to " +
                    std::to_string(kNameBytesMax) +
                    " characters of one line; this has " +
                    std::to_string(device.device.size()));
  }
  std::string unfinished = path + ".XXXXXX";
  UniqueFd fd(::mkostemp(unfinished.data(), O_CLOEXEC));
  if (!fd.valid()) return FileFailed(path, errno);
  Outcome saved = WriteAll(fd, TextOf(devices), path);
  // For whoever looks at the machine: figures, nothing of anybody's.
  if (saved.ok() && ::fchmod(fd.get(), 0644) != 0) {
    saved = FileFailed(path, errno);
  }
  fd.Reset();
  if (saved.ok() && ::rename(unfinished.c_str(), path.c_str()) != 0) {
    saved = FileFailed(path, errno);
  }
  if (!saved.ok()) ::unlink(unfinished.c_str());
  return saved;
}

Outcome FindCrossovers(Device* device, const Clock& clock,
                       const MeasureBounds& bounds, const std::string& path,
                       Crossovers* crossovers, std::string* note) {
  note->clear();
  const DeviceProperties& properties = device->properties();
  DeviceCrossovers own{properties.name,
                       properties.multiprocessors,
                       properties.copies_batches,
                       {}};
  std::vector<DeviceCrossovers> devices;
  Outcome loaded;
  const auto is_found = [&] {
    devices.clear();
    loaded = LoadCrossovers(path, &devices);
    for (const DeviceCrossovers& other : devices) {
      if (SameDevice(other, own) &&
          Suits(other.crossovers, properties.stages, crossovers)) {
        return true;
      }
    }
    return false;
  };
  bool save = !path.empty();
  UniqueFd lock;
  if (save) {
    if (is_found()) return {};
    if (loaded.code == Code::kFailedPrecondition) {
      save = false;  // a newer program's
    } else {
      lock = LockToMeasure(path, clock, 2 * bounds.time_max);
      if (is_found()) return {};  // another has measured meanwhile
    }
    if (!loaded.ok() && loaded.code != Code::kNotFound) {
      AddNote(loaded.message + ": measured anew", note);
    }
  }
  Outcome measured = MeasureCrossover(device, clock, bounds, &own.crossovers);
  if (!measured.ok()) return measured;
  *crossovers = own.crossovers;
  if (!save) return {};
  // What others have saved since, if one did not wait for the lock any longer.
  (void)is_found();
  *crossovers = own.crossovers;
  std::erase_if(devices, [&own](const DeviceCrossovers& other) {
    return SameDevice(other, own);
  });
  devices.push_back(std::move(own));
  const Outcome saved = SaveCrossovers(path, devices);
  if (!saved.ok()) AddNote("not kept: " + saved.message, note);
  return {};
}

}  // namespace agentmem
