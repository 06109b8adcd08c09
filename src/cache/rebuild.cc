#include "rebuild.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "kvr/base/error.h"
#include "transaction.h"

namespace kvr::cache {

namespace fs = std::filesystem;

bool IndexAgrees(Index* index, const Files& files, const FolderFiles& present) {
  const IndexPicture picture = index->Load();
  const std::uint32_t block = files.key().block_tokens;
  const auto same_name = [](const auto& a, const auto& b) { return a.first == b.first; };
  const auto sound = [&](const EntryRow& row) {
    return present.entries.contains(row.id) &&
           row.chain.size() == (row.tokens.size() + block - 1) / block;
  };
  return picture.entries.size() == present.entries.size() &&
         std::ranges::all_of(picture.entries, sound) &&
         std::ranges::equal(picture.blocks, present.blocks, same_name);
}

void RebuildIndex(Index* index, const Files& files, const FolderFiles& present, bool set_aside) {
  std::map<Digest, EntryRow> known;
  for (EntryRow& row : index->Load().entries) known.emplace(row.id, std::move(row));
  // A file that vanishes meanwhile (only a reader sees that) is as if it had never been.
  const auto try_file = [&](const fs::path& path, const auto& read) {
    try {
      read();
    } catch (const Error& e) {
      if (e.kind() == Error::Kind::kCorrupt && set_aside) {
        files.SetAside(path, e.what());
      } else if (e.kind() == Error::Kind::kCorrupt) {
        spdlog::warn("ignored: {}", e.what());
      } else if (e.kind() != Error::Kind::kNotFound) {
        throw;
      }
    }
  };
  Transaction transaction(index);
  index->Clear();
  for (const auto& [hash, path] : present.blocks) {
    try_file(path,
             [&, &hash = hash, &path = path] { index->PutBlock(files.ReadBlock(path, hash)); });
  }
  for (const auto& [id, path] : present.entries) {
    try_file(path, [&, &id = id, &path = path] {
      EntryRow row = files.CheckEntry(path, id);
      if (const auto before = known.find(id); before != known.end()) {
        row.hits = before->second.hits;
        row.last_access_us = before->second.last_access_us;
      }
      index->PutEntry(row);
    });
  }
  transaction.Commit();
}

}  // namespace kvr::cache
