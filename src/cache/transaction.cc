#include "transaction.h"

#include <spdlog/spdlog.h>

#include <system_error>

namespace kvr::cache {

namespace fs = std::filesystem;

Transaction::Transaction(Index* index) : index_(index) { index_->Begin(); }

Transaction::~Transaction() {
  if (index_ == nullptr) return;
  index_->Rollback();
  // The entry, which came last, first. What cannot be removed is sound, and of no entry: harmless.
  for (auto path = new_files_.rbegin(); path != new_files_.rend(); ++path) {
    std::error_code error;
    if (!fs::remove(*path, error)) {
      spdlog::warn("cannot remove {}: {}", path->string(), error.message());
    }
  }
}

void Transaction::Commit() {
  index_->Commit();
  index_ = nullptr;
}

}  // namespace kvr::cache
