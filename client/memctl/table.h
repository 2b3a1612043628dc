// Text in aligned columns, two spaces between them.
//
//   NAME   USED
//   a     1 KiB
//
// Cells are made printable first; widths count characters, not bytes.
//
// Ownership: owns its cells. Threads: thread-compatible. Errors: a row of the
// wrong width is a check. Cost: allocates.
#ifndef AGENTMEM_CLIENT_MEMCTL_TABLE_H_
#define AGENTMEM_CLIENT_MEMCTL_TABLE_H_

#include <string>
#include <vector>

namespace agentmem::memctl {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns);

  void AddRow(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  // Lines end with '\n' and have no blanks at their end.
  std::string Render() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_TABLE_H_
