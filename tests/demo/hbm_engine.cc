#include "tests/demo/hbm_engine.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "agentmem/agentmem.hpp"
#include "base/clock.h"
#include "base/status.h"
#include "tests/demo/hbm_cache.h"
#include "tests/demo/hbm_protocol.h"
#include "tests/demo/memory_protocol.h"

namespace agentmem::demo {
namespace {

using std::chrono::seconds;

constexpr std::uint64_t kTransferNs = 10 * kSecondNs;
// A killed engine's right to write is gone within 100 ms of its proven death;
// of a killed node's, once its lease has passed.
constexpr DurationNs kWriterNs = 10 * kSecondNs;
// What needs two nodes may fail until one's death, or its return, is noticed.
constexpr DurationNs kNoticedNs = 3 * kSecondNs;
constexpr int kAskAgainMs = 2;
constexpr int kComplained = 1;
// The engine's; of a GPU this is CUDA's per-thread default one.
constexpr std::uint64_t kStream = 2;
constexpr std::uint32_t kGroupBlocks = 64;

class HbmEngine {
 public:
  HbmEngine(int socket, Client client, const HbmSetup& setup,
            std::unique_ptr<HbmCache> cache)
      : socket_(socket),
        client_(std::move(client)),
        setup_(setup),
        cache_(std::move(cache)),
        expected_(kKvBlockBytes),
        found_(kKvBlockBytes) {}

  // The exit code.
  int Run() {
    const auto state = cache_->Describe();
    if (!Check("describe", 0, state.status())) return exit_code_;
    Tell(HbmEventType::kReady, 0, state->budget_bytes, cache_->device_name());
    if (!cache_->why_no_gpu().empty()) {
      Tell(HbmEventType::kNoGpu, 0, 0, cache_->why_no_gpu());
    }
    HbmOrder order;
    while (recv(socket_, &order, sizeof(order), 0) ==
           static_cast<ssize_t>(sizeof(order))) {
      if (order.type == HbmOrderType::kQuit) return 0;
      if (!Obey(order)) return exit_code_;
      Tell(HbmEventType::kDone, order.agent);
    }
    return kComplained;  // the driver is gone
  }

 private:
  using Keys = std::vector<agentmem_key>;

  void Tell(HbmEventType type, std::uint32_t agent, std::uint64_t number = 0,
            const std::string& text = "") const {
    HbmEvent event;
    event.type = type;
    event.agent = agent;
    event.number = number;
    std::snprintf(event.text, sizeof(event.text), "%s", text.c_str());
    Send(event);
  }
  void Send(const HbmEvent& event) const {
    send(socket_, &event, sizeof(event), MSG_NOSIGNAL);
  }

  // True: go on.
  bool Check(const char* what, std::uint32_t agent,
             const absl::Status& status) {
    if (status.ok()) return true;
    const bool unavailable = status.code() == absl::StatusCode::kUnavailable;
    if (unavailable) exit_code_ = kMemdIsGone;
    Tell(unavailable ? HbmEventType::kUnavailable : HbmEventType::kTrouble,
         agent, 0, std::string(what) + ": " + std::string(status.message()));
    return false;
  }
  bool Check(const char* what, std::uint32_t agent, const Status& status) {
    return Check(what, agent,
                 status.ok()
                     ? absl::OkStatus()
                     : MakeStatus(static_cast<absl::StatusCode>(status.code()),
                                  status.message()));
  }

  // On one of several nodes: again, while it is UNAVAILABLE.
  absl::Status Patiently(std::uint32_t agent,
                         const std::function<absl::Status()>& operation) {
    const TimeNs start = MonotonicNowNs();
    absl::Status status = operation();
    int tries = 0;
    while (setup_.patient != 0 &&
           status.code() == absl::StatusCode::kUnavailable &&
           MonotonicNowNs() < start + kNoticedNs) {
      pollfd driver = {socket_, 0, 0};
      poll(&driver, 1, kAskAgainMs);
      status = operation();
      ++tries;
    }
    if (status.ok() && tries != 0) {
      Tell(HbmEventType::kDelayed, agent,
           static_cast<std::uint64_t>(MonotonicNowNs() - start));
    }
    return status;
  }

