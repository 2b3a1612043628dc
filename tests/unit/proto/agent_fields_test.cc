#include "proto/agent_fields.h"

#include <string>

#include "gtest/gtest.h"
#include "proto/agent_messages.h"

namespace agentmem {
namespace {

TEST(AgentFieldsTest, StructsComeBackInTheirOrder) {
  FieldWriter writer;
  writer.AddStruct(RangeEntry{1, 2});
  writer.AddStruct(RangeEntry{3, 4});
  FieldReader reader(writer.bytes());
  RangeEntry range;
  ASSERT_TRUE(reader.NextStruct(&range));
  EXPECT_EQ(range.offset, 1u);
  EXPECT_FALSE(reader.ok());
  ASSERT_TRUE(reader.NextStruct(&range));
  EXPECT_EQ(range.bytes, 4u);
  EXPECT_FALSE(reader.NextStruct(&range));
  EXPECT_TRUE(reader.ok());
}

TEST(AgentFieldsTest, AStructOfAnotherSizeIsNotReadAndNotPassedOver) {
  FieldWriter writer;
  writer.AddStruct(RangeEntry{1, 2});
  writer.Add("shorter");
  FieldReader reader(writer.bytes());
  RangeEntry range;
  ASSERT_TRUE(reader.NextStruct(&range));
  EXPECT_FALSE(reader.NextStruct(&range));
  EXPECT_FALSE(reader.ok()) << "a reader of a list would take it for whole";
  std::string_view field;
  EXPECT_TRUE(reader.Next(&field));
  EXPECT_EQ(field, "shorter");
}

TEST(AgentFieldsTest, AFieldThatIsCutShortIsNone) {
  FieldWriter writer;
  writer.AddStruct(RangeEntry{1, 2});
  FieldReader reader(
      std::string_view(writer.bytes()).substr(0, writer.bytes().size() - 1));
  RangeEntry range;
  EXPECT_FALSE(reader.NextStruct(&range));
  EXPECT_FALSE(reader.ok());
}

TEST(AgentNameTest, HasNoSpacesNorControlCharacters) {
  EXPECT_TRUE(IsAgentName("coder-7/\xc3\xa9"));
  EXPECT_TRUE(IsAgentName(std::string(kAgentNameBytes - 1, 'a')));
  EXPECT_FALSE(IsAgentName(std::string(kAgentNameBytes, 'a')));
  for (const char* name : {"", "a b", "a\n", "\x7f"}) {
    EXPECT_FALSE(IsAgentName(name)) << name;
  }
}

}  // namespace
}  // namespace agentmem
