#include "kvr/cache/safetensors.h"

#include <spdlog/fmt/fmt.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "kvr/base/error.h"
#include "kvr/base/file.h"

namespace kvr::cache {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kAlignment = 64;

// Refuses nesting beyond what a header has (object, tensor, shape) while parsing, so that 16 MB of
// brackets cannot grow into a tree fifty times that size.
bool RefuseDeepNesting(int depth, json::parse_event_t, json&) {
  if (depth > 3) throw Corrupt("nested too deeply");
  return true;
}

SafetensorsHeader FromJson(const std::string& text) {
  SafetensorsHeader header;
  const json object = json::parse(text, RefuseDeepNesting);
  for (const auto& [name, value] : object.items()) {
    if (name == "__metadata__") {
      value.get_to(header.metadata);
    } else {
      header.tensors[name] = {value.at("dtype"), value.at("shape")};
    }
  }
  return header;
}

}  // namespace

std::uint64_t Tensor::Bytes() const {
  std::uint64_t bytes = 0;
  if (dtype == "F32" || dtype == "I32") bytes = 4;
  if (dtype == "BF16" || dtype == "F16") bytes = 2;
  if (dtype == "I8") bytes = 1;
  if (bytes == 0) throw Corrupt("tensor type '" + dtype + "' is not known");
  for (const std::uint64_t dimension : shape) {
    if (__builtin_mul_overflow(bytes, dimension, &bytes)) {
      throw Corrupt("a tensor's size exceeds 64 bits");
    }
  }
  return bytes;
}

std::uint64_t SafetensorsHeader::DataBytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    if (__builtin_add_overflow(bytes, tensor.Bytes(), &bytes)) {
      throw Corrupt("the tensors' size exceeds 64 bits");
    }
  }
  return bytes;
}

std::string SafetensorsHeader::Encode() const {
  json object;
  object["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::uint64_t end = offset + tensor.Bytes();
    object[name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = object.dump();
  } catch (const json::exception& e) {
    throw InvalidInput(std::string("a text to be stored is not UTF-8: ") + e.what());
  }
  text.resize(
      (kLengthBytes + text.size() + kAlignment - 1) / kAlignment * kAlignment - kLengthBytes, ' ');
  const std::uint64_t length = text.size();
  if (length > kMaxHeaderBytes) {
    throw InvalidInput(
        fmt::format("a file header of {} bytes is needed, the limit is {}; store a shorter text",
                    length, kMaxHeaderBytes));
  }
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes + text;
}

SafetensorsHeader SafetensorsHeader::Read(int fd, const fs::path& path,
                                          std::uint64_t* data_offset) {
  const std::uint64_t file_bytes = FileSize(fd, path);
  std::uint64_t length = 0;
  if (file_bytes < kLengthBytes) {
    throw Corrupt(fmt::format("{} has {} bytes, expected at least {}", path.string(), file_bytes,
                              kLengthBytes));
  }
  iovec part{&length, kLengthBytes};
  ReadScattered(fd, 0, {&part, 1}, path);
  if (length > kMaxHeaderBytes || length > file_bytes - kLengthBytes) {
    throw Corrupt(fmt::format("{} states a header of {} bytes; the limit is {} and the file has {}",
                              path.string(), length, kMaxHeaderBytes, file_bytes));
  }
  std::string bytes(kLengthBytes + length, '\0');
  part = {bytes.data(), bytes.size()};
  ReadScattered(fd, 0, {&part, 1}, path);

  SafetensorsHeader header;
  try {
    header = FromJson(bytes.substr(kLengthBytes));
    if (header.Encode() != bytes) throw Corrupt("not in the form this program writes");
    if (const std::uint64_t data_bytes = header.DataBytes();
        data_bytes != file_bytes - bytes.size()) {
      throw Corrupt(fmt::format("its tensors take {} bytes, the file has {} after the header",
                                data_bytes, file_bytes - bytes.size()));
    }
  } catch (const json::exception& e) {
    throw Corrupt(path.string() + ": bad header: " + e.what());
  } catch (const Error& e) {
    throw Corrupt(path.string() + ": bad header: " + e.what());
  }
  *data_offset = bytes.size();
  return header;
}

}  // namespace kvr::cache