  bool Obey(const HbmOrder& order) {
    switch (order.type) {
      case HbmOrderType::kTurn:
        return TakeTurn(order);
      case HbmOrderType::kLoad:
        return Load(order);
      case HbmOrderType::kPhase:
        return SetPhase(order.agent, order.phase);
      case HbmOrderType::kLeave:
        if (!agents_.contains(order.agent)) return true;
        if (!SetPhase(order.agent, AGENTMEM_IDLE)) return false;
        agents_.erase(order.agent);
        return true;
      case HbmOrderType::kQuit:
        break;
    }
    return true;
  }

  bool TakeTurn(const HbmOrder& order) {
    strike_ = order.strike;
    if (!Open(order.agent) || !SetPhase(order.agent, AGENTMEM_REASONING) ||
        !Load(order)) {
      return false;
    }
    // There was nothing to load.
    if (strike_ == HbmStrike::kInLoad) strike_ = HbmStrike::kInStore;
    return Append(order);
  }

  // Copies were posted.
  void TellOfCopies(std::uint32_t agent, HbmStrike of) {
    if (strike_ != of) return;
    strike_ = HbmStrike::kNever;
    Tell(HbmEventType::kMidCopy, agent);
  }

  bool Open(std::uint32_t agent) {
    if (agents_.contains(agent)) return true;
    AgentOptions options;
    options.write = true;
    options.create = true;
    options.take_over = true;
    const TimeNs deadline = MonotonicNowNs() + kWriterNs;
    while (true) {
      Result<::agentmem::Agent> opened =
          client_.Agents().Open(HbmAgentName(agent), options);
      if (opened.ok()) {
        agents_.emplace(agent, std::move(*opened));
        return true;
      }
      // The killed engine before this one may just be going, or a node.
      const Code code = opened.status().code();
      const bool again = code == Code::kFailedPrecondition ||
                         (code == Code::kUnavailable && setup_.patient != 0);
      if (!again || MonotonicNowNs() >= deadline) {
        return Check("open", agent, opened.status());
      }
      pollfd driver = {socket_, 0, 0};
      poll(&driver, 1, kAskAgainMs);
    }
  }

  bool SetPhase(std::uint32_t agent, std::uint32_t phase) {
    const auto found = agents_.find(agent);
    if (found == agents_.end()) return true;
    const bool tool = phase == AGENTMEM_TOOL;
    return Check("phase", agent, Patiently(agent, [&] {
                   const auto answer = found->second.SetPhase(
                       static_cast<Phase>(phase), tool ? "pytest" : "");
                   return answer.ok()
                              ? absl::OkStatus()
                              : MakeStatus(static_cast<absl::StatusCode>(
                                               answer.status().code()),
                                           answer.status().message());
                 }));
  }

  agentmem_key KeyOf(std::uint32_t agent, std::uint32_t number) const {
    const ContentId id = KvContentOf(setup_.seed, agent, number);
    return {static_cast<std::uint32_t>(Mix(id.low + number / kGroupBlocks)),
            {static_cast<std::uint32_t>(id.high),
             static_cast<std::uint32_t>(id.high >> 32), number}};
  }
  Keys KeysOf(std::uint32_t agent, std::uint32_t first,
              std::uint32_t count) const {
    Keys keys;
    for (std::uint32_t i = 0; i < count; ++i) {
      keys.push_back(KeyOf(agent, first + i));
    }
    return keys;
  }

