// A registry is a constant list of entries that each have a `name`: the one list from which
// parsing, --help, config checks and the order in reports come.
//
// Thread safety: pure functions. Errors: none; what is not there is null. Cost: linear in the
// entries, of which there are a few.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvr {

// The entry of this name, or null.
template <typename Entry>
[[nodiscard]] const Entry* FindNamed(std::span<const Entry> registry, std::string_view name) {
  const auto found =
      std::ranges::find_if(registry, [&](const Entry& entry) { return name == entry.name; });
  return found == registry.end() ? nullptr : &*found;
}

template <typename Entry>
[[nodiscard]] std::vector<std::string> NamesOf(std::span<const Entry> registry) {
  std::vector<std::string> names;
  for (const Entry& entry : registry) names.emplace_back(entry.name);
  return names;
}

// "a, b or c": what is allowed, for messages.
template <typename Entry>
[[nodiscard]] std::string AnyOf(std::span<const Entry> registry) {
  std::string list;
  for (const Entry& entry : registry) {
    if (!list.empty()) list += &entry == &registry.back() ? " or " : ", ";
    list += entry.name;
  }
  return list;
}

}  // namespace kvr
