// What a real etcd answers too rarely to be tested with: a server that says
// what it is told to.
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "base/status.h"
#include "memd/cluster/etcd_client.h"
#include "memd/cluster/etcd_ref_store.h"
#include "proto/etcd.grpc.pb.h"

namespace agentmem {
namespace {

namespace pb = etcdserverpb;

TimeNs Soon() { return MonotonicNowNs() + 10 * kSecondNs; }

// Answers with the statuses in turn, then with OK and `range` or `txn`.
class ScriptedKv final : public pb::KV::Service {
 public:
  grpc::Status Range(grpc::ServerContext*, const pb::RangeRequest*,
                     pb::RangeResponse* response) override {
    *response = range;
    return Answer();
  }
  grpc::Status Txn(grpc::ServerContext*, const pb::TxnRequest*,
                   pb::TxnResponse* response) override {
    *response = txn;
    return Answer();
  }

  void Say(grpc::StatusCode code, const std::string& message) {
    MutexLock lock(&mutex_);
    script_.emplace_back(code, message);
  }
  int calls() {
    MutexLock lock(&mutex_);
    return calls_;
  }

  // Set before the calls.
  pb::RangeResponse range;
  pb::TxnResponse txn;

 private:
  grpc::Status Answer() {
    MutexLock lock(&mutex_);
    ++calls_;
    if (script_.empty()) return grpc::Status::OK;
    const grpc::Status status = script_.front();
    script_.pop_front();
    return status;
  }

  Mutex mutex_;
  std::deque<grpc::Status> script_ AGENTMEM_GUARDED_BY(mutex_);
  int calls_ AGENTMEM_GUARDED_BY(mutex_) = 0;
};

class ScriptedEtcdTest : public testing::Test {
 protected:
  ScriptedEtcdTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(&etcd_);
    server_ = builder.BuildAndStart();
    client_ = EtcdClient::Make(
                  {.endpoints = {"http://127.0.0.1:" + std::to_string(port)}})
                  .value();
    refs_ = EtcdRefStore::Make(client_.get(), {.cluster = "test"}).value();
  }
  ~ScriptedEtcdTest() override { server_->Shutdown(); }

  ScriptedKv etcd_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<EtcdClient> client_;
  std::unique_ptr<EtcdRefStore> refs_;
  const EtcdTxn change_ = {{}, {{EtcdOp::Kind::kPut, "key", "value"}}, {}};
};

TEST_F(ScriptedEtcdTest, AChangeWhoseAnswerIsLostIsNotSentAgain) {
  etcd_.Say(grpc::StatusCode::UNAVAILABLE, "etcdserver: request timed out");
  EXPECT_EQ(client_->Txn(change_, Soon()).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(etcd_.calls(), 1);
}

TEST_F(ScriptedEtcdTest, AChangeThatWasRefusedForWantOfALeaderIsSentAgain) {
  etcd_.Say(grpc::StatusCode::UNAVAILABLE, "etcdserver: no leader");
  etcd_.Say(grpc::StatusCode::UNAVAILABLE, "etcdserver: no leader");
  EXPECT_TRUE(client_->Txn(change_, Soon()).ok());
  EXPECT_EQ(etcd_.calls(), 3);
}

TEST_F(ScriptedEtcdTest, AReadIsAskedAgainUntilItIsAnswered) {
  etcd_.Say(grpc::StatusCode::UNAVAILABLE, "etcdserver: request timed out");
  etcd_.Say(grpc::StatusCode::INTERNAL, "stream terminated");
  EXPECT_TRUE(client_->Range({"key"}, Soon()).ok());
  const EtcdTxn look = {{}, {{EtcdOp::Kind::kGet, "key"}}, {}};
  etcd_.Say(grpc::StatusCode::UNAVAILABLE, "etcdserver: leader changed");
  EXPECT_TRUE(client_->Txn(look, Soon()).ok());
  EXPECT_EQ(etcd_.calls(), 5);
}

TEST_F(ScriptedEtcdTest, AnEtcdWithoutSpaceIsExhaustedAndSaysWhatToDo) {
  etcd_.Say(grpc::StatusCode::RESOURCE_EXHAUSTED,
            "etcdserver: mvcc: database space exceeded");
  const auto full = client_->Txn(change_, Soon());
  EXPECT_EQ(full.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(StatusMessage(full.status()).find("--quota-backend-bytes"),
            std::string::npos);
}

TEST_F(ScriptedEtcdTest, TheWordAbortedIsOnlyForARaceThatWasLost) {
  etcd_.Say(grpc::StatusCode::ABORTED, "of a proxy");
  EXPECT_EQ(client_->Txn(change_, Soon()).status().code(),
            absl::StatusCode::kUnavailable);
}

// Expect: answers that no etcd gives are errors, or nothing; never a crash.
TEST_F(ScriptedEtcdTest, AnswersThatLieAreNotBelieved) {
  pb::KeyValue* const torn = etcd_.range.add_kvs();
  torn->set_key("/agentmem/test/refs/head");
  torn->set_value("short");
  EXPECT_EQ(refs_->Get("head").status().code(), absl::StatusCode::kDataLoss);
  // Of a prefix that was not asked for.
  torn->set_key("x");
  EXPECT_FALSE(refs_->List("").ok());
  EXPECT_FALSE(refs_->Get("head").ok());
  etcd_.range.clear_kvs();
  etcd_.range.set_more(true);  // and there is nothing
  EXPECT_TRUE(refs_->List("")->empty());
}

}  // namespace
}  // namespace agentmem
