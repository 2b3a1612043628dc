#include "client/memctl/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/status.h"
#include "client/memctl/socket_probe.h"
#include "tests/unit/memctl/fake_system.h"
#include "tests/unit/memctl/sample_fabric.h"
#include "tests/unit/memctl/sample_node.h"

namespace agentmem::memctl {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

const char kKeyText[] = "0000002a:00112233445566778899aabb";

class FakeAdmin final : public AdminClient {
 public:
  explicit FakeAdmin(absl::StatusOr<admin::v1::FabricSnapshot> fabric)
      : fabric_(std::move(fabric)) {}
  absl::StatusOr<admin::v1::NodeSnapshot> Snapshot() override {
    return SampleNode();
  }
  absl::StatusOr<admin::v1::ShowBlockResponse> ShowBlock(
      const std::string& tenant, const Key& key) override {
    if (key != kSampleKey || tenant == "code") return NotFound("no block");
    admin::v1::ShowBlockResponse response;
    SetKey(key, response.add_blocks()->mutable_key());
    return response;
  }
  absl::StatusOr<admin::v1::FabricSnapshot> Fabric() override {
    return fabric_;
  }

 private:
  const absl::StatusOr<admin::v1::FabricSnapshot> fabric_;
};

struct StoredBlock {
  std::string bytes;
  BlockClass block_class = BlockClass::kCache;
  Ack ack = Ack::kVisible;
};

class FakeBlocks final : public BlockClient {
 public:
  explicit FakeBlocks(std::map<Key, StoredBlock>* stored) : stored_(stored) {}
  absl::StatusOr<FoundBlock> Get(const Key& key) override {
    const auto found = stored_->find(key);
    if (found == stored_->end()) return NotFound("no tier has it");
    return FoundBlock{found->second.bytes, Tier::kDram};
  }
  absl::Status Put(const Key& key, const std::string& bytes,
                   BlockClass block_class, Ack ack) override {
    (*stored_)[key] = {bytes, block_class, ack};
    return absl::OkStatus();
  }

 private:
  std::map<Key, StoredBlock>* const stored_;
};

class ProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/memctlXXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  int Run(const std::vector<std::string>& arguments) {
    input_.clear();
    output_.str("");
    error_.str("");
    World world;
    world.input = &input_;
    world.output = &output_;
    world.error = &error_;
    world.system = &system_;
    world.connect_admin = [this](const std::string& path, DurationNs timeout)
        -> absl::StatusOr<std::unique_ptr<AdminClient>> {
      socket_path_ = path;
      timeout_ = timeout;
      if (!reachable_.ok()) return reachable_;
      return std::unique_ptr<AdminClient>(std::make_unique<FakeAdmin>(fabric_));
    };
    world.connect_blocks =
        [this](const std::string& path, const std::string& tenant,
               DurationNs) -> absl::StatusOr<std::unique_ptr<BlockClient>> {
      socket_path_ = path;
      tenant_ = tenant;
      if (!reachable_.ok()) return reachable_;
      return std::unique_ptr<BlockClient>(
          std::make_unique<FakeBlocks>(&stored_));
    };
    return static_cast<int>(RunMemctl(arguments, environment_, world));
  }
  std::string output() const { return output_.str(); }
  std::string error() const { return error_.str(); }

  Environment environment_{false, 1000, "", "/xdg", "", "/home/a"};
  FakeSystem system_;
  absl::Status reachable_;
  absl::StatusOr<admin::v1::FabricSnapshot> fabric_ = SampleFabric();
  std::map<Key, StoredBlock> stored_;
  std::istringstream input_;
  std::ostringstream output_;
  std::ostringstream error_;
  std::string directory_;
  std::string socket_path_;
  std::string tenant_;
  DurationNs timeout_ = 0;
};

