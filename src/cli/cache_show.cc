#include <spdlog/fmt/fmt.h>

#include <array>
#include <iostream>

#include "cache.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"

namespace kvr::cli {

namespace {

// Control characters, which a terminal would obey, as their codes; lines and tabs stay.
std::string Visible(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F are the two bytes C2 80 to C2 9F.
    const bool wide =
        c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (!wide && (c >= 0x20 || c == '\n' || c == '\t') && c != 0x7F) {
      out += text[i];
      continue;
    }
    const std::array bytes = {wide ? static_cast<std::uint8_t>(text[++i]) : c};
    out += "\\x" + Hex(bytes);
  }
  return out;
}

// One line, at most `width` characters of text.
std::string Excerpt(const std::string& text, std::size_t width) {
  std::string line;
  std::size_t count = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80 && ++count > width) {
      return Visible(line) + "...";
    }
    line += c == '\n' || c == '\t' || c == '\r' ? ' ' : c;
  }
  return Visible(line);
}

std::string Age(std::int64_t created_us) {
  const std::int64_t seconds = std::max<std::int64_t>(0, UnixSeconds() - created_us / 1000000);
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  if (seconds < 172800) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} d", seconds / 86400);
}

Json EntryJson(const cache::EntryInfo& entry, const cache::CacheFolder& folder) {
  const cache::EntryRow& row = entry.row;
  return {
      {"id", Hex(row.id)},
      {"cache_key", folder.path.filename().string()},
      {"codec", cache::ToString(folder.key.codec)},
      {"text", row.text},
      {"tokens", row.tokens.size()},
      {"bytes", entry.bytes},
      {"blocks", entry.blocks},
      {"shared_blocks", entry.shared_blocks},
      {"missing_blocks", entry.missing_blocks},
      {"created", UtcTimestamp(row.created_us / 1000000)},
      {"last_access",
       row.last_access_us == 0 ? Json(nullptr) : Json(UtcTimestamp(row.last_access_us / 1000000))},
      {"hits", row.hits},
      {"encoder", row.encoder.empty() ? Json(nullptr) : Json(row.encoder)},
      {"pieces_embedded", row.pieces_embedded},
      {"pieces_total", row.pieces_total}};
}

void PrintEntries(const cache::CacheFolder& folder, const std::vector<cache::EntryInfo>& entries) {
  const cache::CacheKey& key = folder.key;
  std::cout << fmt::format(
      "cache {}: model {}, codec {}, {}, {}, {} threads, blocks of {} tokens, {} {}\n",
      folder.path.filename().string().substr(0, 12), key.model_fingerprint.substr(0, 12),
      cache::ToString(key.codec), key.device, key.instruction_set, key.threads, key.block_tokens,
      entries.size(), entries.size() == 1 ? "entry" : "entries");
  if (entries.empty()) return;
  std::vector<std::vector<std::string>> rows = {
      {"id", "tokens", "bytes", "blocks", "shared", "age", "hits", "text"}};
  for (const cache::EntryInfo& entry : entries) {
    const cache::EntryRow& row = entry.row;
    rows.push_back({Hex(row.id).substr(0, 12), std::to_string(row.tokens.size()),
                    HumanBytes(entry.bytes), std::to_string(entry.blocks),
                    std::to_string(entry.shared_blocks), Age(row.created_us),
                    std::to_string(row.hits), Excerpt(row.text, 48)});
  }
  std::cout << AlignColumns(rows);
}

}  // namespace

void ListEntries(const CacheOptions& options) {
  Json all = Json::array();
  ForEachStore(options, cache::Store::Mode::kReadOnly,
               [&](const cache::CacheFolder& folder, cache::Store& store) {
                 const std::vector<cache::EntryInfo> entries = store.List();
                 if (!options.json) return PrintEntries(folder, entries);
                 for (const auto& entry : entries) all.push_back(EntryJson(entry, folder));
               });
  if (options.json) std::cout << all.dump(2) << "\n";
}

void ShowEntry(const CacheOptions& options) {
  ForMatching(
      options, cache::Store::Mode::kReadOnly,
      [&](const cache::CacheFolder& folder, cache::Store&, const cache::EntryInfo& entry) {
        Json json = EntryJson(entry, folder);
        json["token_ids"] = entry.row.tokens;
        json["chain"] = Json::array();
        for (const Digest& hash : entry.row.chain) json["chain"].push_back(Hex(hash));
        if (options.json) {
          std::cout << json.dump(2) << "\n";
          return;
        }
        std::vector<std::vector<std::string>> rows = {{"field", "value"}};
        for (const auto& [key, value] : json.items()) {
          if (key == "text" || key == "token_ids" || key == "chain") continue;
          rows.push_back({key, value.is_string() ? value.get<std::string>() : DumpLine(value)});
        }
        std::cout << AlignColumns(rows) << "\n" << Visible(entry.row.text) << "\n";
      });
}

}  // namespace kvr::cli
