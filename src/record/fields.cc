#include "fields.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "kvr/base/error.h"
#include "kvr/record/cell.h"

namespace kvr::record {

Reader::Reader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object()) Fail(std::string("found ") + object.type_name() + ", expected object");
}

void Reader::Fail(const std::string& what) const { throw Corrupt(where_ + ": " + what); }

void Reader::Schema() const {
  std::int64_t schema = 0;
  (*this)("schema", schema);
  if (schema > kResultsSchema) {
    throw Incompatible(
        fmt::format("{}: schema {}, but this program reads up to {}; use the kvr that wrote it, or "
                    "a newer one",
                    where_, schema, kResultsSchema));
  }
  if (schema < 1) Fail("schema " + std::to_string(schema) + ", expected 1 or more");
}

void Reader::Read(const Json& json, const char* key, bool& value) const {
  Expect(json.is_boolean(), json, key, "a boolean");
  value = json.get<bool>();
}

void Reader::Read(const Json& json, const char* key, std::string& value) const {
  Expect(json.is_string(), json, key, "a string");
  value = json.get<std::string>();
}

void Reader::Read(const Json& json, const char* key, double& value) const {
  Expect(json.is_number(), json, key, "a number");
  value = json.get<double>();
}

void Reader::Read(const Json& json, const char* key, std::int64_t& value) const {
  // Above the limit it is no count of anything here, and sums over cells stay in 63 bits.
  constexpr std::int64_t kLimit = std::int64_t{1} << 40;
  value = json.is_number_integer() ? json.get<std::int64_t>() : -1;
  Expect(value >= 0 && value <= kLimit, json, key, "an integer from 0 to 2^40");
}

void Reader::Read(const Json& json, const char* key, std::uint64_t& value) const {
  const bool negative =
      !json.is_number_unsigned() && json.is_number_integer() && json.get<std::int64_t>() < 0;
  Expect(json.is_number_integer() && !negative, json, key, "an integer from 0 to 2^64 - 1");
  value = json.get<std::uint64_t>();
}

void Reader::Read(const Json& json, const char* key, Token& value) const {
  const std::int64_t wide = json.is_number_integer() ? json.get<std::int64_t>() : -1;
  Expect(wide >= 0 && wide <= std::numeric_limits<Token>::max(), json, key, "token ids");
  value = static_cast<Token>(wide);
}

void Reader::Read(const Json& json, const char* key, Json& value) const {
  Expect(json.is_object(), json, key, "an object");
  value = json;
}

void Reader::Read(const Json& json, const char* key, std::map<std::int64_t, double>& value) const {
  Expect(json.is_object(), json, key, "an object of numbers by counts");
  value.clear();
  for (const auto& [name, number] : json.items()) {
    const bool digits =
        name.size() <= 9 && name.find_first_not_of("0123456789") == std::string::npos;
    Expect(digits && name[0] != '0', name, key, "an object of numbers by counts");
    Read(number, key, value[std::stoll(name)]);
  }
}

void Reader::Read(const Json& json, const char* key,
                  std::map<std::string, std::int64_t>& value) const {
  Expect(json.is_object(), json, key, "an object of integers");
  value.clear();
  for (const auto& [name, number] : json.items()) Read(number, key, value[name]);
}

void Reader::CheckOneOf(const char* key, const std::string& value, const OneOf& rule) const {
  if (std::find(rule.words.begin(), rule.words.end(), value) != rule.words.end()) return;
  Fail(fmt::format("field \"{}\" is \"{}\", expected one of {}", key, value,
                   fmt::join(rule.words, ", ")));
}

void Reader::Expect(bool good, const Json& json, const char* key, const char* expected) const {
  if (good) return;
  Fail(std::string("field \"") + key + "\" is " + DumpLine(json).substr(0, 60) + ", expected " +
       expected);
}

}  // namespace kvr::record
