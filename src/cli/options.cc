#include <poll.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "commands.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/interrupt.h"
#include "kvr/base/text_table.h"
#include "kvr/base/utf8.h"
#include "kvr/model/runtime.h"

namespace kvr::cli {

namespace {

CLI::Validator NotEmpty() {
  return {[](const std::string& path) {
            return path.empty() ? std::string("an empty path names nothing") : std::string();
          },
          "", "not empty"};
}

std::string CodecHelp() {
  std::string exact, lossy;
  const std::vector<std::string> names = cache::CodecNames();
  for (const std::string& name : names) {
    std::string& list = cache::IsExact(cache::CodecFromString(name)) ? exact : lossy;
    list += (list.empty() ? "" : name == names.back() ? " and " : ", ") + name;
  }
  return fmt::format("How the cache holds numbers: {} is exact, {} are smaller and drift", exact,
                     lossy);
}

}  // namespace

void ModelOptions::AddCacheTo(CLI::App* command) {
  command->add_option("-c,--cache", cache_dir, "Cache folder")
      ->capture_default_str()
      ->check(NotEmpty());
}

void ModelOptions::AddTo(CLI::App* command, bool with_cache) {
  command->add_option("-m,--model", model, "Language model archive")
      ->capture_default_str()
      ->check(NotEmpty());
  command
      ->add_option("--threads", threads, "Compute threads (0: the physical cores that it may use)")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  command->add_option("--device", device, "Where the language model runs: cpu, cuda or cuda:N")
      ->capture_default_str();
  if (!with_cache) return;
  command->add_option(
      "-e,--encoder", encoder,
      std::string("Sentence encoder archive (default: ") + kDefaultEncoder + " if it is there)");
  AddCacheTo(command);
  command->add_option("--block-tokens", block_tokens, "Unit of prefill and storage")
      ->capture_default_str()
      ->check(CLI::Range(4, 4096));
}

void ModelOptions::AddCodecTo(CLI::App* command) {
  command
      ->add_option_function<std::string>(
          "--codec", [this](const std::string& text) { codec = cache::CodecFromString(text); },
          CodecHelp())
      ->default_str(cache::ToString(codec))
      ->check(CLI::IsMember(cache::CodecNames()));
}

engine::Generator ModelOptions::Load(bool needs_encoder) const {
  if (block_tokens % kBlockMultiple != 0) {
    throw InvalidInput(fmt::format("--block-tokens: found {}, expected a multiple of {}",
                                   block_tokens, kBlockMultiple));
  }
  model::SetUpRuntime(threads);
  engine::Generator::Options options{
      .model = model,
      .encoder = encoder,
      .language_model = {.block_tokens = block_tokens, .device = device}};
  if (encoder.empty() && needs_encoder && std::filesystem::exists(kDefaultEncoder)) {
    options.encoder = kDefaultEncoder;
  }
  return engine::Generator(options);
}

std::string ReadStdin() {
  constexpr int kWaitMs = 200;  // between looks at whether the user wants to stop
  std::string text;
  std::array<char, 1 << 16> part;
  for (;;) {
    ThrowIfInterrupted();
    pollfd ready{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, kWaitMs) <= 0) continue;
    const ssize_t count = ::read(STDIN_FILENO, part.data(), part.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw IoError("cannot read standard input", errno);
    if (count == 0) return text;
    text.append(part.data(), static_cast<std::size_t>(count));
  }
}

std::string Sanitize(std::string_view text, const std::string& where) {
  Sanitized sanitized = SanitizeUtf8(text);
  if (sanitized.replaced > 0) {
    spdlog::warn("{}: {} byte sequences are not UTF-8 and were replaced by U+FFFD", where,
                 sanitized.replaced);
  }
  return std::move(sanitized.text);
}

std::vector<BatchLine> ReadBatch(const std::string& path) {
  std::istringstream lines(path == "-" ? ReadStdin() : ReadFile(path));
  std::vector<BatchLine> batch;
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = fmt::format("{}:{}", path, number);
    const Json json = ParseJson(Sanitize(line, where), where);
    if (!json.is_object() || !json.contains("text") || !json["text"].is_string()) {
      throw InvalidInput(fmt::format("{}: expected an object with a string \"text\", found {}",
                                     where, Shortened(DumpLine(json), 60)));
    }
    std::string id = std::to_string(number);
    if (json.contains("id"))
      id = json["id"].is_string() ? json["id"].get<std::string>() : DumpLine(json["id"]);
    batch.push_back({std::move(id), json["text"]});
  }
  return batch;
}

namespace {

bool IsNumber(const std::string& text) {
  if (text == "-" || text.empty()) return true;
  const char first = text[text[0] == '-' && text.size() > 1 ? 1 : 0];
  return std::isdigit(static_cast<unsigned char>(first)) != 0;
}

}  // namespace

std::string AlignColumns(const std::vector<std::vector<std::string>>& rows) {
  const std::vector<std::vector<std::string>> body(rows.begin() + 1, rows.end());
  std::vector<TextColumn> columns;
  for (std::size_t i = 0; i < rows.front().size(); ++i) {
    const auto is_number = [i](const auto& row) { return IsNumber(row[i]); };
    const bool right = !body.empty() && std::all_of(body.begin(), body.end(), is_number);
    columns.push_back({rows.front()[i], right});
  }
  return AlignText(columns, body);
}

std::string HumanBytes(std::uint64_t bytes) {
  constexpr std::array kUnits = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return Fixed(value, unit == 0 ? 0 : 1) + " " + kUnits[unit];
}

std::string Fixed(double value, int digits) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

}  // namespace kvr::cli
