#include "tests/demo/memory_agent.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "agentmem/agentmem.hpp"
#include "base/clock.h"
#include "tests/demo/memory_protocol.h"

namespace agentmem::demo {
namespace {

using std::chrono::seconds;

constexpr std::uint64_t kChunkBytes = 1 << 20;
constexpr Timeout kFaultTimeout = seconds(1);
// A killed writer's right is gone within 100 ms of its proven death; of a
// killed node's, once its lease has passed.
constexpr DurationNs kWriterNs = 10 * kSecondNs;
// What needs two nodes may fail until one's death, or its return, is noticed.
constexpr DurationNs kNoticedNs = 2 * kSecondNs;
constexpr int kAskAgainMs = 2;
constexpr std::uint64_t kOldVersions = 5;
constexpr int kComplained = 1;
constexpr const char* kRegion = "heap";

class MemoryAgent {
 public:
  MemoryAgent(int socket, Client client, const MemoryOrder& order)
      : socket_(socket),
        client_(std::move(client)),
        order_(order),
        content_(order.seed, order.region_bytes),
        scratch_(kChunkBytes) {}

  // The exit code.
  int Run() {
    bool well = Open() && Compare(*region_, content_);
    for (std::uint32_t i = 0; well && i < order_.commits; ++i) {
      const bool last = i + 1 == order_.commits;
      if (last && order_.ending == MemoryEnding::kHibernates) {
        well = HibernateWithChanges();
      } else {
        Change();
        well = Commit(last && order_.ending == MemoryEnding::kForks);
      }
    }
    well = well && End();
    if (well) Tell(MemoryEventType::kFinished, content_.version());
    return well ? 0 : exit_code_;
  }

 private:
  void Tell(MemoryEventType type, std::uint64_t version,
            std::uint64_t number = 0, const std::string& text = "") const {
    MemoryEvent event;
    event.type = type;
    event.version = version;
    event.number = number;
    std::snprintf(event.text, sizeof(event.text), "%s", text.c_str());
    send(socket_, &event, sizeof(event), MSG_NOSIGNAL);
  }

  // True: go on.
  bool Check(const char* what, const Status& status) {
    if (status.ok()) return true;
    const bool unavailable = status.code() == Code::kUnavailable;
    if (unavailable) exit_code_ = kMemdIsGone;
    Tell(
        unavailable ? MemoryEventType::kUnavailable : MemoryEventType::kTrouble,
        content_.version(), 0, std::string(what) + ": " + status.ToString());
    return false;
  }

  // On one of several nodes: again, while it is UNAVAILABLE.
  template <typename Operation>
  auto Patiently(const Operation& operation) {
    const TimeNs start = MonotonicNowNs();
    auto result = operation();
    int tries = 0;
    while (order_.durable != 0 && !result.ok() &&
           result.status().code() == Code::kUnavailable &&
           MonotonicNowNs() < start + kNoticedNs) {
      pollfd driver = {socket_, POLLIN, 0};
      poll(&driver, 1, kAskAgainMs);
      result = operation();
      ++tries;
    }
    if (result.ok() && tries != 0) {
      Tell(MemoryEventType::kDelayed, content_.version(),
           static_cast<std::uint64_t>(MonotonicNowNs() - start));
    }
    return result;
  }

  bool Open() {
    const std::string name = order_.name;
    if (order_.hibernated != 0 &&
        !Check("resume", Patiently([&] {
                           return client_.Agents().Resume(name);
                         }).status())) {
      return false;
    }
    if (!OpenAgent(name)) return false;
    Result<Region> region = Patiently([&] {
      return agent_->OpenRegion(kRegion, {.bytes = order_.region_bytes});
    });
    if (!Check("open its region", region.status())) return false;
    region_.emplace(std::move(*region));
    const std::uint64_t version = region_->version();
    if (version > order_.versions) {
      Tell(MemoryEventType::kOpened, version, 0);
      return false;
    }
    writers_.assign(order_.writers.begin(),
                    order_.writers.begin() + static_cast<long>(version));
    for (const MemoryWriter& writer : writers_) content_.Write(writer);
    const std::optional<DurationNs> first_page = TouchFirstPage();
    if (!first_page.has_value()) return false;
    Tell(MemoryEventType::kOpened, version,
         static_cast<std::uint64_t>(*first_page));
    return SetPhase(Phase::kReasoning);
  }

