#include "memd/pool/cipher_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/status.h"

namespace agentmem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kZeros(64, '0');
const std::string kOnes(64, '1');

class CipherKeysTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/keysXXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = directory_ + "/keys";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  absl::StatusOr<CipherKeys> Load(const std::string& text,
                                  unsigned mode = 0600) const {
    std::ofstream(path_) << text;
    EXPECT_EQ(::chmod(path_.c_str(), mode), 0);
    return LoadCipherKeys(path_);
  }
  std::string Refusal(const std::string& text) const {
    const absl::StatusOr<CipherKeys> keys = Load(text);
    EXPECT_EQ(keys.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(StatusMessage(keys.status()), HasSubstr(path_));
    return StatusMessage(keys.status());
  }

  std::string directory_;
  std::string path_;
};

TEST_F(CipherKeysTest, TheLastLineIsForNewBlocksAndAllAreKnown) {
  const absl::StatusOr<CipherKeys> keys =
      Load("# ours\n\n9 " + kOnes + "\n  7\t" + kZeros + "  # newest\r\n");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->size(), 2u);
  EXPECT_EQ(keys->newest(), KeyId(7));
  ASSERT_NE(keys->Find(KeyId(9)), nullptr);
  EXPECT_EQ((*keys->Find(KeyId(9)))[31], 0x11);
  EXPECT_EQ((*keys->Find(KeyId(7)))[0], 0);
  EXPECT_EQ(keys->Find(KeyId(8)), nullptr);
}

TEST_F(CipherKeysTest, AFileThatOthersMayTouchIsRefusedWithItsMode) {
  for (const unsigned mode : {0640u, 0604u, 0660u, 0700u, 04600u}) {
    const absl::StatusOr<CipherKeys> keys = Load("1 " + kOnes, mode);
    EXPECT_EQ(keys.status().code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(StatusMessage(keys.status()),
                AllOf(HasSubstr(path_), HasSubstr("chmod 0600")));
  }
  EXPECT_TRUE(Load("1 " + kOnes, 0400).ok());
}

TEST_F(CipherKeysTest, AWrongLineIsNamedAndItsSecretIsNot) {
  EXPECT_THAT(Refusal("1 " + kOnes + "\n2 " + kZeros.substr(1)),
              AllOf(HasSubstr("line 2"), HasSubstr("63 characters"),
                    Not(HasSubstr("0000000"))));
  EXPECT_THAT(Refusal("1 " + kOnes.substr(1) + "g"), HasSubstr("line 1"));
  EXPECT_THAT(Refusal("1 -" + kOnes.substr(1)), HasSubstr("line 1"));
  EXPECT_THAT(Refusal("1 " + kOnes + " 2"), HasSubstr("66 characters"));
  EXPECT_THAT(Refusal("0 " + kOnes), HasSubstr("key id 0"));
  EXPECT_THAT(Refusal("4294967296 " + kOnes), HasSubstr("4294967295"));
  EXPECT_THAT(Refusal("one " + kOnes), HasSubstr("KEY_ID 64_HEX_DIGITS"));
  EXPECT_THAT(Refusal("1"), HasSubstr("KEY_ID 64_HEX_DIGITS"));
  EXPECT_THAT(Refusal("3 " + kOnes + "\n3 " + kZeros),
              AllOf(HasSubstr("line 2"), HasSubstr("key id 3 is there twice")));
  EXPECT_THAT(Refusal(""), HasSubstr("no key"));
  EXPECT_THAT(Refusal(std::string(70'000, '#')), HasSubstr("more than"));
}

TEST_F(CipherKeysTest, AFileThatIsNotThereIsNamed) {
  const absl::StatusOr<CipherKeys> keys = LoadCipherKeys(path_);
  EXPECT_EQ(keys.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(StatusMessage(keys.status()), HasSubstr(path_));
  EXPECT_THAT(StatusMessage(LoadCipherKeys(directory_).status()),
              HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace agentmem
