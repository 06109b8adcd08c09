#include "kvr/cache/index.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <unordered_map>

#include "kvr/base/error.h"
#include "kvr/base/file.h"

namespace kvr::cache {

namespace {

constexpr int kBusyTimeoutMs = 60'000;
constexpr int kApplicationId = 0x6b767231;  // "kvr1", shown by file(1)
constexpr int kSchemaVersion = 1;

constexpr char kSchema[] = R"(
CREATE TABLE cache(key BLOB NOT NULL);
CREATE TABLE blocks(hash BLOB PRIMARY KEY, parent BLOB NOT NULL, tokens INTEGER NOT NULL,
                    file_bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE entries(id BLOB PRIMARY KEY, text TEXT NOT NULL, tokens BLOB NOT NULL,
                     embedding BLOB NOT NULL, encoder TEXT NOT NULL,
                     pieces_embedded INTEGER NOT NULL, pieces_total INTEGER NOT NULL,
                     created_us INTEGER NOT NULL, file_bytes INTEGER NOT NULL,
                     hits INTEGER NOT NULL, last_access_us INTEGER NOT NULL);
CREATE INDEX entries_created ON entries(created_us);
CREATE TABLE chain(entry BLOB NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL,
                   PRIMARY KEY(entry, position)) WITHOUT ROWID;
CREATE INDEX chain_hash ON chain(hash);
)";

[[noreturn]] void ThrowSqlite(sqlite3* db, const std::string& what) {
  const int code = sqlite3_errcode(db) & 0xff;
  const std::string message = "cache index: " + what + ": " + sqlite3_errmsg(db);
  switch (code) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      throw Corrupt(message + "; it is rebuilt from the files when the cache is next opened");
    case SQLITE_FULL:
    case SQLITE_NOMEM:
    case SQLITE_BUSY:
      throw Resource(message);
    default:
      throw Error(Error::Kind::kIo, message);
  }
}

template <typename T>
std::vector<T> CopyOf(std::span<const std::byte> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

}  // namespace

// One prepared statement; parameters are bound in order by the constructor.
class Index::Statement {
 public:
  template <typename... Values>
  Statement(sqlite3* db, const char* sql, const Values&... values) : db_(db) {
    if (sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr) != SQLITE_OK) ThrowSqlite(db, sql);
    int at = 0;
    const bool bound = (... && (Bind(++at, values) == SQLITE_OK));
    if (!bound) {
      sqlite3_finalize(statement_);
      ThrowSqlite(db, sql);
    }
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  // Moves to the next row; false when there is none.
  bool Step() {
    const int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) ThrowSqlite(db_, sqlite3_sql(statement_));
    return false;
  }