  bool OpenAgent(const std::string& name) {
    AgentOptions options;
    options.write = true;
    options.create = true;
    options.take_over = order_.take_over != 0;
    options.fault_timeout = kFaultTimeout;
    const TimeNs deadline = MonotonicNowNs() + kWriterNs;
    while (true) {
      Result<::agentmem::Agent> agent =
          Patiently([&] { return client_.Agents().Open(name, options); });
      if (agent.ok()) {
        agent_.emplace(std::move(*agent));
        return true;
      }
      // The killed process before this one may just be going.
      if (agent.status().code() != Code::kFailedPrecondition ||
          MonotonicNowNs() >= deadline) {
        return Check("open", agent.status());
      }
      pollfd driver = {socket_, POLLIN, 0};
      poll(&driver, 1, kAskAgainMs);
    }
  }

  std::optional<DurationNs> TouchFirstPage() {
    const std::uint64_t units = order_.region_bytes / kMemoryUnitBytes;
    const std::uint64_t at =
        Mix(order_.seed + Mix(order_.self.agent) + order_.self.life) % units *
        kMemoryUnitBytes;
    const TimeNs start = MonotonicNowNs();
    if (region_->data() != nullptr) {
      std::atomic_ref<std::byte>(region_->data()[at])
          .load(std::memory_order_relaxed);
    } else if (!Check("read", region_->Read(at, std::span(scratch_).first(
                                                    kMemoryUnitBytes)))) {
      return std::nullopt;
    }
    return MonotonicNowNs() - start;
  }

  bool SetPhase(Phase phase, const std::string& tool = {}) {
    return Check("phase", agent_->SetPhase(phase, tool, seconds(30)).status());
  }

  bool Compare(const Region& region, const MemoryContent& content) {
    for (std::uint64_t at = 0; at < order_.region_bytes; at += kChunkBytes) {
      const std::size_t count =
          std::min<std::uint64_t>(kChunkBytes, order_.region_bytes - at);
      std::span<const std::byte> bytes = std::span(scratch_).first(count);
      if (region.data() != nullptr) {
        bytes = {region.data() + at, count};
      } else if (!Check("read",
                        region.Read(at, std::span(scratch_).first(count)))) {
        return false;
      }
      const auto wrong = content.FirstMismatch(at, bytes);
      if (wrong.has_value()) {
        Tell(MemoryEventType::kMismatch, content.version(), *wrong,
             Explain(*wrong,
                     bytes.subspan(
                         (*wrong - at) / kMemoryUnitBytes * kMemoryUnitBytes,
                         kMemoryUnitBytes),
                     content));
        return false;
      }
    }
    Tell(MemoryEventType::kCompared, content.version(), order_.region_bytes);
    return true;
  }

  // Whose bytes there are instead, and whether they are there at a second look.
  std::string Explain(std::uint64_t wrong, std::span<const std::byte> unit,
                      const MemoryContent& content) const {
    const std::uint64_t at = wrong / kMemoryUnitBytes * kMemoryUnitBytes;
    std::string text = content.FirstMismatch(at, unit).has_value()
                           ? "of the unit there"
                           : "of the unit there, right at a second look";
    MemoryContent other(order_.seed, order_.region_bytes);
    for (std::size_t i = 0; i <= writers_.size(); ++i) {
      if (!other.FirstMismatch(at, unit).has_value()) {
        return text + ", which is as in version " + std::to_string(i);
      }
      if (i < writers_.size()) other.Write(writers_[i]);
    }
    return text + ", which is as in no version of it";
  }

  // Writes the next version; it is this process's alone.
  void Change() {
    std::array<std::byte, kMemoryUnitBytes> unit_bytes;
    writers_.push_back(order_.self);
    for (const std::uint64_t unit : content_.Write(order_.self)) {
      content_.FillUnit(unit, unit_bytes);
      const std::uint64_t at = unit * kMemoryUnitBytes;
      if (region_->data() != nullptr) {
        std::memcpy(region_->data() + at, unit_bytes.data(), kMemoryUnitBytes);
      } else {
        (void)Check("write", region_->Write(at, unit_bytes));
      }
    }
  }

