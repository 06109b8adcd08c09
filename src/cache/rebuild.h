// Private to the cache layer: the index against the files, and made from them.
#pragma once

#include "files.h"
#include "folder.h"

namespace kvr::cache {

// Whether the index names the entries and blocks whose files are there, and no others. Throws as
// Index::Load does. Cost: a read of the index; no file is opened.
[[nodiscard]] bool IndexAgrees(Index* index, const Files& files, const FolderFiles& present);

// Fills the index from the files, within one transaction; hits and access times stay. With
// `set_aside`, files that fail a check are moved to quarantine/, otherwise they are ignored with a
// warning. Throws kIo, kResource, and kCorrupt when the index can't be read.
void RebuildIndex(Index* index, const Files& files, const FolderFiles& present, bool set_aside);

}  // namespace kvr::cache
