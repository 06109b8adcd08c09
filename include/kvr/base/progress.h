// ProgressLine: how far long work is, on standard error, so that standard output carries results
// only. On a terminal it is one line that each call replaces; elsewhere, such as in a log, lines.
//
// Thread safety: none. Errors: none; what cannot be written is lost. Cost: a write for each line.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

#include "kvr/base/clock.h"

namespace kvr {

class ProgressLine {
 public:
  // Which lines are printed where there is no terminal.
  enum class Elsewhere { kAll, kEveryTenSeconds, kNone };

  explicit ProgressLine(Elsewhere elsewhere);
  // For tests: the same on another stream.
  ProgressLine(Elsewhere elsewhere, std::ostream& out, bool terminal);
  // Takes the line off the terminal.
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void Show(const std::string& line);

  // "3/10 cells, 20 s, 47 s left (what)" for `things` "cells", behind a bar on a terminal. The time
  // left is by the rate since the first of these calls with something done: what comes once, such
  // as loading a model, is not counted.
  void ShowCount(std::int64_t done, std::int64_t total, const std::string& things,
                 const std::string& what);

  // Leaves the line on the terminal, ended: for an error that is about it.
  void Keep();

 private:
  [[nodiscard]] bool Wanted() const;

  const Elsewhere elsewhere_;
  std::ostream& out_;
  const bool terminal_;
  bool shown_ = false;
  std::int64_t first_done_ = 0;  // at the first call with something done; 0 before it
  Stopwatch start_, last_, since_first_;
};

}  // namespace kvr