  bool Commit(bool durable) {
    const std::uint64_t version = content_.version();
    durable = durable || order_.durable != 0 ||
              Mix(order_.seed + Mix(version) + order_.self.agent) % 3 == 0;
    if (!SetPhase(Phase::kTool, "pytest")) return false;
    CommitOptions options;
    options.message = "version " + std::to_string(version);
    options.ack = durable ? Ack::kDurable : Ack::kVisible;
    Tell(MemoryEventType::kIntent, version);
    const Result<std::uint64_t> made =
        Patiently([&] { return region_->Commit(options); });
    if (!Check("commit", made.status())) return false;
    if (*made != version) {
      Tell(MemoryEventType::kTrouble, version, 0,
           "its commit made version " + std::to_string(*made));
      return false;
    }
    Tell(MemoryEventType::kAcknowledged, version, durable ? 1 : 0);
    return SetPhase(Phase::kReasoning);
  }

  // What is not committed comes back too, to the process that wrote it.
  bool HibernateWithChanges() {
    Change();
    return SetPhase(Phase::kHumanWait) && Hibernate() &&
           Compare(*region_, content_) && Commit(/*durable=*/false);
  }

  bool Hibernate() {
    const auto stats = client_.Agents().Hibernate(order_.name);
    if (!Check("hibernate", stats.status())) return false;
    Tell(MemoryEventType::kHibernated, content_.version(),
         stats->released_bytes);
    return true;
  }

  bool End() {
    switch (order_.ending) {
      case MemoryEnding::kHibernates:
        if (!SetPhase(Phase::kHumanWait)) return false;
        region_.reset();
        agent_.reset();
        return Hibernate();
      case MemoryEnding::kForks:
        if (!Check("fork",
                   client_.Agents().Fork(order_.name, order_.fork_name))) {
          return false;
        }
        Tell(MemoryEventType::kForked, content_.version());
        Change();
        return Commit(/*durable=*/false);
      case MemoryEnding::kLooksBack:
        return LookBack() && SetPhase(Phase::kDone);
      default:
        return SetPhase(Phase::kIdle);
    }
  }

  // Some of the versions that this agent has made, not those before its fork.
  bool LookBack() {
    Result<::agentmem::Agent> reader = client_.Agents().Open(order_.name);
    if (!Check("open for reading", reader.status())) return false;
    const std::uint64_t newest = content_.version();
    for (std::uint64_t i = 1; i <= kOldVersions; ++i) {
      const std::uint64_t version = newest * i / (kOldVersions + 1);
      if (version == 0 || writers_[version - 1].agent != order_.self.agent) {
        continue;
      }
      const Result<Region> old =
          reader->OpenRegion(kRegion, {.version = version});
      if (!Check("open an old version", old.status())) return false;
      const MemoryContent content(order_.seed, order_.region_bytes,
                                  {writers_.data(), version});
      if (!Compare(*old, content)) return false;
    }
    return true;
  }

  const int socket_;
  Client client_;
  const MemoryOrder& order_;
  MemoryContent content_;              // what region_ must hold
  std::vector<MemoryWriter> writers_;  // of its versions
  std::vector<std::byte> scratch_;
  std::optional<::agentmem::Agent> agent_;
  std::optional<Region> region_;
  int exit_code_ = kComplained;
};

}  // namespace

int MemoryAgentMain(int driver_socket, const std::string& memd_socket_path) {
  const auto order = std::make_unique<MemoryOrder>();
  if (recv(driver_socket, order.get(), sizeof(*order), 0) !=
          static_cast<ssize_t>(sizeof(*order)) ||
      order->versions > kMemoryVersionsMax) {
    return kComplained;
  }
  ConnectOptions options;
  options.socket_path = memd_socket_path;
  options.name = order->name;
  options.timeout = seconds(10);
  Result<Client> client = Client::Connect(options);
  if (!client.ok()) return kMemdIsGone;
  return MemoryAgent(driver_socket, std::move(*client), *order).Run();
}

}  // namespace agentmem::demo
