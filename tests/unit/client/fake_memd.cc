#include "tests/unit/client/fake_memd.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <bit>
#include <cstring>

#include "base/check.h"
#include "client/futex.h"

namespace agentmem {
namespace {

UniqueFd Memory(const char* name, std::uint64_t bytes, char** base) {
  UniqueFd fd(memfd_create(name, MFD_CLOEXEC));
  AGENTMEM_CHECK(fd.valid() && ftruncate(fd.get(), bytes) == 0);
  void* mapped =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  AGENTMEM_CHECK(mapped != MAP_FAILED);
  *base = static_cast<char*>(mapped);
  return fd;
}

}  // namespace

FakeMemd::FakeMemd(std::string socket_path, const Options& options)
    : socket_path_(std::move(socket_path)), options_(options) {
  for (std::size_t i = 0; i < tenant_key_.size(); ++i) tenant_key_[i] = i;
  buckets_ = std::bit_ceil(options.slots * 2 / kEntriesPerBucket + 1);
  index_bytes_ = sizeof(IndexHeader) + buckets_ * sizeof(Bucket) +
                 options.slots * sizeof(Slot);
  index_fd_ = Memory("index", index_bytes_, &index_);
  data_fd_ = Memory("data", options.data_bytes, &data_);
  auto* header = reinterpret_cast<IndexHeader*>(index_);
  header->magic = kIndexMagic;
  header->version = options.index_version;
  header->header_bytes = sizeof(IndexHeader);
  header->probe_limit = kProbeLimit;
  header->bucket_count = buckets_;
  header->buckets_offset = sizeof(IndexHeader);
  header->slot_count = options.slots;
  header->slots_offset = sizeof(IndexHeader) + buckets_ * sizeof(Bucket);
  header->data_bytes = options.data_bytes;

  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  listener_ = UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  AGENTMEM_CHECK(socket_path_.size() < sizeof(address.sun_path));
  std::memcpy(address.sun_path, socket_path_.data(), socket_path_.size());
  unlink(socket_path_.c_str());
  AGENTMEM_CHECK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address),
                      sizeof(address)) == 0);
  AGENTMEM_CHECK(listen(listener_.get(), 16) == 0);
  thread_ = std::thread([this] { Run(); });
}

FakeMemd::~FakeMemd() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
  unlink(socket_path_.c_str());
  for (auto& client : clients_) munmap(client->base, kClientFileBytes);
  munmap(index_, index_bytes_);
  munmap(data_, options_.data_bytes);
}

void FakeMemd::Wake() {
  const std::uint64_t one = 1;
  AGENTMEM_CHECK(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
}

Slot& FakeMemd::slot(std::uint32_t index) {
  auto* slots = reinterpret_cast<Slot*>(index_ + sizeof(IndexHeader) +
                                        buckets_ * sizeof(Bucket));
  return slots[index];
}

void FakeMemd::Run() {
  for (;;) {
    std::vector<pollfd> waiting = {{listener_.get(), POLLIN, 0},
                                   {wake_.get(), POLLIN, 0}};
    bool busy = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (stopping_) return;
      for (auto& client : clients_) {
        waiting.push_back({client->doorbell.get(), POLLIN, 0});
        if (!paused_) busy = Serve(client.get()) || busy;
        ClientFile(client->base)
            .header()
            .memd_sleeping.store(1, std::memory_order_seq_cst);
        // The last look before sleeping.
        if (!paused_) busy = Serve(client.get()) || busy;
      }
    }
    changed_.notify_all();
    poll(waiting.data(), waiting.size(), busy ? 0 : -1);
    std::uint64_t ignored;
    for (std::size_t i = 1; i < waiting.size(); ++i) {
      if ((waiting[i].revents & POLLIN) == 0) continue;
      AGENTMEM_CHECK(read(waiting[i].fd, &ignored, sizeof(ignored)) > 0);
    }
    if ((waiting[0].revents & POLLIN) != 0) Accept();
  }
}

