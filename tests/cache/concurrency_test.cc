// Several processes and threads at one store.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "cache/store_fixture.h"
#include "kvr/cache/store.h"

namespace kvr::cache {
namespace {

TEST_F(StoreTest, TwoProcessesPutAtOnce) {
  std::vector<pid_t> children;
  for (Token worker = 0; worker < 2; ++worker) {
    const pid_t child = ::fork();
    if (child == 0) {
      int code = 1;
      try {
        Store store(dir(), key_);
        for (Token i = 0; i < 20; ++i) {
          Put(store, Range(1, 8 + i));                                  // the same
          Put(store, Range(1000 * worker + i, 1000 * worker + i + 6));  // their own
          const Tokens prompt = Range(1, 9 + i);
          if (RestoreAndCompare(store, PlanFor(store, prompt), prompt).tokens != 8U + i) {
            throw Corrupt("a restore came out short");
          }
        }
        code = HasFailure() ? 3 : 0;
      } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
        code = 2;
      }
      ::_exit(code);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  const auto [opened, rebuilt] = Open();
  Store& store = *opened;
  EXPECT_FALSE(rebuilt);
  EXPECT_EQ(store.List().size(), 60U);
  EXPECT_EQ(ProblemsOf(store), "");
}

TEST_F(StoreTest, AWriterThatNeverEndsIsReported) {
  Store patient(dir(), key_, {.lock_timeout_ms = 20});
  bool tried = false;
  Store slow(dir(), key_, {.before_step = [&](std::string_view) {
               if (std::exchange(tried, true)) return;
               EXPECT_EQ(ErrorKindOf([&] { Put(patient, Range(1, 3)); }), Error::Kind::kResource);
             }});
  Put(slow, Range(1, 6));
  EXPECT_TRUE(tried);
  Store reader(dir(), key_, {.mode = Store::Mode::kReadOnly, .lock_timeout_ms = 20});
  tried = false;
  Store again(dir(), key_, {.before_step = [&](std::string_view) {
                if (std::exchange(tried, true)) return;
                EXPECT_EQ(ErrorKindOf([&] { (void)reader.Verify(false); }), Error::Kind::kResource);
              }});
  Put(again, Range(7, 9));
  EXPECT_TRUE(tried);
  EXPECT_TRUE(reader.Verify(false).problems.empty());
  Put(patient, Range(1, 3));
  EXPECT_EQ(ProblemsOf(slow), "");
}

TEST_F(StoreTest, ThreadsRestoreWhileOneStores) {
  Store store(dir(), key_);
  Put(store, Range(1, 40));
  const Tokens prompt = Range(1, 42);
  const Plan plan = PlanFor(store, prompt);
  std::vector<std::jthread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      for (int j = 0; j < 50; ++j) {
        EXPECT_EQ(RestoreAndCompare(store, plan, prompt, 2).tokens, 40U);
      }
    });
  }
  for (Token i = 0; i < 10; ++i) Put(store, Range(i, 30 + i));
  readers.clear();
  EXPECT_EQ(store.List()[0].row.hits, 100U);
}

}  // namespace
}  // namespace kvr::cache