TEST_F(ProgramTest, EveryCommandHasHelpWithAnExampleAndTheExitCodes) {
  const std::vector<std::vector<std::string>> kCommands = {{},
                                                           {"status"},
                                                           {"tiers"},
                                                           {"tenants"},
                                                           {"clients"},
                                                           {"fabric"},
                                                           {"block", "show"},
                                                           {"block", "put"},
                                                           {"block", "get"},
                                                           {"doctor"}};
  for (std::vector<std::string> arguments : kCommands) {
    arguments.push_back("--help");
    EXPECT_EQ(Run(arguments), 0);
    EXPECT_THAT(output(), HasSubstr("memctl"));
    EXPECT_THAT(output(), HasSubstr("Example"));
    EXPECT_THAT(output(), HasSubstr("3  no memd is reachable"));
    EXPECT_THAT(error(), IsEmpty());
  }
}

TEST_F(ProgramTest, AWrongCommandLineExitsWithTwoAndSaysWhy) {
  const std::vector<std::vector<std::string>> kWrong = {
      {},
      {"statuss"},
      {"status", "extra"},
      {"status", "-o", "xml"},
      {"status", "--timeout", "fast"},
      {"block"},
      {"block", "show"},
      {"block", "show", "12"},
      {"block", "put", kKeyText, "--class", "hot"},
      {"block", "put", kKeyText, "--ack", "soon"}};
  for (const std::vector<std::string>& arguments : kWrong) {
    EXPECT_EQ(Run(arguments), 2) << ::testing::PrintToString(arguments);
    EXPECT_THAT(error(), ::testing::Not(IsEmpty()));
    EXPECT_THAT(output(), IsEmpty());
  }
  Run({"block", "show", "12"});
  EXPECT_THAT(error(), HasSubstr("0000002a:00112233445566778899aabb"));
  Run({"foo"});
  EXPECT_THAT(error(), HasSubstr("\"foo\" is no command"));
  Run({"block", "shwo", kKeyText});
  EXPECT_THAT(error(), HasSubstr("\"shwo\" is no command"));
}

TEST_F(ProgramTest, AnUnreachableMemdExitsWithThree) {
  reachable_ = Unavailable("memd is not reachable: start it");
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"status"},
                                             {"clients"},
                                             {"block", "show", kKeyText},
                                             {"block", "get", kKeyText}}) {
    EXPECT_EQ(Run(arguments), 3);
    EXPECT_EQ(error(), "memctl: memd is not reachable: start it\n");
    EXPECT_THAT(output(), IsEmpty());
  }
}

TEST_F(ProgramTest, NobodyAtTheSocketIsUnreachableAndTellsHowToStart) {
  for (const Door door : {Door::kAdministration, Door::kClients}) {
    const absl::Status status = ProbeSocket(directory_ + "/a.sock", door);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(StatusMessage(status), HasSubstr(directory_));
    EXPECT_THAT(StatusMessage(status), HasSubstr("systemctl start memd"));
  }
}

