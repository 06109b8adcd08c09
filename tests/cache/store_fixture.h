// What the tests of a store's files share: the index and the files as text, and children that die.
#pragma once

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <memory>
#include <sstream>
#include <string>

#include "cache/fixture.h"

namespace kvr::cache {

inline Tokens Range(Token first, Token last) {
  Tokens tokens;
  for (Token token = first; token <= last; ++token) tokens.push_back(token);
  return tokens;
}

class StoreTest : public CacheTest {
 protected:
  // Every row of the index, as text.
  std::string IndexDump() const {
    sqlite3* db = nullptr;
    EXPECT_EQ(sqlite3_open((StoreFolder() / "index.sqlite").c_str(), &db), SQLITE_OK);
    std::string dump;
    const auto row = [](void* out, int columns, char** values, char**) {
      for (int i = 0; i < columns; ++i) {
        *static_cast<std::string*>(out) += std::string(values[i] ? values[i] : "NULL") + "|";
      }
      *static_cast<std::string*>(out) += "\n";
      return 0;
    };
    EXPECT_EQ(sqlite3_exec(db,
                           "SELECT hex(key) FROM cache;"
                           "SELECT hex(hash),hex(parent),tokens,file_bytes FROM blocks ORDER BY 1;"
                           "SELECT hex(id),text,hex(tokens),hex(embedding),encoder,pieces_embedded,"
                           "pieces_total,created_us,file_bytes,hits,last_access_us FROM entries "
                           "ORDER BY 1;"
                           "SELECT hex(entry),position,hex(hash) FROM chain ORDER BY 1,2;",
                           row, &dump, nullptr),
              SQLITE_OK);
    sqlite3_close(db);
    return dump;
  }
  // Names and contents of all files but the index, lock and journal.
  std::map<std::string, std::string> Snapshot() const {
    std::map<std::string, std::string> files;
    for (const char* folder : {"blocks", "entries", "quarantine"}) {
      for (const fs::path& path : FilesIn(folder)) files[path] = Contents(path);
    }
    return files;
  }
  // The result of `action` in a child process, as its exit code: 0 to 99 is what it returned, 100
  // an Error of kind kIo or kResource, 101 anything else thrown.
  template <typename Action>
  static int InChild(Action&& action) {
    const pid_t child = ::fork();
    if (child == 0) {
      int code = 101;
      try {
        code = action();
      } catch (const Error& e) {
        if (e.kind() == Error::Kind::kIo || e.kind() == Error::Kind::kResource) code = 100;
      } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
      }
      ::_exit(code);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  // What List says of the entry.
  static EntryInfo InfoOf(const Store& store, const Digest& id) {
    for (EntryInfo& info : store.List()) {
      if (info.row.id == id) return std::move(info);
    }
    ADD_FAILURE() << "the cache has no entry " << Hex(id);
    return {};
  }
  struct Opened {
    std::unique_ptr<Store> store;
    bool rebuilt = false;  // its index had to be made from the files, as the log says
  };
  Opened Open(Store::Options options = {}) const {
    std::ostringstream log;
    const auto before = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "opening", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
    Opened opened{.store = std::make_unique<Store>(dir(), key_, std::move(options))};
    spdlog::set_default_logger(before);
    for (const char* words :
         {"rebuilding the index", "replacing the index", "instead of the index"}) {
      opened.rebuilt |= log.str().find(words) != std::string::npos;
    }
    return opened;
  }
};

}  // namespace kvr::cache