  bool Load(const HbmOrder& order) {
    for (std::uint32_t done = 0; done < order.blocks;
         done += HbmCache::kSlots) {
      const std::uint32_t first = order.first + done;
      const std::uint32_t count =
          std::min(order.blocks - done, HbmCache::kSlots);
      absl::Status loaded = LoadSome(order.agent, first, count);
      if (loaded.code() == absl::StatusCode::kNotFound && order.may_miss != 0) {
        loaded = LoadEach(order.agent, first, count);
      }
      if (!Check("load", order.agent, loaded)) return false;
    }
    return true;
  }

  // Each alone; what is nowhere is computed again.
  absl::Status LoadEach(std::uint32_t agent, std::uint32_t first,
                        std::uint32_t count) {
    std::uint64_t recomputed = 0;
    for (std::uint32_t number = first; number < first + count; ++number) {
      absl::Status status = LoadSome(agent, number, 1);
      if (status.code() == absl::StatusCode::kNotFound) {
        status = StoreSome(agent, number, 1);
        ++recomputed;
      }
      AGENTMEM_RETURN_IF_ERROR(status);
    }
    Tell(HbmEventType::kRecomputed, agent, recomputed);
    return absl::OkStatus();
  }

  absl::Status LoadSome(std::uint32_t agent, std::uint32_t first,
                        std::uint32_t count) {
    AGENTMEM_ASSIGN_OR_RETURN(agentmem_kv* const kv,
                              cache_->KvOf(HbmAgentName(agent)));
    const Keys keys = KeysOf(agent, first, count);
    const std::vector<std::uint32_t> pages = HbmCache::Pages(count);
    std::vector<agentmem_tier> tiers(count);
    for (std::uint32_t slot = 0; slot < count; ++slot) {
      AGENTMEM_RETURN_IF_ERROR(cache_->Poison(slot));
    }
    AGENTMEM_RETURN_IF_ERROR(Patiently(agent, [&] {
      agentmem_kv_transfer* transfer = nullptr;
      agentmem_error error = {};
      agentmem_code code =
          agentmem_kv_load(kv, keys.data(), count, pages.data(), kStream,
                           kTransferNs, &transfer, &error);
      if (code == AGENTMEM_OK) TellOfCopies(agent, HbmStrike::kInLoad);
      for (std::uint32_t layer = 0; layer < kKvLayers; ++layer) {
        if (code != AGENTMEM_OK) break;
        code = agentmem_kv_wait_layer(transfer, layer, kStream, &error);
      }
      if (code == AGENTMEM_OK) {
        code = agentmem_kv_wait(transfer, kTransferNs, &error);
      }
      if (code == AGENTMEM_OK) {
        code = agentmem_kv_tiers(transfer, tiers.data(), count, &error);
      }
      agentmem_kv_close_transfer(transfer);
      return ToStatus(code, error);
    }));
    return Compare(agent, first, tiers);
  }

  absl::Status Compare(std::uint32_t agent, std::uint32_t first,
                       const std::vector<agentmem_tier>& tiers) {
    HbmEvent event;
    event.type = HbmEventType::kLoaded;
    event.agent = agent;
    event.blocks = static_cast<std::uint32_t>(tiers.size());
    event.number = tiers.size() * std::uint64_t{kKvBlockBytes};
    for (std::uint32_t slot = 0; slot < tiers.size(); ++slot) {
      if (tiers[slot] < kHbmTiers) ++event.hits[tiers[slot]];
      AGENTMEM_RETURN_IF_ERROR(cache_->Read(slot, found_));
      const ContentId id = KvContentOf(setup_.seed, agent, first + slot);
      const std::uint64_t wrong = MismatchingBytes(id, found_);
      if (wrong == 0) continue;
      Tell(HbmEventType::kMismatch, agent, wrong,
           std::to_string(wrong) + " wrong bytes in block " +
               std::to_string(first + slot) + ", from tier " +
               std::to_string(tiers[slot]));
      return DataLoss("block " + std::to_string(first + slot) + " is wrong");
    }
    Send(event);
    return absl::OkStatus();
  }