void FakeMemd::Accept() {
  auto client = std::make_unique<Attached>();
  client->socket =
      UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  Hello hello;
  if (recv(client->socket.get(), &hello, sizeof(hello), 0) != sizeof(hello)) {
    return;
  }
  if (!options_.refusal.empty()) {
    Refusal refusal = {};
    refusal.header = {kWireMagic, options_.wire_version, MessageType::kRefusal,
                      sizeof(refusal), 0};
    refusal.code = static_cast<std::uint32_t>(Code::kPermissionDenied);
    options_.refusal.copy(refusal.message, sizeof(refusal.message) - 1);
    send(client->socket.get(), &refusal, sizeof(refusal), MSG_NOSIGNAL);
    return;
  }
  if ((hello.flags & kHelloAgents) != 0 && options_.agents != nullptr) {
    options_.agents(std::move(client->socket));
    return;
  }
  char* base = nullptr;
  client->memory = Memory("client", kClientFileBytes, &base);
  client->base = base;
  client->doorbell = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ClientHeader& header = ClientFile(base).header();
  header.magic = kClientMagic;
  header.version = kClientVersion;
  header.header_bytes = sizeof(ClientHeader);
  std::lock_guard<std::mutex> lock(mutex_);
  header.client_id = clients_.size() + 1;
  SendWelcome(client.get());
  clients_.push_back(std::move(client));
}

void FakeMemd::SendWelcome(Attached* client) {
  Welcome welcome = {};
  welcome.header = {kWireMagic, options_.wire_version, MessageType::kWelcome,
                    sizeof(welcome), 0};
  welcome.client_id = clients_.size() + 1;
  welcome.client_layout_version = options_.client_layout_version;
  welcome.index_layout_version = kIndexVersion;
  welcome.flags = options_.welcome_flags;
  welcome.data_bytes = options_.data_bytes;
  welcome.index_bytes = index_bytes_;
  welcome.client_file_bytes = kClientFileBytes;
  std::memcpy(welcome.tenant_key, tenant_key_.data(), tenant_key_.size());
  const int fds[kWelcomeDescriptors] = {index_fd_.get(), data_fd_.get(),
                                        client->memory.get(),
                                        client->doorbell.get()};
  iovec io = {&welcome, sizeof(welcome)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(fds))] = {};
  msghdr message = {};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* part = CMSG_FIRSTHDR(&message);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof(fds));
  std::memcpy(CMSG_DATA(part), fds, sizeof(fds));
  AGENTMEM_CHECK(sendmsg(client->socket.get(), &message, MSG_NOSIGNAL) ==
                 sizeof(welcome));
}

bool FakeMemd::Serve(Attached* client) {
  const ClientFile file(client->base);
  ClientHeader& header = file.header();
  bool any = false;
  while (client->submission_head !=
         header.submission_tail.load(std::memory_order_seq_cst)) {
    const SubmissionEntry entry =
        file.submissions()[client->submission_head++ % kSubmissionEntries];
    header.submission_head.store(client->submission_head,
                                 std::memory_order_release);
    ++counts_[entry.op];
    last_[entry.op] = entry;
    Handle(client, entry);
    any = true;
  }
  if (any) Signal(client);
  return any;
}