TEST_F(ProgramTest, TheRealClientsFindNobodyWithoutWaiting) {
  const MonotonicClock clock;
  const TimeNs start = clock.Now();
  const std::string path = directory_ + "/memd.sock";
  EXPECT_EQ(ConnectAdmin(path, 3600 * kSecondNs, &clock).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(ConnectBlocks(path, "", 3600 * kSecondNs).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(ConnectAgents(path, "", 3600 * kSecondNs).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(ConnectRegions(path, "", 3600 * kSecondNs).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_LT(clock.Now() - start, 60 * kSecondNs);
}

TEST_F(ProgramTest, TheAdministrationsSocketLiesBesideTheClients) {
  EXPECT_EQ(AdminSocketPath("/run/agentmem/memd.sock"),
            "/run/agentmem/admin.sock");
  EXPECT_EQ(AdminSocketPath("memd.sock"), "admin.sock");
}

TEST_F(ProgramTest, GlobalOptionsMayStandBehindTheCommand) {
  EXPECT_EQ(
      Run({"status", "-o", "json", "-s", "/x/memd.sock", "--timeout", "250ms"}),
      0);
  EXPECT_EQ(socket_path_, "/x/memd.sock");
  EXPECT_EQ(timeout_, 250 * kMillisecondNs);
  const std::string behind = output();
  EXPECT_EQ(Run({"-o", "json", "-s", "/x/memd.sock", "status"}), 0);
  EXPECT_EQ(output(), behind);
  EXPECT_EQ(nlohmann::json::parse(behind)["pid"], 4242);
}

TEST_F(ProgramTest, TheSocketIsFoundByTheLibrarysRule) {
  Run({"status"});
  EXPECT_EQ(socket_path_, "/xdg/agentmem/memd.sock");
  environment_.xdg_runtime_dir = "";
  Run({"status"});
  EXPECT_EQ(socket_path_, "/run/user/1000/agentmem/memd.sock");
  environment_.root = true;
  Run({"status"});
  EXPECT_EQ(socket_path_, "/run/agentmem/memd.sock");
  environment_.agentmem_socket = "/a/b";
  Run({"status"});
  EXPECT_EQ(socket_path_, "/a/b");
}

TEST_F(ProgramTest, TheFabricIsShownAsTextAndAsJson) {
  EXPECT_EQ(Run({"fabric"}), 0);
  EXPECT_THAT(output(), HasSubstr("verbs;ofi_rxm"));
  EXPECT_EQ(Run({"fabric", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(output())["health"]["state"], "ok");
}

TEST_F(ProgramTest, StatusStandsWithoutWordOfTheFabric) {
  fabric_ = FailedPrecondition("memd does not know this request");
  EXPECT_EQ(Run({"status"}), 0);
  EXPECT_THAT(output(), HasSubstr("unknown: memd does not know this request"));
  EXPECT_EQ(Run({"fabric"}), 1);
  EXPECT_EQ(Run({"doctor"}), 0);
}

TEST_F(ProgramTest, ADegradedFabricIsNamedByStatusAndByDoctor) {
  fabric_->set_rdma(false);
  fabric_->set_rdma_asked(true);
  fabric_->set_provider("tcp;ofi_rxm");
  EXPECT_EQ(Run({"status"}), 0);
  EXPECT_THAT(output(), HasSubstr("degraded: RDMA was asked for"));
  EXPECT_EQ(Run({"doctor"}), 4);
  EXPECT_THAT(output(), HasSubstr("no_rdma"));
}

TEST_F(ProgramTest, AnUnknownTenantIsAnsweredWithTheKnownOnes) {
  EXPECT_EQ(Run({"tiers", "-t", "nobody"}), 1);
  EXPECT_THAT(error(), HasSubstr("\"nobody\"; it has chat, code"));
  EXPECT_EQ(Run({"tiers", "-t", "chat"}), 0);
}

TEST_F(ProgramTest, ABlockThatIsNotFoundExitsWithOne) {
  EXPECT_EQ(Run({"block", "show", "00000000:000000000000000000000000"}), 1);
  EXPECT_EQ(Run({"block", "show", kKeyText, "-t", "code"}), 1);
  EXPECT_EQ(Run({"block", "get", kKeyText}), 1);
  EXPECT_THAT(error(), HasSubstr("no tier has it"));
  EXPECT_EQ(Run({"block", "show", kKeyText}), 0);
  EXPECT_THAT(output(), HasSubstr(kKeyText));
}

TEST_F(ProgramTest, BytesPutFromStandardInputComeBackByteForByte) {
  const std::string bytes("a\0b\r\n\xff", 6);
  input_.str(bytes);
  EXPECT_EQ(Run({"block", "put", kKeyText, "--class", "state", "--ack",
                 "durable", "-t", "chat"}),
            0);
  EXPECT_EQ(tenant_, "chat");
  EXPECT_EQ(stored_[kSampleKey].bytes, bytes);
  EXPECT_EQ(stored_[kSampleKey].block_class, BlockClass::kState);
  EXPECT_EQ(stored_[kSampleKey].ack, Ack::kDurable);
  EXPECT_THAT(output(), HasSubstr("durable"));
  EXPECT_EQ(Run({"block", "get", kKeyText}), 0);
  EXPECT_EQ(output(), bytes);
}

TEST_F(ProgramTest, BytesGoFromAndToFiles) {
  const std::string from = directory_ + "/from";
  const std::string to = directory_ + "/to";
  std::ofstream(from) << "hello";
  EXPECT_EQ(Run({"block", "put", kKeyText, from, "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(output())["length"], 5);
  EXPECT_EQ(Run({"block", "get", kKeyText, to}), 0);
  EXPECT_THAT(output(), HasSubstr("dram"));
  std::ostringstream read;
  read << std::ifstream(to).rdbuf();
  EXPECT_EQ(read.str(), "hello");
}

TEST_F(ProgramTest, SizesThatNoBlockHasAreRefusedBeforeAnythingIsSent) {
  input_.str("");
  EXPECT_EQ(Run({"block", "put", kKeyText}), 1);
  EXPECT_THAT(error(), HasSubstr("standard input has no bytes"));
  input_.str(std::string(kMaxBlockBytes + 1, 'x'));
  EXPECT_EQ(Run({"block", "put", kKeyText}), 1);
  EXPECT_THAT(error(), HasSubstr("more than 4194304"));
  EXPECT_TRUE(stored_.empty());
  input_.str(std::string(kMaxBlockBytes, 'x'));
  EXPECT_EQ(Run({"block", "put", kKeyText}), 0);
}

TEST_F(ProgramTest, AFileThatCannotBeOpenedIsNamed) {
  EXPECT_EQ(Run({"block", "put", kKeyText, directory_ + "/none"}), 1);
  EXPECT_THAT(error(), HasSubstr(directory_ + "/none: No such file"));
  stored_[kSampleKey] = {"x", BlockClass::kCache, Ack::kVisible};
  EXPECT_EQ(Run({"block", "get", kKeyText, directory_ + "/none/x"}), 1);
  EXPECT_THAT(error(), HasSubstr("/none/x: No such file"));
}

TEST_F(ProgramTest, AFileThatFailsIsNoUnreachableMemd) {
  stored_[kSampleKey] = {"x", BlockClass::kCache, Ack::kVisible};
  EXPECT_EQ(Run({"block", "get", kKeyText, directory_}), 1);
  EXPECT_THAT(error(), HasSubstr(directory_ + ": Is a directory"));
  EXPECT_EQ(Run({"block", "put", kKeyText, directory_}), 1);
  EXPECT_THAT(error(), HasSubstr(directory_));
}

TEST_F(ProgramTest, AnErrorWithNamesOfOthersCannotDriveTheTerminal) {
  reachable_ = Unavailable("held by \"agent\x1b[2J\"");
  EXPECT_EQ(Run({"status"}), 3);
  EXPECT_EQ(error(), "memctl: held by \"agent?[2J\"\n");
}

TEST_F(ProgramTest, DoctorWorksWithoutMemdAndExitsWithFourOnAProblem) {
  reachable_ = Unavailable("nobody there");
  EXPECT_EQ(Run({"doctor"}), 0);
  EXPECT_THAT(output(), HasSubstr("nobody there"));
  EXPECT_THAT(output(), HasSubstr("/home/a/.local/state/agentmem"));
  system_.errors[Feature::kPidfd] = ENOSYS;
  EXPECT_EQ(Run({"doctor", "-o", "json"}), 4);
  EXPECT_EQ(nlohmann::json::parse(output())["problems"], 1);
}

TEST_F(ProgramTest, DoctorLooksWhereMemdKeepsItsState) {
  EXPECT_EQ(Run({"doctor"}), 0);
  EXPECT_THAT(output(), HasSubstr("/var/lib/agentmem: 500 GiB free"));
  EXPECT_THAT(output(), HasSubstr("serving, version 0.1.0"));
  EXPECT_EQ(Run({"doctor", "--state-directory", "/elsewhere"}), 0);
  EXPECT_THAT(output(), HasSubstr("/elsewhere: 500 GiB free"));
}

TEST_F(ProgramTest, AClosedStandardOutputIsAFailure) {
  output_.setstate(std::ios::badbit);
  World world;
  world.input = &input_;
  world.output = &output_;
  world.error = &error_;
  EXPECT_EQ(RunMemctl({"--help"}, environment_, world), ExitCode::kFailed);
}

}  // namespace
}  // namespace agentmem::memctl
