#include "kvr/base/json.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "kvr/base/error.h"
#include "kvr/base/file.h"

namespace kvr {

namespace {

// Refuses what nobody writes on purpose: nesting so deep that taking it apart again would need more
// stack than there is, and a key twice in one object, of which only one would count.
class Strict {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    constexpr int kDeepest = 64;
    if (depth > kDeepest) {
      throw InvalidInput("nested more than " + std::to_string(kDeepest) + " deep");
    }
    if (event == Json::parse_event_t::object_start) {
      keys_.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys_.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys_.back().insert(key).second) {
        throw InvalidInput("the key \"" + Shortened(key, 40) + "\" is there twice");
      }
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
};

// The parser's message without the text that it last read: that may be a whole prompt.
std::string WithoutLastRead(const std::string& message) {
  return Shortened(message.substr(0, message.find("; last read")), 200);
}

}  // namespace

Json ParseJson(std::string_view text, const std::string& where) {
  try {
    return Json::parse(text, Strict(), /*allow_exceptions=*/true, /*ignore_comments=*/true);
  } catch (const Json::exception& error) {
    throw InvalidInput(where + ": not valid JSON: " + WithoutLastRead(error.what()));
  } catch (const Error& error) {
    throw InvalidInput(where + ": " + error.what());
  }
}

std::string Shortened(std::string_view text, std::size_t most) {
  std::string out;
  for (const char c : text) {
    if (out.size() >= most && (static_cast<unsigned char>(c) & 0xC0) != 0x80) return out + "...";
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
    out += control ? ' ' : c;
  }
  return out;
}

Json ReadJsonFile(const std::filesystem::path& path) {
  return ParseJson(ReadFile(path), path.string());
}

std::string DumpLine(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

namespace {

// Levenshtein's distance, one row at a time.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string NearMiss(std::string_view word, const std::vector<std::string>& allowed) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 2) + 1;
  for (const std::string& candidate : allowed) {
    const std::size_t distance = EditDistance(word, candidate);
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace kvr
