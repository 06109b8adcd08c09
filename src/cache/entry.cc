#include "kvr/cache/entry.h"

#include <spdlog/fmt/fmt.h>

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/cache/key.h"
#include "kvr/cache/safetensors.h"

namespace kvr::cache {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

std::string Canonical(const std::map<std::string, std::string>& fields) {
  try {
    return json(fields).dump();
  } catch (const json::exception& e) {
    throw InvalidInput(std::string("a text to be stored is not UTF-8: ") + e.what());
  }
}

// Covers all of the entry: the metadata without the checksum itself, then the tensors' bytes.
std::string Checksum(std::map<std::string, std::string> metadata,
                     std::span<const std::byte> embedding, std::span<const std::byte> tokens) {
  metadata.erase("checksum");
  const std::string text = Canonical(metadata);
  Xxh3 checksum;
  checksum.Update(std::as_bytes(std::span(text)));
  checksum.Update(embedding);
  checksum.Update(tokens);
  return checksum.FinishHex();
}

template <typename T>
T Number(const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Corrupt("'" + text + "' found, expected a number");
  }
  return value;
}

}  // namespace

Digest EntryId(const std::string& text, const std::string& encoder, const Digest& last_hash) {
  return Sha256Of(Canonical({{"encoder", encoder}, {"last_hash", Hex(last_hash)}, {"text", text}}));
}

std::uint64_t WriteEntry(const fs::path& path, const EntryRow& row, const Digest& key_hash) {
  SafetensorsHeader header;
  header.metadata = {{"created_us", std::to_string(row.created_us)},
                     {"encoder", row.encoder},
                     {"format", "kvr-entry"},
                     {"id", Hex(row.id)},
                     {"key", Hex(key_hash)},
                     {"last_hash", Hex(row.chain.back())},
                     {"pieces_embedded", std::to_string(row.pieces_embedded)},
                     {"pieces_total", std::to_string(row.pieces_total)},
                     {"text", row.text},
                     {"version", std::to_string(kFormatVersion)}};
  if (!row.embedding.empty()) header.tensors["embedding"] = {"F32", {row.embedding.size()}};
  header.tensors["tokens"] = {"I32", {row.tokens.size()}};
  const auto embedding = std::as_bytes(std::span(row.embedding));
  const auto tokens = TokenBytes(row.tokens);
  header.metadata["checksum"] = Checksum(header.metadata, embedding, tokens);
  const std::string encoded = header.Encode();
  const std::array parts = {std::as_bytes(std::span(encoded)), embedding, tokens};
  WriteAndRename(path, parts);
  return encoded.size() + header.DataBytes();
}

EntryRow ReadEntry(const fs::path& path, const Digest& id, const Digest& key_hash,
                   std::uint32_t block_tokens) {
  const UniqueFd fd = OpenOwnFile(path);
  std::uint64_t offset = 0;
  SafetensorsHeader header = SafetensorsHeader::Read(fd.get(), path, &offset);
  try {
    const auto& metadata = header.metadata;
    EntryRow row = {.id = id,
                    .text = metadata.at("text"),
                    .encoder = metadata.at("encoder"),
                    .pieces_embedded = Number<std::uint32_t>(metadata.at("pieces_embedded")),
                    .pieces_total = Number<std::uint32_t>(metadata.at("pieces_total")),
                    .created_us = Number<std::int64_t>(metadata.at("created_us")),
                    .file_bytes = offset + header.DataBytes()};
    if (metadata.at("format") != "kvr-entry" ||
        metadata.at("version") != std::to_string(kFormatVersion)) {
      throw Corrupt(fmt::format("format {} version {} found, expected kvr-entry version {}",
                                metadata.at("format"), metadata.at("version"), kFormatVersion));
    }
    if (metadata.at("key") != Hex(key_hash)) throw Corrupt("it belongs to another cache key");
    // The header's sizes were checked against the file's, so these allocations are bounded by it.
    for (const auto& [name, tensor] : header.tensors) {
      if (tensor.shape.size() != 1 || tensor.dtype != (name == "tokens" ? "I32" : "F32")) {
        throw Corrupt("tensor " + name + " has an unexpected type or shape");
      }
    }
    row.tokens.resize(header.tensors.at("tokens").shape[0]);
    if (header.tensors.contains("embedding")) {
      row.embedding.resize(header.tensors.at("embedding").shape[0]);
    }
    if (header.tensors.size() != (row.embedding.empty() ? 1U : 2U)) {
      throw Corrupt("unexpected tensors found");
    }
    std::array<iovec, 2> parts = {iovec{row.embedding.data(), row.embedding.size() * sizeof(float)},
                                  iovec{row.tokens.data(), row.tokens.size() * sizeof(Token)}};
    ReadScattered(fd.get(), offset, parts, path);
    const std::string checksum =
        Checksum(metadata, std::as_bytes(std::span(row.embedding)), TokenBytes(row.tokens));
    if (checksum != metadata.at("checksum")) {
      throw Corrupt("the checksum is " + checksum + ", expected " + metadata.at("checksum"));
    }
    for (const ChainLink& link : Chain(key_hash, row.tokens, block_tokens)) {
      row.chain.push_back(link.hash);
    }
    if (row.chain.empty() || Hex(row.chain.back()) != metadata.at("last_hash") ||
        EntryId(row.text, row.encoder, row.chain.back()) != id || metadata.at("id") != Hex(id)) {
      throw Corrupt("its name is not the hash of its text, tokens and encoder");
    }
    return row;
  } catch (const Error& e) {
    if (e.kind() == Error::Kind::kIo) throw;
    throw Corrupt(path.string() + ": " + e.what());
  } catch (const std::out_of_range&) {
    throw Corrupt(path.string() + ": not an entry: a field is absent");
  }
}

}  // namespace kvr::cache
