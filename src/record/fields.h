// Field lists. A record's fields stand in one list, a function template
//
//   template <typename Fields, typename T> void List(const Fields& field, T& record) {
//     field("name", record.name, "what it means");
//     field("arm", record.arm, "which", OneOf{kArms});
//   }
//
// which Reader, Writer and Document below go through, so that reading, checking, writing and the
// document's table know the same fields.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/base/types.h"

namespace kvr::record {

// What a field's value must be beyond its type.
struct NoRule {};
struct OneOf {
  std::span<const std::string_view> words;
};
// How a prompt is cut for prefill.
inline constexpr auto kSchedules = std::to_array<std::string_view>({"block", "free"});
struct NotNegative {};  // a time
// Runs from before have none, or null where so said: the member keeps what it has.
struct MayLack {
  bool or_null = false;
};

// Takes fields out of an object. Stricter than Json::get, which turns -1 into 2^64 - 1 and 1.5
// into 1. Throws kCorrupt naming place and field.
class Reader {
 public:
  Reader(const Json& object, std::string where);

  // An optional member may be null or absent.
  template <typename T, typename Rule = NoRule>
  void operator()(const char* key, std::optional<T>& value, const char* = "",
                  const Rule& rule = {}) const {
    const auto found = object_.find(key);
    value.reset();
    if (found == object_.end() || found->is_null()) return;
    Read(*found, key, value.emplace());
    Check(key, *value, rule);
  }
  template <typename T, typename Rule = NoRule>
  void operator()(const char* key, T& value, const char* = "", const Rule& rule = {}) const {
    const auto found = object_.find(key);
    if constexpr (std::is_same_v<Rule, MayLack>) {
      if (found == object_.end() || (rule.or_null && found->is_null())) return;
    }
    if (found == object_.end()) {
      Fail(std::string("field \"") + key + "\" is missing");
    }
    Read(*found, key, value);
    Check(key, value, rule);
  }
  // Fields in an object of their own, which may be null or absent: the members keep what they have.
  template <typename Inner>
  void Group(const char* key, Inner inner) const {
    const auto found = object_.find(key);
    if (found != object_.end() && !found->is_null()) inner(Reader(*found, where_ + ": " + key));
  }

  [[noreturn]] void Fail(const std::string& what) const;
  // The version: from 1 to ours. Throws kIncompatible for a newer one.
  void Schema() const;

 private:
  void Read(const Json& json, const char* key, bool& value) const;
  void Read(const Json& json, const char* key, std::string& value) const;
  void Read(const Json& json, const char* key, double& value) const;
  void Read(const Json& json, const char* key, std::int64_t& value) const;
  void Read(const Json& json, const char* key, std::uint64_t& value) const;
  void Read(const Json& json, const char* key, Token& value) const;
  void Read(const Json& json, const char* key, Json& value) const;
  void Read(const Json& json, const char* key, std::map<std::int64_t, double>& value) const;
  void Read(const Json& json, const char* key, std::map<std::string, std::int64_t>& value) const;
  template <typename T>
  void Read(const Json& json, const char* key, std::vector<T>& value) const {
    Expect(json.is_array(), json, key, "an array");
    value.clear();
    for (const Json& item : json) {
      if constexpr (std::is_class_v<T> && !std::is_same_v<T, std::string>) {
        const std::string at = where_ + ": " + key + "[" + std::to_string(value.size()) + "]";
        List(Reader(item, at), value.emplace_back());
      } else {
        Read(item, key, value.emplace_back());
      }
    }
  }
  template <typename T>
  requires std::is_class_v<T>
  void Read(const Json& json, const char* key, T& value) const {
    List(Reader(json, where_ + ": " + key), value);
  }

  template <typename T, typename Rule>
  void Check(const char* key, const T& value, const Rule& rule) const {
    if constexpr (std::is_same_v<Rule, OneOf>) CheckOneOf(key, value, rule);
    if constexpr (std::is_same_v<Rule, NotNegative>) {
      if (value < 0) Fail(std::string(key) + ": a time of " + std::to_string(value) + " ms");
    }
  }
  void CheckOneOf(const char* key, const std::string& value, const OneOf& rule) const;
  void Expect(bool good, const Json& json, const char* key, const char* expected) const;

  const Json& object_;
  std::string where_;
};

// Puts fields into an object.
class Writer {
 public:
  explicit Writer(Json& object) : object_(object) {}
  template <typename T, typename Rule = NoRule>
  void operator()(const char* key, const T& value, const char* = "", const Rule& = {}) const {
    object_[key] = JsonOf(value);
  }
  template <typename Inner>
  void Group(const char* key, Inner inner) const {
    object_[key] = Json::object();
    inner(Writer(object_[key]));
  }

 private:
  template <typename T>
  static Json JsonOf(const std::optional<T>& value) {
    return value ? JsonOf(*value) : Json(nullptr);
  }
  static Json JsonOf(const std::map<std::int64_t, double>& value) {
    Json object = Json::object();
    for (const auto& [count, number] : value) object[std::to_string(count)] = number;
    return object;
  }
  template <typename T>
  static Json JsonOf(const std::vector<T>& value) {
    Json array = Json::array();
    for (const T& item : value) array.push_back(JsonOf(item));
    return array;
  }
  template <typename T>
  static Json JsonOf(const T& value) {
    if constexpr (std::is_constructible_v<Json, const T&>) {
      return value;
    } else {
      Json object = Json::object();
      List(Writer(object), value);
      return object;
    }
  }

  Json& object_;
};

// Rows of a document's table: "| `name` | type | meaning |".
class Document {
 public:
  explicit Document(std::string* rows, std::string prefix = "")
      : rows_(rows), prefix_(std::move(prefix)) {}
  template <typename T, typename Rule = NoRule>
  void operator()(const char* key, const T& value, const char* meaning, const Rule& = {}) const {
    *rows_ += "| `" + prefix_ + key + "` | " + TypeOf(value) + " | " + meaning + " |\n";
  }
  template <typename Inner>
  void Group(const char* key, Inner inner) const {
    inner(Document(rows_, prefix_ + key + "."));
  }

 private:
  template <typename T>
  static std::string TypeOf(const std::optional<T>&) {
    return TypeOf(T()) + " or null";
  }
  template <typename T>
  static std::string TypeOf(const std::vector<T>&) {
    return "array";
  }
  static std::string TypeOf(bool) { return "boolean"; }
  static std::string TypeOf(double) { return "number"; }
  static std::string TypeOf(std::int64_t) { return "integer"; }
  static std::string TypeOf(std::uint64_t) { return "integer"; }
  static std::string TypeOf(const std::string&) { return "string"; }
  template <typename T>
  static std::string TypeOf(const T&) {
    return "object";
  }

  std::string* rows_;
  std::string prefix_;
};

template <typename T>
std::string DocumentOf(std::string rows = "") {
  const T record;
  List(Document(&rows), record);
  return rows;
}

}  // namespace kvr::record
