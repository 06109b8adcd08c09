// Private to the cache layer: changes to the index that take effect together, with the files that
// they tell of, or not at all.
#pragma once

#include <filesystem>
#include <vector>

#include "kvr/cache/index.h"

namespace kvr::cache {

class Transaction {
 public:
  // Throws as Index::Begin does.
  explicit Transaction(Index* index);
  // Unless committed, undoes the changes and removes the new files.
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  // To be removed if it comes to that.
  void AddNewFile(const std::filesystem::path& path) { new_files_.push_back(path); }
  // Throws as Index::Commit does; nothing has taken effect then.
  void Commit();

 private:
  Index* index_;  // null once committed
  std::vector<std::filesystem::path> new_files_;
};

}  // namespace kvr::cache