  template <typename T>
  T Integer(int column) {
    return static_cast<T>(sqlite3_column_int64(statement_, column));
  }
  std::span<const std::byte> Blob(int column) {
    const void* data = sqlite3_column_blob(statement_, column);
    return {static_cast<const std::byte*>(data),
            static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
  }
  std::string Text(int column) {
    const auto bytes = Blob(column);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  Digest Hash(int column) {
    Digest digest;
    const auto bytes = Blob(column);
    if (bytes.size() != digest.size()) throw Corrupt("cache index: a hash is not 32 bytes long");
    std::memcpy(digest.data(), bytes.data(), bytes.size());
    return digest;
  }

 private:
  int Bind(int at, std::int64_t value) { return sqlite3_bind_int64(statement_, at, value); }
  int Bind(int at, std::uint64_t value) { return Bind(at, static_cast<std::int64_t>(value)); }
  int Bind(int at, std::uint32_t value) { return Bind(at, std::int64_t{value}); }
  int Bind(int at, const std::string& value) {
    return sqlite3_bind_text64(statement_, at, value.data(), value.size(), SQLITE_TRANSIENT,
                               SQLITE_UTF8);
  }
  int Bind(int at, std::span<const std::byte> value) {
    // An empty span may have a null pointer, which would bind NULL.
    return value.empty()
               ? sqlite3_bind_zeroblob(statement_, at, 0)
               : sqlite3_bind_blob64(statement_, at, value.data(), value.size(), SQLITE_TRANSIENT);
  }
  int Bind(int at, const Digest& value) { return Bind(at, std::as_bytes(std::span(value))); }

  sqlite3* db_;
  sqlite3_stmt* statement_ = nullptr;
};

void Index::Open(const std::string& path, int flags) {
  sqlite3* db = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &db, flags, nullptr);
  db_.reset(db);  // there even on failure, to tell why
  if (code != SQLITE_OK) {
    ThrowSqlite(db, "cannot open " + path);
  }
  sqlite3_busy_timeout(db_.get(), kBusyTimeoutMs);
}

Index::Index(const std::filesystem::path& path, const Digest& key_hash, Mode mode) {
  const bool writable = mode == Mode::kReadWrite;
  if (!writable && ::access(path.c_str(), F_OK) != 0) {
    throw IoError("cannot find the index " + path.string(), errno);
  }
  if (writable) {
    // SQLite would give it, and the journals that take its mode, what the umask leaves of 0644.
    UniqueFd made(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (made.get() < 0) throw IoError("cannot open " + path.string(), errno);
  }
  Open(path.string(), writable ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY);
  if (writable) {
    Execute("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON;");
    Begin();
    const bool fresh = !Statement(db_.get(), "SELECT 1 FROM sqlite_schema").Step();
    if (fresh) {
      Execute(kSchema);
      Execute(fmt::format("PRAGMA application_id={}; PRAGMA user_version={}", kApplicationId,
                          kSchemaVersion)
                  .c_str());
      Statement(db_.get(), "INSERT INTO cache VALUES(?)", key_hash).Step();
    }
    Commit();
  }
  Statement application(db_.get(), "PRAGMA application_id");
  Statement version(db_.get(), "PRAGMA user_version");
  if (!application.Step() || application.Integer<int>(0) != kApplicationId || !version.Step() ||
      version.Integer<int>(0) != kSchemaVersion) {
    throw Incompatible(
        fmt::format("{} is not a cache index of version {}", path.string(), kSchemaVersion));
  }
  Statement check(db_.get(), "PRAGMA quick_check(1)");
  if (!check.Step() || check.Text(0) != "ok") {
    throw Corrupt(path.string() + " is damaged: " + check.Text(0));
  }
  Statement key(db_.get(), "SELECT key FROM cache");
  if (!key.Step() || key.Hash(0) != key_hash) {
    throw Incompatible(path.string() + " belongs to another cache key");
  }
}

Index::Index(const Digest& key_hash) {
  Open(":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY);
  Execute(kSchema);
  Statement(db_.get(), "INSERT INTO cache VALUES(?)", key_hash).Step();
}

Index::~Index() = default;

// Also ends an open transaction.
void Index::Closer::operator()(sqlite3* db) const { sqlite3_close_v2(db); }

void Index::Execute(const char* sql) const {
  if (sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK)
    ThrowSqlite(db_.get(), sql);
}

void Index::Begin() { Execute("BEGIN IMMEDIATE"); }
void Index::Commit() { Execute("COMMIT"); }

void Index::Rollback() noexcept {
  // SQLite may have rolled back by itself after an I/O error.
  if (sqlite3_get_autocommit(db_.get()) != 0) return;
  if (sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr) != SQLITE_OK) {
    spdlog::warn("cache index: cannot roll back: {}", sqlite3_errmsg(db_.get()));
  }
}

void Index::Clear() { Execute("DELETE FROM chain; DELETE FROM entries; DELETE FROM blocks;"); }

void Index::PutBlock(const BlockRow& block) {
  Statement(db_.get(), "INSERT OR REPLACE INTO blocks VALUES(?,?,?,?)", block.hash, block.parent,
            block.tokens, block.file_bytes)
      .Step();
}

void Index::PutEntry(const EntryRow& entry) {
  DeleteEntry(entry.id);
  Statement(db_.get(), "INSERT INTO entries VALUES(?,?,?,?,?,?,?,?,?,?,?)", entry.id, entry.text,
            TokenBytes(entry.tokens), std::as_bytes(std::span(entry.embedding)), entry.encoder,
            entry.pieces_embedded, entry.pieces_total, entry.created_us, entry.file_bytes,
            entry.hits, entry.last_access_us)
      .Step();
  for (std::size_t i = 0; i < entry.chain.size(); ++i) {
    Statement(db_.get(), "INSERT INTO chain VALUES(?,?,?)", entry.id, std::uint64_t{i},
              entry.chain[i])
        .Step();
  }
}

void Index::DeleteBlock(const Digest& hash) {
  Statement(db_.get(), "DELETE FROM blocks WHERE hash=?", hash).Step();
}

void Index::DeleteEntry(const Digest& id) {
  Statement(db_.get(), "DELETE FROM chain WHERE entry=?", id).Step();
  Statement(db_.get(), "DELETE FROM entries WHERE id=?", id).Step();
}

void Index::AddHits(const Digest& id, std::uint64_t hits, std::int64_t last_access_us) {
  Statement(db_.get(),
            "UPDATE entries SET hits=hits+?, last_access_us=max(last_access_us,?) WHERE id=?", hits,
            last_access_us, id)
      .Step();
}

bool Index::HasEntry(const Digest& id) const {
  return Statement(db_.get(), "SELECT 1 FROM entries WHERE id=?", id).Step();
}

std::int64_t Index::NewestEntry() const {
  Statement row(db_.get(), "SELECT max(created_us) FROM entries");  // NULL, read as 0, when empty
  return row.Step() ? row.Integer<std::int64_t>(0) : 0;
}

IndexPicture Index::Load() {
  IndexPicture picture;
  Execute("BEGIN");  // one state for all three queries
  try {
    std::unordered_map<Digest, std::size_t, DigestHasher> by_id;
    Statement entry(db_.get(), "SELECT * FROM entries ORDER BY created_us, id");
    while (entry.Step()) {
      by_id[entry.Hash(0)] = picture.entries.size();
      picture.entries.push_back({.id = entry.Hash(0),
                                 .text = entry.Text(1),
                                 .tokens = CopyOf<Token>(entry.Blob(2)),
                                 .embedding = CopyOf<float>(entry.Blob(3)),
                                 .encoder = entry.Text(4),
                                 .pieces_embedded = entry.Integer<std::uint32_t>(5),
                                 .pieces_total = entry.Integer<std::uint32_t>(6),
                                 .created_us = entry.Integer<std::int64_t>(7),
                                 .file_bytes = entry.Integer<std::uint64_t>(8),
                                 .hits = entry.Integer<std::uint64_t>(9),
                                 .last_access_us = entry.Integer<std::int64_t>(10),
                                 .chain = {}});
      if (picture.entries.back().tokens.empty()) {
        throw Corrupt("cache index: an entry has no tokens");
      }
    }
    Statement link(db_.get(), "SELECT entry, hash FROM chain ORDER BY entry, position");
    while (link.Step()) {
      const auto found = by_id.find(link.Hash(0));
      if (found == by_id.end()) throw Corrupt("cache index: a chain belongs to no entry");
      picture.entries[found->second].chain.push_back(link.Hash(1));
    }
    Statement block(db_.get(), "SELECT * FROM blocks");
    while (block.Step()) {
      const BlockRow row = {block.Hash(0), block.Hash(1), block.Integer<std::uint32_t>(2),
                            block.Integer<std::uint64_t>(3)};
      picture.blocks.emplace(row.hash, row);
    }
    Commit();
  } catch (...) {
    Rollback();
    throw;
  }
  return picture;
}

}  // namespace kvr::cache
