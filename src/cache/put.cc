// How an entry is stored: blocks, entry, index, each durable before the next tells of it.
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "files.h"
#include "folder.h"
#include "kvr/base/error.h"
#include "kvr/cache/entry.h"
#include "kvr/cache/store.h"
#include "store_writer.h"
#include "transaction.h"

namespace kvr::cache {

namespace fs = std::filesystem;

namespace {

void CheckSource(const NewEntry& entry, const KvBufferView& source, std::uint32_t exact_tokens) {
  if (entry.tokens.empty()) throw InvalidInput("an entry needs at least one token");
  if (entry.tokens.size() > exact_tokens || exact_tokens > source.capacity_tokens) {
    throw InvalidInput(
        fmt::format("an entry of {} tokens from {} exact ones in a buffer for {}: "
                    "only exact keys and values are stored",
                    entry.tokens.size(), exact_tokens, source.capacity_tokens));
  }
}

// Nothing where the file is absent or, with a warning, not as it should be.
std::optional<BlockRow> SoundBlock(const Files& files, const fs::path& path, const ChainLink& link,
                                   std::vector<std::byte>* scratch) {
  try {
    const BlockRow row = files.CheckBlock(path, link.hash, scratch);
    if (row.parent == link.parent && row.tokens == link.count) return row;
  } catch (const Error& e) {
    if (e.kind() != Error::Kind::kNotFound) spdlog::warn("written anew: {}", e.what());
  }
  return std::nullopt;
}

}  // namespace

PutResult Store::Put(const NewEntry& entry, const KvBufferView& source,
                     std::uint32_t exact_tokens) {
  CheckSource(entry, source, exact_tokens);
  const std::vector<ChainLink> chain =
      Chain(files_->key_hash(), entry.tokens, files_->key().block_tokens);
  EntryRow row = {.id = EntryId(entry.text, entry.encoder, chain.back().hash),
                  .text = entry.text,
                  .tokens = entry.tokens,
                  .embedding = entry.embedding,
                  .encoder = entry.encoder,
                  .pieces_embedded = entry.pieces_embedded,
                  .pieces_total = entry.pieces_total};
  for (const ChainLink& link : chain) row.chain.push_back(link.hash);

  const Writer writer(this, options_.lock_timeout_ms);
  PutResult result = {.entry = row.id};
  Step("begin");
  Transaction transaction(index_.get());
  PutBlocks(chain, entry.tokens, source, &transaction, &result);
  PutEntry(&row, &transaction, &result);
  // Who made these folders may have been killed before it synced them.
  const fs::path& folder = files_->folder();
  for (const fs::path& made : {folder / "entries", folder / "blocks", folder, folder.parent_path(),
                               folder.parent_path().parent_path()}) {
    SyncOnce(made.empty() ? fs::path(".") : made);
  }
  Step("commit");
  transaction.Commit();
  return result;
}

void Store::PutBlocks(const std::vector<ChainLink>& chain, const Tokens& tokens,
                      const KvBufferView& source, Transaction* transaction, PutResult* result) {
  std::set<fs::path> changed, shared;  // folders
  std::vector<std::byte> scratch;
  for (const ChainLink& link : chain) {
    const fs::path path = files_->BlockPath(link.hash);
    if (const std::optional<BlockRow> block = SoundBlock(*files_, path, link, &scratch)) {
      shared.insert(path.parent_path());
      index_->PutBlock(*block);  // also where the row is wrong
      ++result->blocks_shared;
      continue;
    }
    Step("block");
    CreateFolders(path.parent_path());
    const std::uint64_t bytes = files_->format().Write(
        path, link, std::span(tokens).subspan(link.first, link.count), source);
    transaction->AddNewFile(path);
    changed.insert(path.parent_path());
    index_->PutBlock({link.hash, link.parent, link.count, bytes});
    ++result->blocks_written;
    result->bytes_written += bytes;
  }
  Step("sync blocks");
  for (const fs::path& folder : changed) Sync(folder);
  for (const fs::path& folder : shared) SyncOnce(folder);
}

void Store::PutEntry(EntryRow* row, Transaction* transaction, PutResult* result) {
  const fs::path path = files_->EntryPath(row->id);
  if (index_->HasEntry(row->id) && TypeOf(path) != 0) return;
  Step("entry");
  // Strictly increasing, so that "older" is well defined however the clock is set.
  row->created_us = std::max(NowUs(), index_->NewestEntry() + 1);
  row->file_bytes = WriteEntry(path, *row, files_->key_hash());
  transaction->AddNewFile(path);
  Step("sync entries");
  Sync(path.parent_path());
  index_->PutEntry(*row);
  result->created = true;
  result->bytes_written += row->file_bytes;
}

void Store::Sync(const fs::path& folder) {
  SyncFolder(folder);
  synced_.insert(folder);
}

void Store::SyncOnce(const fs::path& folder) {
  if (!synced_.contains(folder)) Sync(folder);
}

}  // namespace kvr::cache