void FakeMemd::Handle(Attached* client, const SubmissionEntry& entry) {
  CompletionEntry answer = {};
  if (withheld_.erase({entry.op, entry.key}) != 0) {
    unanswered_.emplace_back(client, entry);
    return;
  }
  if (const auto set = answers_.find(entry.op); set != answers_.end()) {
    answer = set->second;
    answer.op_id = entry.op_id;
    Complete(client, answer);
    return;
  }
  if (const auto once = answers_once_.find({entry.op, entry.key});
      once != answers_once_.end()) {
    answer = once->second;
    answer.op_id = entry.op_id;
    answers_once_.erase(once);
    Complete(client, answer);
    return;
  }
  answer.op_id = entry.op_id;
  answer.kind = CompletionKind::kOp;
  switch (entry.op) {
    case Op::kPublish:
      HandlePublish(client, entry, &answer);
      break;
    case Op::kFetch:
      HandleFetch(entry, &answer);
      break;
    case Op::kHold:
      if (holds_ == options_.holds_max) {
        answer.code = Code::kResourceExhausted;
        break;
      }
      ++holds_;
      answer.slot = entry.slot;
      answer.generation = entry.sequence;
      break;
    case Op::kWantGrants:
      for (std::uint32_t i = 0; i < entry.slot; ++i) {
        if (GrantLocked(client, std::bit_ceil(std::max(entry.length, 512u)))) {
          continue;
        }
        if (i == 0) answer.code = Code::kResourceExhausted;
        break;
      }
      break;
    case Op::kRelease:
      --holds_;
      return;
    case Op::kAbandon:
      ClientFile(client->base)
          .grants()[entry.grant]
          .state.store(
              PackGrant(++client->sequences[entry.grant], GrantState::kFree));
      --granted_;
      FreeRoom(ClientFile(client->base).grants()[entry.grant].data_offset,
               ClientFile(client->base).grants()[entry.grant].slot_bytes);
      return;
    case Op::kFindTier:
      answer.tier = static_cast<std::uint8_t>(Tier::kPool);
      if (!elsewhere_.contains(entry.key)) answer.code = Code::kNotFound;
      break;
    case Op::kPrefetch:
    case Op::kHoldExtents:
      break;
    case Op::kClose:
      client->closed = true;
      return;
    default:
      return;
  }
  Complete(client, answer);
}

void FakeMemd::HandlePublish(Attached* client, const SubmissionEntry& entry,
                             CompletionEntry* answer) {
  GrantEntry& grant = ClientFile(client->base).grants()[entry.grant];
  if (grant.state.load() != PackGrant(entry.sequence, GrantState::kWriting)) {
    answer->code = Code::kInvalidArgument;
    answer->reason = Reason::kBadGrant;
    answer->detail[0] = entry.grant;
    answer->detail[1] = entry.sequence;
    return;
  }
  if (!resident_.contains(entry.key)) {
    PublishLocked(entry.key, grant.data_offset, entry.length);
  } else {
    FreeRoom(grant.data_offset, grant.slot_bytes);
  }
  grant.state.store(
      PackGrant(++client->sequences[entry.grant], GrantState::kFree));
  --granted_;
  if (options_.reuses_room) GrantLocked(client, grant.slot_bytes);
}

void FakeMemd::HandleFetch(const SubmissionEntry& entry,
                           CompletionEntry* answer) {
  answer->tier = static_cast<std::uint8_t>(Tier::kDram);
  if (!resident_.contains(entry.key)) {
    const auto below = below_.find(entry.key);
    if (below == below_.end()) {
      answer->code = Code::kNotFound;
      answer->reason = Reason::kNoSuchBlock;
      return;
    }
    const std::uint64_t offset = Allocate(below->second.size());
    std::memcpy(data_ + offset, below->second.data(), below->second.size());
    PublishLocked(entry.key, offset, below->second.size());
    answer->tier = static_cast<std::uint8_t>(Tier::kStore);
  }
  answer->slot = resident_[entry.key];
  answer->generation = slot(answer->slot).generation.load();
  ++holds_;
}

void FakeMemd::Complete(Attached* client, const CompletionEntry& answer) {
  const ClientFile file(client->base);
  file.completions()[client->completion_tail++ % kCompletionEntries] = answer;
  file.header().completion_tail.store(client->completion_tail,
                                      std::memory_order_release);
}

void FakeMemd::Signal(Attached* client) {
  ClientHeader& header = ClientFile(client->base).header();
  header.completion_signal.fetch_add(1, std::memory_order_seq_cst);
  if (header.waiters.load(std::memory_order_seq_cst) != 0) {
    client::FutexWakeAll(&header.completion_signal);
  }
}

std::uint32_t FakeMemd::PublishLocked(const Key& key, std::uint64_t offset,
                                      std::uint32_t length) {
  std::uint32_t index = slots_used_;
  if (free_slots_.empty()) {
    AGENTMEM_CHECK(index < options_.slots);
    ++slots_used_;
  } else {
    index = free_slots_.back();
    free_slots_.pop_back();
  }
  Slot& fields = slot(index);
  fields.key_low.store(key.low(), std::memory_order_relaxed);
  fields.key_high.store(key.high(), std::memory_order_relaxed);
  fields.place.store(Place(offset, length, BlockClass::kCache).word(),
                     std::memory_order_relaxed);
  fields.generation.fetch_add(1, std::memory_order_seq_cst);
  SetEntry(key,
           ResidentEntry(HashKey(key), SlotIndex(index), BlockClass::kCache));
  resident_[key] = index;
  return index;
}

