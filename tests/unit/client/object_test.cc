#include <string>
#include <thread>
#include <vector>

#include "client/naming.h"
#include "gmock/gmock.h"
#include "proto/object_layout.h"
#include "tests/unit/client/client_test_base.h"

namespace agentmem {
namespace {

using testing::HasSubstr;

std::string Pattern(std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<char>(i * 131 + (i >> 12));
  }
  return bytes;
}

class ObjectTest : public ClientTest {
 protected:
  agentmem_code PutObject(const std::string& name, const std::string& bytes) {
    error_ = {};
    return agentmem_object_put(client_, name.c_str(), bytes.data(),
                               bytes.size(), AGENTMEM_STATE, AGENTMEM_DURABLE,
                               kLongNs, &error_);
  }
  agentmem_code Read(const std::string& name, std::uint64_t offset,
                     std::size_t capacity, std::string* bytes) {
    bytes->assign(capacity, '?');
    std::uint64_t length = 0;
    const agentmem_code code =
        agentmem_object_get(client_, name.c_str(), offset, bytes->data(),
                            capacity, kLongNs, &length, &error_);
    bytes->resize(length);
    return code;
  }
};

TEST_F(ObjectTest, ASmallObjectIsOneBlock) {
  StartAndConnect();
  ASSERT_EQ(PutObject("a", "small"), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(memd_->Count(Op::kPublish), 1);
  std::string bytes;
  ASSERT_EQ(Read("a", 0, 100, &bytes), AGENTMEM_OK);
  EXPECT_EQ(bytes, "small");
}

TEST_F(ObjectTest, ALargeObjectIsReadBackAcrossItsChunks) {
  StartAndConnect();
  const std::string all = Pattern((5 << 20) + 12345);
  ASSERT_EQ(PutObject("large", all), AGENTMEM_OK) << error_.message;
  EXPECT_EQ(memd_->Count(Op::kPublish), 7);  // six chunks and the root
  std::uint64_t length = 0;
  ASSERT_EQ(agentmem_object_size(client_, "large", kLongNs, &length, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(length, all.size());
  std::string bytes;
  ASSERT_EQ(Read("large", 0, all.size() + 10, &bytes), AGENTMEM_OK);
  EXPECT_TRUE(bytes == all);
  ASSERT_EQ(Read("large", (1 << 20) - 3, 7, &bytes), AGENTMEM_OK);
  EXPECT_EQ(bytes, all.substr((1 << 20) - 3, 7));
  ASSERT_EQ(Read("large", all.size() - 2, 100, &bytes), AGENTMEM_OK);
  EXPECT_EQ(bytes, all.substr(all.size() - 2));
  ASSERT_EQ(Read("large", all.size() + 1, 100, &bytes), AGENTMEM_OK);
  EXPECT_EQ(bytes, "");
  EXPECT_EQ(memd_->Pins(), 0);
}

TEST_F(ObjectTest, MoreChunksThanAreInFlightAtOnceArriveWhole) {
  StartAndConnect();
  const std::string all = Pattern(20 << 20);
  ASSERT_EQ(PutObject("larger", all), AGENTMEM_OK) << error_.message;
  std::string bytes;
  ASSERT_EQ(Read("larger", 0, all.size(), &bytes), AGENTMEM_OK);
  EXPECT_TRUE(bytes == all);
}

TEST_F(ObjectTest, AnEmptyObjectExists) {
  StartAndConnect();
  ASSERT_EQ(PutObject("empty", ""), AGENTMEM_OK) << error_.message;
  std::uint64_t length = 7;
  ASSERT_EQ(agentmem_object_size(client_, "empty", kLongNs, &length, &error_),
            AGENTMEM_OK);
  EXPECT_EQ(length, 0u);
}

TEST_F(ObjectTest, ANameIsTakenOnce) {
  StartAndConnect();
  ASSERT_EQ(PutObject("a", "first"), AGENTMEM_OK);
  EXPECT_EQ(PutObject("a", "second"), AGENTMEM_ALREADY_EXISTS);
  EXPECT_THAT(error_.message, HasSubstr("\"a\""));
  std::string bytes;
  ASSERT_EQ(Read("a", 0, 100, &bytes), AGENTMEM_OK);
  EXPECT_EQ(bytes, "first");
}

TEST_F(ObjectTest, OfTwoWritersAtOnceOneWins) {
  StartAndConnect();
  agentmem_code codes[2];
  std::thread writers[2];
  for (int i = 0; i < 2; ++i) {
    writers[i] = std::thread([this, i, &codes] {
      agentmem_error error;
      const std::string bytes(10, static_cast<char>('a' + i));
      codes[i] =
          agentmem_object_put(client_, "race", bytes.data(), 10, AGENTMEM_STATE,
                              AGENTMEM_VISIBLE, kLongNs, &error);
    });
  }
  for (auto& writer : writers) writer.join();
  const int winner = codes[0] == AGENTMEM_OK ? 0 : 1;
  EXPECT_EQ(codes[winner], AGENTMEM_OK);
  EXPECT_EQ(codes[1 - winner], AGENTMEM_ALREADY_EXISTS);
  std::string bytes;
  ASSERT_EQ(Read("race", 0, 100, &bytes), AGENTMEM_OK);
  EXPECT_EQ(bytes, std::string(10, static_cast<char>('a' + winner)));
}

TEST_F(ObjectTest, AnObjectThatIsNotThereIsNotFound) {
  StartAndConnect();
  std::string bytes;
  EXPECT_EQ(Read("nothing", 0, 10, &bytes), AGENTMEM_NOT_FOUND);
  EXPECT_THAT(error_.message, HasSubstr("\"nothing\""));
}

TEST_F(ObjectTest, AnotherVersionOfTheLayoutNamesBoth) {
  StartAndConnect();
  ObjectHeader header = {};
  header.magic = kObjectMagic;
  header.version = 8;
  client::Namer namer(memd_->tenant_key());
  memd_->AddResident(
      namer.ObjectRoot("future"),
      std::string(reinterpret_cast<const char*>(&header), sizeof(header)));
  std::string bytes;
  EXPECT_EQ(Read("future", 0, 10, &bytes), AGENTMEM_FAILED_PRECONDITION);
  EXPECT_THAT(error_.message, HasSubstr("version 8"));
  EXPECT_THAT(error_.message, HasSubstr("version 1"));
  EXPECT_EQ(memd_->Pins(), 0);
}

TEST_F(ObjectTest, ARootThatIsNoneIsDataLoss) {
  StartAndConnect();
  client::Namer namer(memd_->tenant_key());
  memd_->AddResident(namer.ObjectRoot("torn"), "too short");
  std::string bytes;
  EXPECT_EQ(Read("torn", 0, 10, &bytes), AGENTMEM_DATA_LOSS);
}

TEST_F(ObjectTest, NamesOutsideTheLimitsAreRefused) {
  StartAndConnect();
  EXPECT_EQ(PutObject("", "x"), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_EQ(PutObject(std::string(5000, 'n'), "x"), AGENTMEM_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("1 to 4096"));
}

}  // namespace
}  // namespace agentmem
