#include "client/registrar.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "client/futex.h"
#include "client/small_thread.h"
#include "proto/client_layout.h"

namespace agentmem::client {
namespace {

// Of sessions that are over, at a time.
constexpr std::size_t kTidyExtents = 2;

}  // namespace

Registrar::~Registrar() {
  if (!is_started_) return;
  AskToStop();
  pthread_join(thread_, nullptr);
}

Outcome Registrar::Start() {
  has_stopped_ = false;
  const int error =
      StartSmallThread("agentmem-ahead", &Registrar::Run, this, &thread_);
  if (error != 0) {
    has_stopped_ = true;
    return Fail(Code::kResourceExhausted,
                std::string("no thread to register memory ahead: ") +
                    std::strerror(error));
  }
  is_started_ = true;
  return {};
}

void Registrar::AskToStop() {
  stop_ = 1;
  FutexWakeAll(&stop_);
}

void* Registrar::Run(void* self) {
  auto* const registrar = static_cast<Registrar*>(self);
  while (registrar->stop_ == 0) {
    registrar->Step();
    FutexWait(&registrar->stop_, 0, kListenNs);
  }
  registrar->has_stopped_ = true;
  return nullptr;
}

void Registrar::Step() {
  channel_->Poll();
  Session* const session = channel_->Acquire();
  memory_->Tidy(session, kTidyExtents);
  const std::uint64_t instance = session->index().header().instance;
  const std::uint64_t client = session->welcome().client_id;
  const std::uint64_t late = memory_->late();
  const bool is_known =
      has_met_ && instance == met_instance_ && client == met_client_;
  if ((!is_known || late != late_) && !session->HungUp()) {
    has_met_ = true;
    met_instance_ = instance;
    met_client_ = client;
    late_ = late;
    RegisterAll(session);
  }
  // (Else the channel has ended, perhaps, and the session with it.)
  if (!memory_->IsAbandoned()) session->Unref();
}

void Registrar::RegisterAll(Session* session) {
  std::vector<bool> wanted = FindBlocks(*session);
  if (!RegisterSome(session, wanted, wanted.size())) return;
  std::uint64_t touched = kSpare;
  for (std::uint64_t extent = 0; extent < wanted.size(); ++extent) {
    if (wanted[extent]) touched = extent + 1 + kSpare;
  }
  wanted.flip();
  wanted.resize(std::min<std::uint64_t>(touched, wanted.size()));
  RegisterSome(session, wanted, kSpare);
}

// What it reads may change meanwhile: a hint is all that it is to be.
std::vector<bool> Registrar::FindBlocks(const Session& session) {
  const std::uint64_t extents =
      (session.data_bytes() + kExtentBytes - 1) / kExtentBytes;
  std::vector<bool> found(extents);
  const IndexReader& index = session.index();
  const auto slots = static_cast<std::uint32_t>(index.header().slot_count);
  for (std::uint32_t i = 0; i < slots; ++i) {
    const Slot& slot = index.slot(SlotIndex(i));
    if (!IsPublished(slot.generation.load(std::memory_order_acquire))) continue;
    const Place place(slot.place.load(std::memory_order_relaxed));
    const std::uint64_t extent = place.data_offset() / kExtentBytes;
    if (extent < extents) found[extent] = true;
  }
  return found;
}

bool Registrar::RegisterSome(Session* session, const std::vector<bool>& wanted,
                             std::uint64_t most) {
  for (std::uint64_t first = 0; first < wanted.size() && most != 0;) {
    std::uint64_t end = first;
    const std::uint64_t end_max = std::min<std::uint64_t>(
        wanted.size(),
        first + std::min<std::uint64_t>(most, kExtentsPerHoldMax));
    while (end < end_max && wanted[end]) ++end;
    if (end != first && !RegisterRun(session, first, end)) return false;
    most -= end - first;
    first = std::max(end, first + 1);
  }
  return true;
}

bool Registrar::RegisterRun(Session* session, std::uint64_t first,
                            std::uint64_t end) {
  if (stop_ != 0 || !memory_->HoldAhead(session, first, end).ok()) return false;
  for (std::uint64_t extent = first; extent < end; ++extent) {
    if (stop_ != 0 || !memory_->RegisterAhead(session, extent).ok()) {
      return false;
    }
    if (stop_ == 0) channel_->Poll();  // some of it may be wanted already
  }
  return true;
}

}  // namespace agentmem::client
