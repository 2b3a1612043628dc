#include "memd/config.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "base/status.h"
#include "memd/config_fields.h"
#include "memd/dram/index_writer.h"
#include "proto/handshake.h"
#include "proto/size_class.h"
#include "proto/types.h"

namespace agentmem {
namespace {

constexpr std::uint64_t kDefaultDramMax = 1ULL << 30;
// sockaddr_un takes 107; the administration's socket is made under a name that
// is 12 longer and then moved.
constexpr std::size_t kSocketPathBytesMax = 95;

absl::Status CheckPaths(const Config& config) {
  const ConfigPlaces& at = config.places;
  const std::pair<const char*, const std::string*> fields[] = {
      {"state_directory", &config.state_directory},
      {"socket", &config.socket_path},
      {"admin_socket", &config.admin_socket_path}};
  for (const auto& [field, path] : fields) {
    if (path->empty() || path->front() != '/') {
      return InvalidArgument(at.Of(field) + ": field \"" + field + "\" is \"" +
                             *path +
                             "\"; it must be an absolute path (a default needs "
                             "$HOME)");
    }
    if (path != &config.state_directory && path->size() > kSocketPathBytesMax) {
      return InvalidArgument(
          at.Of(field) + ": field \"" + field + "\" is " + *path + " with " +
          std::to_string(path->size()) + " bytes; at most " +
          std::to_string(kSocketPathBytesMax) + " are allowed");
    }
  }
  if (config.socket_path == config.admin_socket_path) {
    return InvalidArgument(at.Of("socket") +
                           ": fields \"socket\" and \"admin_socket\" are "
                           "both " +
                           config.socket_path + "; they must differ");
  }
  return absl::OkStatus();
}

// More slots than the smallest of them fill the pool are memory for nothing.
absl::Status CheckSlots(const std::string& place, const TenantConfig& tenant) {
  const std::uint64_t slots_max = tenant.dram_bytes / SizeClassBytes(0);
  if (tenant.slots <= slots_max) return absl::OkStatus();
  return InvalidArgument(place + ": field \"slots\" of tenant " + tenant.name +
                         " is " + std::to_string(tenant.slots) +
                         "; its dram has room for 64 to " +
                         std::to_string(slots_max));
}

// An index beyond the machine's memory is a slip of the keys.
absl::Status CheckIndex(const std::string& place, const TenantConfig& tenant,
                        std::uint64_t memory_bytes) {
  const std::uint64_t bytes = IndexWriter::BytesFor(
      IndexWriter::ShapeFor(tenant.slots, tenant.index_entries));
  if (memory_bytes == 0 || bytes <= memory_bytes) return absl::OkStatus();
  return InvalidArgument(
      place + ": field \"index_entries\" of tenant " + tenant.name + " is " +
      std::to_string(tenant.index_entries) + "; with " +
      std::to_string(tenant.slots) + " slots that is an index of " +
      std::to_string(bytes >> 20) + " MiB, and this machine has " +
      std::to_string(memory_bytes >> 20) +
      " MiB: lower it, or leave it out for twice the slots");
}

absl::Status CheckQuota(const std::string& place, const TenantConfig& tenant,
                        const std::string& field, std::uint64_t bytes) {
  if (bytes <= tenant.dram_bytes) return absl::OkStatus();
  return InvalidArgument(place + ": field \"" + field + "\" of tenant " +
                         tenant.name + " is " + std::to_string(bytes) +
                         " bytes; at most its dram, " +
                         std::to_string(tenant.dram_bytes) + ", can be kept");
}

bool IsTenantName(const std::string& name) {
  return !name.empty() && name.size() < kTenantNameBytes &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

// Fills what follows from something else, and checks what must fit together.
absl::Status Complete(std::uint64_t memory_bytes, Config* config) {
  const ConfigPlaces& at = config->places;
  if (config->admin_socket_path.empty()) {
    config->admin_socket_path =
        (std::filesystem::path(config->socket_path).parent_path() /
         "admin.sock")
            .string();
  }
  AGENTMEM_RETURN_IF_ERROR(CheckPaths(*config));
  std::set<std::string> names;
  for (std::size_t i = 0; i < config->tenants.size(); ++i) {
    TenantConfig& tenant = config->tenants[i];
    const std::string table = "tenant." + std::to_string(i) + ".";
    if (!names.insert(tenant.name).second) {
      return InvalidArgument(at.Of(table + "name") +
                             ": two tenants are named \"" + tenant.name +
                             "\"; names must differ");
    }
    RoundDown(at.Of(at.lines.count(table + "dram") ? table + "dram" : "dram"),
              "dram", &tenant.dram_bytes, &config->remarks);
    if (tenant.slots == 0) {
      tenant.slots =
          std::clamp<std::uint64_t>(tenant.dram_bytes / 8192, 4096, 1ULL << 20);
    }
    AGENTMEM_RETURN_IF_ERROR(CheckSlots(at.Of(table + "slots"), tenant));
    if (tenant.index_entries == 0) {
      tenant.index_entries = std::max<std::uint64_t>(2 * tenant.slots, 1 << 16);
    }
    AGENTMEM_RETURN_IF_ERROR(
        CheckIndex(at.Of(table + "index_entries"), tenant, memory_bytes));
    if (tenant.hold_quota_bytes == 0) {
      tenant.hold_quota_bytes = tenant.dram_bytes / 4;
    }
    if (tenant.grant_quota_bytes == 0) {
      tenant.grant_quota_bytes =
          std::max<std::uint64_t>(tenant.dram_bytes / 16, kMaxBlockBytes);
    }
    AGENTMEM_RETURN_IF_ERROR(CheckQuota(at.Of(table + "hold_quota"), tenant,
                                        "hold_quota", tenant.hold_quota_bytes));
    AGENTMEM_RETURN_IF_ERROR(CheckQuota(at.Of(table + "grant_quota"), tenant,
                                        "grant_quota",
                                        tenant.grant_quota_bytes));
  }
  return absl::OkStatus();
}

void NotePlaces(const toml::table& table, const std::string& prefix,
                std::map<std::string, std::uint32_t>* lines) {
  for (const auto& [key, node] : table) {
    const std::string path = prefix + std::string(key.str());
    (*lines)[path] = node.source().begin.line;
    if (const toml::table* const inner = node.as_table()) {
      NotePlaces(*inner, path + ".", lines);
    }
    const toml::array* const array = node.as_array();
    if (array == nullptr || !array->is_array_of_tables()) continue;
    std::size_t index = 0;
    for (const toml::node& element : *array) {
      const std::string one = path + "." + std::to_string(index++);
      (*lines)[one] = element.source().begin.line;
      NotePlaces(*element.as_table(), one + ".", lines);
    }
  }
}

// toml++ 3.3 asserts on some control characters instead of refusing them (found
// by fuzzing). TOML forbids all of them but tab and the ends of lines.
absl::Status CheckCharacters(const std::string& text, const std::string& name) {
  std::size_t line = 1;
  for (const char c : text) {
    if (c == '\n') ++line;
    if (c == '\n' || c == '\r' || c == '\t') continue;
    if (std::iscntrl(static_cast<unsigned char>(c))) {
      return InvalidArgument(name + ":" + std::to_string(line) +
                             ": control character " +
                             std::to_string(static_cast<unsigned char>(c)) +
                             "; is it a text file?");
    }
  }
  return absl::OkStatus();
}

absl::Status ParseTenant(const toml::table& table, const std::string& name,
                         TenantConfig* tenant) {
  Fields fields(table, name);
  fields.String("name", &tenant->name);
  if (!IsTenantName(tenant->name)) {
    fields.Wrong("name", *table.get("name"),
                 "1 to " + std::to_string(kTenantNameBytes - 1) +
                     " letters, digits, dots, dashes, underscores");
  }
  fields.Users("users", &tenant->users);
  fields.Bytes("dram", kDramBytesMin, kDramBytesMax, &tenant->dram_bytes);
  fields.Integer("slots", 64, 1ULL << 30, &tenant->slots);
  fields.Integer("index_entries", 64, 1ULL << 36, &tenant->index_entries);
  fields.Bytes("store_quota", 0, 1ULL << 60, &tenant->store_quota_bytes);
  fields.Bytes("region_quota", 0, 1ULL << 40, &tenant->region_quota_bytes);
  fields.Bytes("hold_quota", kMaxBlockBytes, kDramBytesMax,
               &tenant->hold_quota_bytes);
  fields.Bytes("grant_quota", kMaxBlockBytes, kDramBytesMax,
               &tenant->grant_quota_bytes);
  fields.Bytes("hbm_quota", 0, 1ULL << 60, &tenant->hbm_quota_bytes);
  return fields.Finish();
}

absl::Status ParseHbm(const toml::table& table, const std::string& name,
                      HbmConfig* hbm) {
  Fields fields(table, name);
  fields.Bytes("device_bytes", 0, 1ULL << 60, &hbm->device_bytes);
  fields.Integer("leave_ms", 1, 3'600'000, &hbm->leave_ms);
  fields.Integer("reload_ms", 1, 3'600'000, &hbm->reload_ms);
  return fields.Finish();
}

}  // namespace

void RoundDown(const std::string& place, const std::string& field,
               std::uint64_t* bytes, std::vector<std::string>* remarks) {
  const std::uint64_t over = *bytes % kExtentBytes;
  if (over == 0) return;
  *bytes -= over;
  remarks->push_back(place + ": field \"" + field + "\" is " +
                     std::to_string(*bytes + over) +
                     " bytes; memory is taken in whole 4 MiB, so it is " +
                     std::to_string(*bytes));
}

absl::StatusOr<std::uint64_t> ParseBytes(const std::string& text) {
  std::size_t digits = 0;
  std::uint64_t number = 0;
  while (digits < text.size() &&
         std::isdigit(static_cast<unsigned char>(text[digits]))) {
    if (number > (UINT64_MAX - 9) / 10) return InvalidArgument("too large");
    number = number * 10 + static_cast<std::uint64_t>(text[digits] - '0');
    ++digits;
  }
  std::size_t unit_at = digits;
  while (unit_at < text.size() && text[unit_at] == ' ') ++unit_at;
  const std::string unit = text.substr(unit_at);
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  for (int i = 0; i < 5; ++i) {
    if (unit != units[i] || digits == 0) continue;
    if (number > (UINT64_MAX >> (10 * i))) return InvalidArgument("too large");
    return number << (10 * i);
  }
  return InvalidArgument("\"" + text +
                         "\" is not a size; write a number and one of B, KiB, "
                         "MiB, GiB, TiB");
}

Config DefaultConfig(const Surroundings& surroundings) {
  Config config;
  if (!surroundings.state_directory.empty()) {
    config.state_directory = surroundings.state_directory;
  } else if (surroundings.uid == 0) {
    config.state_directory = "/var/lib/agentmem";
  } else if (!surroundings.xdg_state_home.empty()) {
    config.state_directory = surroundings.xdg_state_home + "/agentmem";
  } else if (!surroundings.home.empty()) {
    config.state_directory = surroundings.home + "/.local/state/agentmem";
  }  // else it must be configured: CheckPaths
  const std::string runtime =
      surroundings.uid == 0 ? "/run"
      : !surroundings.xdg_runtime_dir.empty()
          ? surroundings.xdg_runtime_dir
          : "/run/user/" + std::to_string(surroundings.uid);
  config.socket_path = runtime + "/agentmem/memd.sock";
  config.cluster.node = surroundings.host_name;
  TenantConfig tenant;
  tenant.dram_bytes = std::clamp<std::uint64_t>(surroundings.memory_bytes / 4,
                                                kDramBytesMin, kDefaultDramMax);
  tenant.dram_bytes -= tenant.dram_bytes % kExtentBytes;
  config.tenants.push_back(tenant);
  (void)Complete(0, &config);  // defaults fit together: tested
  return config;
}

absl::StatusOr<Config> ParseConfig(const std::string& text,
                                   const std::string& name,
                                   const Surroundings& surroundings) {
  AGENTMEM_RETURN_IF_ERROR(CheckCharacters(text, name));
  const toml::parse_result parsed = toml::parse(text, name);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return InvalidArgument(name + ":" +
                           std::to_string(error.source().begin.line) + ": " +
                           std::string(error.description()));
  }
  Config config = DefaultConfig(surroundings);
  const std::uint64_t default_dram = config.tenants[0].dram_bytes;
  config.tenants.clear();
  config.admin_socket_path.clear();
  const toml::table& table = parsed.table();
  config.places.file = name;
  NotePlaces(table, "", &config.places.lines);
  Fields fields(table, name);
  fields.String("state_directory", &config.state_directory);
  fields.String("socket", &config.socket_path);
  fields.String("admin_socket", &config.admin_socket_path);
  fields.Integer("clients_max", 1, 1 << 20, &config.clients_max);
  fields.Integer("spin_us", 0, 10'000, &config.spin_us);
  fields.Integer("collect_ms", 10, 86'400'000, &config.collect_ms);
  fields.Integer("stop_ms", 0, 3'600'000, &config.stop_ms);
  fields.Integer("store_read_threads", 1, 64, &config.store_read_threads);
  fields.Integer("store_write_threads", 1, 64, &config.store_write_threads);
  TenantConfig lone;
  lone.dram_bytes = default_dram;
  fields.Bytes("dram", kDramBytesMin, kDramBytesMax, &lone.dram_bytes);
  if (const toml::node* node = fields.Take("tenant")) {
    const toml::array* array = node->as_array();
    if (array == nullptr || !array->is_array_of_tables()) {
      fields.Wrong("tenant", *node, "tables: [[tenant]]");
    } else {
      for (const toml::node& element : *array) {
        TenantConfig tenant = lone;
        AGENTMEM_RETURN_IF_ERROR(
            ParseTenant(*element.as_table(), name, &tenant));
        config.tenants.push_back(tenant);
      }
    }
  }
  if (const toml::table* const hbm = fields.Table("hbm")) {
    AGENTMEM_RETURN_IF_ERROR(ParseHbm(*hbm, name, &config.hbm));
  }
  AGENTMEM_RETURN_IF_ERROR(ParseClusterTables(&fields, &config));
  AGENTMEM_RETURN_IF_ERROR(fields.Finish());
  if (config.tenants.empty()) config.tenants.push_back(lone);
  AGENTMEM_RETURN_IF_ERROR(Complete(surroundings.memory_bytes, &config));
  return config;
}

absl::StatusOr<Config> LoadConfig(const std::string& path,
                                  const Surroundings& surroundings) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return InvalidArgument("configuration " + path +
                           " is a directory; name a TOML file");
  }
  std::ifstream file(path);
  if (!file) return ErrnoStatus("configuration " + path);
  std::ostringstream text;
  text << file.rdbuf();
  if (file.bad()) return ErrnoStatus("reading configuration " + path);
  return ParseConfig(text.str(), path, surroundings);
}

}  // namespace agentmem