std::atomic<std::uint64_t>* FakeMemd::FindEntry(const Key& key) {
  auto* buckets = reinterpret_cast<Bucket*>(index_ + sizeof(IndexHeader));
  const std::uint64_t hash = HashKey(key);
  for (std::uint32_t probe = 0; probe < kProbeLimit; ++probe) {
    for (auto& cell : buckets[(hash + probe) & (buckets_ - 1)].entries) {
      const std::uint64_t entry = cell.load();
      const bool resident = KindOf(entry) == EntryKind::kResident &&
                            resident_.contains(key) &&
                            SlotOf(entry).value() == resident_[key];
      const bool below = KindOf(entry) == EntryKind::kInStore &&
                         (entry & kFingerprintMask) == FingerprintOf(key);
      if (resident || below) return &cell;
    }
  }
  return nullptr;
}

void FakeMemd::SetEntry(const Key& key, std::uint64_t entry) {
  if (auto* cell = FindEntry(key)) {
    cell->store(entry, std::memory_order_seq_cst);
    return;
  }
  auto* buckets = reinterpret_cast<Bucket*>(index_ + sizeof(IndexHeader));
  const std::uint64_t hash = HashKey(key);
  for (std::uint32_t probe = 0; probe < kProbeLimit; ++probe) {
    Bucket& bucket = buckets[(hash + probe) & (buckets_ - 1)];
    for (auto& cell : bucket.entries) {
      if (cell.load() != 0) continue;
      cell.store(entry, std::memory_order_seq_cst);
      return;
    }
    bucket.overflow.fetch_add(1, std::memory_order_seq_cst);
  }
  AGENTMEM_CHECK(false);
}

std::uint32_t FakeMemd::AddResident(const Key& key, const std::string& bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::uint64_t offset = Allocate(bytes.size());
  std::memcpy(data_ + offset, bytes.data(), bytes.size());
  return PublishLocked(key, offset, bytes.size());
}

std::uint32_t FakeMemd::AddResidentAt(const Key& key, std::uint64_t offset,
                                      std::uint32_t length) {
  std::lock_guard<std::mutex> lock(mutex_);
  return PublishLocked(key, offset, length);
}

void FakeMemd::AddBelow(const Key& key, const std::string& bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  below_[key] = bytes;
  SetEntry(key, BelowEntry(key, EntryKind::kInStore, BlockClass::kCache));
}

void FakeMemd::AddElsewhere(const Key& key) {
  std::lock_guard<std::mutex> lock(mutex_);
  below_[key] = "from afar";
  elsewhere_.insert(key);
}

void FakeMemd::Evict(const Key& key) {
  std::lock_guard<std::mutex> lock(mutex_);
  SetEntry(key, 0);
  const std::uint32_t index = resident_[key];
  slot(index).generation.fetch_add(1, std::memory_order_seq_cst);
  resident_.erase(key);
  if (!options_.reuses_room) return;
  const Place place = slot(index).LoadPlace();
  FreeRoom(place.data_offset(), place.length());
  free_slots_.push_back(index);
}

bool FakeMemd::Rewrite(const Key& key, char fill) {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::uint32_t index = resident_[key];
  Slot& fields = slot(index);
  fields.generation.fetch_add(1, std::memory_order_seq_cst);
  const bool free = PinsOnLocked(index) == 0;
  if (free) {
    const Place place = fields.LoadPlace();
    std::memset(data_ + place.data_offset(), fill, place.length());
  }
  fields.generation.fetch_add(1, std::memory_order_seq_cst);
  return free;
}

bool FakeMemd::IsResident(const Key& key) {
  std::lock_guard<std::mutex> lock(mutex_);
  return resident_.contains(key);
}

