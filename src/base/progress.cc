#include "kvr/base/progress.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <iostream>

namespace kvr {

namespace {

constexpr const char* kErase = "\r\033[K";

std::string Bar(std::int64_t done, std::int64_t total) {
  constexpr std::int64_t kWidth = 28;
  const auto filled = static_cast<std::size_t>(kWidth * done / total);
  return '[' + std::string(filled, '#') + std::string(kWidth - filled, '.') + "] ";
}

}  // namespace

ProgressLine::ProgressLine(Elsewhere elsewhere)
    : ProgressLine(elsewhere, std::cerr, ::isatty(STDERR_FILENO) == 1) {}

ProgressLine::ProgressLine(Elsewhere elsewhere, std::ostream& out, bool terminal)
    : elsewhere_(elsewhere), out_(out), terminal_(terminal) {}

ProgressLine::~ProgressLine() {
  if (terminal_ && shown_) out_ << kErase << std::flush;
}

bool ProgressLine::Wanted() const {
  if (terminal_) return true;
  if (elsewhere_ == Elsewhere::kEveryTenSeconds) return !shown_ || last_.ElapsedMs() >= 10000;
  return elsewhere_ == Elsewhere::kAll;
}

void ProgressLine::Show(const std::string& line) {
  if (!Wanted()) return;
  last_ = Stopwatch();
  shown_ = true;
  out_ << (terminal_ ? kErase : "") << line << (terminal_ ? "" : "\n") << std::flush;
}

void ProgressLine::ShowCount(std::int64_t done, std::int64_t total, const std::string& things,
                             const std::string& what) {
  if (first_done_ == 0 && done > 0) {
    first_done_ = done;
    since_first_ = Stopwatch();
  }
  if (!Wanted()) return;
  std::string line = terminal_ && total > 0 ? Bar(done, total) : "";
  line += fmt::format("{}/{} {}, {:.0f} s", done, total, things, start_.ElapsedMs() / 1000);
  if (first_done_ > 0 && done > first_done_) {
    const double each = since_first_.ElapsedMs() / 1000 / static_cast<double>(done - first_done_);
    line += fmt::format(", {:.0f} s left", each * static_cast<double>(total - done));
  }
  Show(fmt::format("{} ({})", line, what));
}

void ProgressLine::Keep() {
  if (!terminal_ || !shown_) return;
  out_ << '\n';
  shown_ = false;
}

}  // namespace kvr
