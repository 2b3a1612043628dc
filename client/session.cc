#include "client/session.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/messages.h"
#include "client/packet_socket.h"

namespace agentmem::client {
namespace {

Outcome CheckVersions(const Welcome& welcome) {
  if (welcome.client_layout_version != kClientVersion) {
    return Fail(Code::kFailedPrecondition,
                VersionMismatch("layout of the client file",
                                welcome.client_layout_version, kClientVersion));
  }
  if (welcome.index_layout_version != kIndexVersion) {
    return Fail(Code::kFailedPrecondition,
                VersionMismatch("layout of the index",
                                welcome.index_layout_version, kIndexVersion));
  }
  if (welcome.client_file_bytes < kClientFileBytes) {
    return Fail(Code::kFailedPrecondition,
                "client file of " + std::to_string(welcome.client_file_bytes) +
                    " bytes, its layout has " +
                    std::to_string(kClientFileBytes));
  }
  return {};
}

Outcome CheckFile(const Welcome& welcome, const ClientHeader& header) {
  if (header.magic != kClientMagic) {
    return Fail(Code::kFailedPrecondition,
                "client file: magic number is wrong");
  }
  if (header.version != kClientVersion) {
    return Fail(Code::kFailedPrecondition,
                VersionMismatch("layout of the client file", header.version,
                                kClientVersion));
  }
  if (header.header_bytes != sizeof(ClientHeader) ||
      header.client_id != welcome.client_id) {
    return Fail(Code::kFailedPrecondition,
                "client file: its header is not that of this client");
  }
  return {};
}

}  // namespace

Outcome Session::Open(Connection connection, SessionSet* set, Session** out) {
  const Welcome& welcome = connection.welcome;
  if (Outcome checked = CheckVersions(welcome); !checked.ok()) return checked;
  Mapping index;
  Mapping data;
  Mapping file;
  if (Outcome mapped = Mapping::Map("index", connection.index.get(),
                                    welcome.index_bytes, PROT_READ, &index);
      !mapped.ok()) {
    return mapped;
  }
  if (Outcome mapped =
          Mapping::Map("data", connection.data.get(), welcome.data_bytes,
                       PROT_READ | PROT_WRITE, &data);
      !mapped.ok()) {
    return mapped;
  }
  if (Outcome mapped = Mapping::Map("client file", connection.client_file.get(),
                                    welcome.client_file_bytes,
                                    PROT_READ | PROT_WRITE, &file);
      !mapped.ok()) {
    return mapped;
  }
  if (std::string wrong = IndexReader::Validate(index.base(), index.bytes());
      !wrong.empty()) {
    return Fail(Code::kFailedPrecondition, std::move(wrong));
  }
  const ClientFile layout(file.base());
  if (Outcome checked = CheckFile(welcome, layout.header()); !checked.ok()) {
    return checked;
  }
  // The mappings hold the memory; only socket and doorbell are used again.
  connection.index.Reset();
  connection.data.Reset();
  connection.client_file.Reset();

  auto* session = new Session(set);
  set->Add(session);
  session->index_ = IndexReader(index.base());
  session->file_ = layout;
  session->connection_ = std::move(connection);
  session->index_mapping_ = std::move(index);
  session->data_mapping_ = std::move(data);
  session->file_mapping_ = std::move(file);
  for (std::size_t i = 0; i < kThreadTables; ++i) {
    session->tables[i].session = session;
    session->tables[i].shared = &layout.thread_tables()[i];
  }
  *out = session;
  return {};
}

void Session::End() {
  set_->Remove(this);
  delete this;
}

void SessionSet::EndAll() {
  MutexLock lock(&mutex_);
  for (Session* session : sessions_) delete session;
  sessions_.clear();
}

bool Session::HungUp() const { return SocketHungUp(connection_.socket.get()); }

void Session::RingDoorbell() const {
  std::atomic<std::uint32_t>& sleeping = file_.header().memd_sleeping;
  if (sleeping.load(std::memory_order_seq_cst) == 0) return;
  if (sleeping.exchange(0, std::memory_order_seq_cst) == 0) return;
  const std::uint64_t one = 1;
  // Only a full counter can refuse it, and then memd wakes anyway.
  [[maybe_unused]] const ssize_t written =
      write(connection_.doorbell.get(), &one, sizeof(one));
}

void Session::Disconnect() const {
  shutdown(connection_.socket.get(), SHUT_RDWR);
}

}  // namespace agentmem::client