std::string FakeMemd::BytesOf(const Key& key) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!resident_.contains(key)) return "";
  const Place place = slot(resident_[key]).LoadPlace();
  return {data_ + place.data_offset(), place.length()};
}

int FakeMemd::PinsOn(std::uint32_t slot_index) {
  std::lock_guard<std::mutex> lock(mutex_);
  return PinsOnLocked(slot_index);
}

int FakeMemd::PinsOnLocked(std::uint32_t slot_index) {
  int count = 0;
  for (auto& client : clients_) {
    if (client->closed) continue;
    const ClientFile file(client->base);
    const std::uint64_t mask = file.header().thread_table_mask.load();
    for (std::uint32_t i = 0; i < kThreadTables; ++i) {
      if (((mask >> i) & 1) == 0) continue;
      for (auto& pin : file.thread_tables()[i].pins) {
        count += pin.load(std::memory_order_seq_cst) == slot_index + 1ULL;
      }
    }
  }
  return count;
}

int FakeMemd::Pins() {
  std::uint32_t used = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    used = slots_used_;
  }
  int count = 0;
  for (std::uint32_t i = 0; i < used; ++i) count += PinsOn(i);
  return count;
}

void FakeMemd::Pause() {
  std::lock_guard<std::mutex> lock(mutex_);
  paused_ = true;
}

void FakeMemd::Resume() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    paused_ = false;
  }
  Wake();
}

void FakeMemd::SetAnswer(Op op, const CompletionEntry& answer) {
  std::lock_guard<std::mutex> lock(mutex_);
  answers_[op] = answer;
  answers_[op].kind = CompletionKind::kOp;
}

void FakeMemd::AnswerOnce(Op op, const Key& key,
                          const CompletionEntry& answer) {
  std::lock_guard<std::mutex> lock(mutex_);
  CompletionEntry& once = answers_once_[{op, key}];
  once = answer;
  once.kind = CompletionKind::kOp;
}

void FakeMemd::ClearAnswer(Op op) {
  std::lock_guard<std::mutex> lock(mutex_);
  answers_.erase(op);
}

void FakeMemd::Withhold(Op op, const Key& key) {
  std::lock_guard<std::mutex> lock(mutex_);
  withheld_.insert({op, key});
}

void FakeMemd::LetGo() {
  std::lock_guard<std::mutex> lock(mutex_);
  withheld_.clear();
  for (const auto& [client, entry] : std::exchange(unanswered_, {})) {
    Handle(client, entry);
    Signal(client);
  }
}

int FakeMemd::Count(Op op) {
  std::lock_guard<std::mutex> lock(mutex_);
  return counts_[op];
}

void FakeMemd::AwaitCount(Op op, int count) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return counts_[op] >= count; });
}

SubmissionEntry FakeMemd::Last(Op op) {
  std::lock_guard<std::mutex> lock(mutex_);
  return last_[op];
}

std::uint64_t FakeMemd::holds() {
  std::lock_guard<std::mutex> lock(mutex_);
  return holds_;
}

int FakeMemd::connections() {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int>(clients_.size());
}

ClientFile FakeMemd::file() {
  std::lock_guard<std::mutex> lock(mutex_);
  return ClientFile(clients_.back()->base);
}

void FakeMemd::Grant(std::uint32_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  GrantLocked(clients_.back().get(), bytes);
  Signal(clients_.back().get());
}

void FakeMemd::Retire(std::uint64_t data_offset, std::uint64_t token) {
  std::lock_guard<std::mutex> lock(mutex_);
  CompletionEntry retire = {};
  retire.kind = CompletionKind::kExtentRetire;
  retire.detail[0] = data_offset;
  retire.detail[1] = kExtentBytes;
  retire.detail[2] = token;
  Complete(clients_.back().get(), retire);
  Signal(clients_.back().get());
}

int FakeMemd::GrantsIn(GrantState state) {
  std::lock_guard<std::mutex> lock(mutex_);
  int count = 0;
  for (std::uint32_t i = 0; i < kGrantEntries; ++i) {
    count += GrantStateOf(
                 ClientFile(clients_.back()->base).grants()[i].state.load()) ==
             state;
  }
  return count;
}

}  // namespace agentmem
