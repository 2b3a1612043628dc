// A TOML table, read field by field into configuration values.
//
// Ownership: borrows the table. Threads: thread-compatible. Errors:
// INVALID_ARGUMENT, by Finish: the first field that was wrong, or one that
// nobody asked for. Cost: at start only.
#ifndef AGENTMEM_MEMD_CONFIG_FIELDS_H_
#define AGENTMEM_MEMD_CONFIG_FIELDS_H_

#define TOML_EXCEPTIONS 0
// toml++ 3.3 asserts that a table's name begins as one must, and answers input
// that does not with an error right after (found by fuzzing). With NDEBUG and
// clang the assertion becomes an assumption: so neither of them.
#pragma push_macro("NDEBUG")
#undef NDEBUG
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

#include <cstdint>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/status.h"
#include "memd/config.h"

namespace agentmem {

// Reads fields of one table; the first error stays.
class Fields {
 public:
  Fields(const toml::table& table, std::string where)
      : table_(table), where_(std::move(where)) {}

  void String(const char* field, std::string* value) {
    const toml::node* node = Take(field);
    if (node == nullptr) return;
    if (const auto text = node->value_exact<std::string>();
        text.has_value() && !text->empty()) {
      *value = *text;
    } else {
      Wrong(field, *node, "a string that is not empty");
    }
  }

  void Integer(const char* field, std::uint64_t min, std::uint64_t max,
               std::uint64_t* value) {
    const toml::node* node = Take(field);
    if (node == nullptr) return;
    const auto number = node->value_exact<std::int64_t>();
    if (!number.has_value() || *number < 0 ||
        static_cast<std::uint64_t>(*number) < min ||
        static_cast<std::uint64_t>(*number) > max) {
      return Wrong(field, *node,
                   "an integer from " + std::to_string(min) + " to " +
                       std::to_string(max));
    }
    *value = static_cast<std::uint64_t>(*number);
  }

  void Bytes(const char* field, std::uint64_t min, std::uint64_t max,
             std::uint64_t* value) {
    const toml::node* node = Take(field);
    if (node == nullptr) return;
    absl::StatusOr<std::uint64_t> bytes = InvalidArgument("");
    if (const auto text = node->value_exact<std::string>()) {
      bytes = ParseBytes(*text);
    } else if (const auto number = node->value_exact<std::int64_t>();
               number.has_value() && *number >= 0) {
      bytes = static_cast<std::uint64_t>(*number);
    }
    if (!bytes.ok() || *bytes < min || *bytes > max) {
      return Wrong(field, *node,
                   "bytes from " + std::to_string(min) + " to " +
                       std::to_string(max) +
                       ", as an integer or as \"512MiB\"");
    }
    *value = *bytes;
  }

  void Bool(const char* field, bool* value) {
    const toml::node* node = Take(field);
    if (node == nullptr) return;
    if (const auto flag = node->value_exact<bool>()) {
      *value = *flag;
    } else {
      Wrong(field, *node, "true or false");
    }
  }

  void Strings(const char* field, const std::string& wanted,
               std::vector<std::string>* values) {
    const toml::node* node = Take(field);
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    if (array == nullptr) return Wrong(field, *node, wanted);
    for (const toml::node& element : *array) {
      const auto text = element.value_exact<std::string>();
      if (!text.has_value() || text->empty()) {
        return Wrong(field, element, wanted);
      }
      values->push_back(*text);
    }
  }

  // The table of that name; null: there is none.
  const toml::table* Table(const char* field) {
    const toml::node* node = Take(field);
    if (node == nullptr) return nullptr;
    if (node->as_table() == nullptr) {
      Wrong(field, *node, std::string("a table: [") + field + "]");
    }
    return node->as_table();
  }

  void Users(const char* field, std::vector<std::uint32_t>* users) {
    const toml::node* node = Take(field);
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    const char* wanted =
        "an array of numeric user ids, such as [1000] (left out: memd's own)";
    // (Nobody at all is a slip; that it means memd's own would surprise.)
    if (array == nullptr || array->empty()) return Wrong(field, *node, wanted);
    for (const toml::node& element : *array) {
      const auto number = element.value_exact<std::int64_t>();
      if (!number.has_value() || *number < 0 || *number > 0xfffffffeLL) {
        return Wrong(field, element, wanted);
      }
      users->push_back(static_cast<std::uint32_t>(*number));
    }
  }

  const toml::node* Take(const char* field) {
    known_.insert(field);
    return table_.get(field);
  }

  void Wrong(const std::string& field, const toml::node& node,
             const std::string& wanted) {
    if (!error_.ok()) return;
    std::ostringstream value;
    node.visit([&](const auto& concrete) { value << concrete; });
    error_ = InvalidArgument(
        where_ + ":" + std::to_string(node.source().begin.line) + ": field \"" +
        field + "\" is " + value.str() + "; it must be " + wanted);
  }

  absl::Status Finish() {
    for (const auto& [key, node] : table_) {
      const std::string field(key.str());
      if (known_.count(field) != 0 || !error_.ok()) continue;
      std::string known;
      for (const std::string& name : known_) {
        known += (known.empty() ? "" : ", ") + name;
      }
      error_ = InvalidArgument(
          where_ + ":" + std::to_string(node.source().begin.line) +
          ": unknown field \"" + field + "\"; known here: " + known);
    }
    return error_;
  }

 private:
  const toml::table& table_;
  const std::string where_;
  std::set<std::string> known_;
  absl::Status error_ = absl::OkStatus();
};

// [store], [cluster], [fabric] and [pool] of the whole file's `fields`; the
// places are in `config`.
absl::Status ParseClusterTables(Fields* fields, Config* config);

// To whole extents; what is lost so is a remark.
void RoundDown(const std::string& place, const std::string& field,
               std::uint64_t* bytes, std::vector<std::string>* remarks);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CONFIG_FIELDS_H_