  bool Append(const HbmOrder& order) {
    const std::uint32_t first = order.first + order.blocks;
    for (std::uint32_t done = 0; done < order.append;
         done += HbmCache::kSlots) {
      const std::uint32_t count =
          std::min(order.append - done, HbmCache::kSlots);
      if (!Check("store", order.agent,
                 StoreSome(order.agent, first + done, count))) {
        return false;
      }
      HbmEvent event;
      event.type = HbmEventType::kStored;
      event.agent = order.agent;
      event.blocks = first + done + count;
      Send(event);
    }
    return true;
  }

  // The model computes them: they are in the pages.
  absl::Status StoreSome(std::uint32_t agent, std::uint32_t first,
                         std::uint32_t count) {
    AGENTMEM_ASSIGN_OR_RETURN(agentmem_kv* const kv,
                              cache_->KvOf(HbmAgentName(agent)));
    const Keys keys = KeysOf(agent, first, count);
    const std::vector<std::uint32_t> pages = HbmCache::Pages(count);
    for (std::uint32_t slot = 0; slot < count; ++slot) {
      FillContent(KvContentOf(setup_.seed, agent, first + slot), expected_);
      AGENTMEM_RETURN_IF_ERROR(cache_->Write(slot, expected_));
    }
    return Patiently(agent, [&] {
      agentmem_kv_transfer* transfer = nullptr;
      agentmem_error error = {};
      agentmem_code code = agentmem_kv_store(
          kv, keys.data(), count, pages.data(), kStream, AGENTMEM_CACHE,
          AGENTMEM_DURABLE, kTransferNs, &transfer, &error);
      if (code == AGENTMEM_OK) TellOfCopies(agent, HbmStrike::kInStore);
      if (code == AGENTMEM_OK) {
        code = agentmem_kv_wait(transfer, kTransferNs, &error);
      }
      agentmem_kv_close_transfer(transfer);
      return ToStatus(code, error);
    });
  }

  const int socket_;
  Client client_;
  const HbmSetup setup_;
  const std::unique_ptr<HbmCache> cache_;
  std::map<std::uint32_t, ::agentmem::Agent> agents_;
  std::vector<std::byte> expected_;
  std::vector<std::byte> found_;
  HbmStrike strike_ = HbmStrike::kNever;  // still to come
  int exit_code_ = kComplained;
};

// What there was to say before there is an engine.
int Complain(int socket, const absl::Status& status) {
  HbmEvent event;
  const bool unavailable = status.code() == absl::StatusCode::kUnavailable;
  event.type =
      unavailable ? HbmEventType::kUnavailable : HbmEventType::kTrouble;
  std::snprintf(event.text, sizeof(event.text), "its start: %s",
                std::string(status.message()).c_str());
  send(socket, &event, sizeof(event), MSG_NOSIGNAL);
  return unavailable ? kMemdIsGone : kComplained;
}

}  // namespace

std::string HbmAgentName(std::uint32_t agent) {
  return "coder-" + std::to_string(agent);
}

int HbmEngineMain(int driver_socket, const std::string& memd_socket_path) {
  HbmSetup setup;
  if (recv(driver_socket, &setup, sizeof(setup), 0) !=
      static_cast<ssize_t>(sizeof(setup))) {
    return kComplained;
  }
  ConnectOptions options;
  options.socket_path = memd_socket_path;
  options.name = setup.name;
  options.timeout = seconds(10);
  Result<Client> client = Client::Connect(options);
  if (!client.ok()) return kMemdIsGone;
  auto cache = HbmCache::Open(client->raw(), setup.order, setup.hbm_bytes);
  if (!cache.ok()) return Complain(driver_socket, cache.status());
  return HbmEngine(driver_socket, std::move(*client), setup, std::move(*cache))
      .Run();
}

}  // namespace agentmem::demo
