#include "kvr/cache/key.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "folder.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/json.h"

namespace kvr::cache {

namespace fs = std::filesystem;
using nlohmann::json;

std::string CacheKey::ToJson() const {
  const json object = {{"block_tokens", block_tokens},
                       {"codec", ToString(codec)},
                       {"cpu_model", cpu_model},
                       {"device", device},
                       {"element", "F32"},
                       {"format_version", kFormatVersion},
                       {"head_dim", shape.head_dim},
                       {"instruction_set", instruction_set},
                       {"kernel_path", kernel_path},
                       {"kv_heads", shape.kv_heads},
                       {"layers", shape.layers},
                       {"libtorch_version", libtorch_version},
                       {"model_fingerprint", model_fingerprint},
                       {"threads", threads}};
  try {
    return object.dump();
  } catch (const json::exception& e) {
    throw InvalidInput(std::string("a field of the cache key is not UTF-8: ") + e.what());
  }
}

CacheKey CacheKey::FromJson(const std::string& text, const std::string& where) {
  CacheKey key;
  try {
    const json object = ParseJson(text, where);
    if (const int version = object.at("format_version"); version != kFormatVersion) {
      throw Incompatible(fmt::format("found cache format version {}, this program reads version {}",
                                     version, kFormatVersion));
    }
    object.at("block_tokens").get_to(key.block_tokens);
    try {
      key.codec = CodecFromString(object.at("codec").get<std::string>());
    } catch (const Error& e) {
      throw Incompatible(e.what());
    }
    object.at("cpu_model").get_to(key.cpu_model);
    object.at("device").get_to(key.device);
    object.at("head_dim").get_to(key.shape.head_dim);
    object.at("instruction_set").get_to(key.instruction_set);
    object.at("kernel_path").get_to(key.kernel_path);
    object.at("kv_heads").get_to(key.shape.kv_heads);
    object.at("layers").get_to(key.shape.layers);
    object.at("libtorch_version").get_to(key.libtorch_version);
    object.at("model_fingerprint").get_to(key.model_fingerprint);
    object.at("threads").get_to(key.threads);
  } catch (const json::exception& e) {
    throw Corrupt(where + " is not a cache key: " + e.what());
  } catch (const Error& e) {
    if (e.kind() == Error::Kind::kIncompatible) throw Incompatible(where + ": " + e.what());
    throw Corrupt(where + " is not a cache key: " + e.what());
  }
  // Also refuses repeated, unknown and oddly written members.
  if (key.ToJson() != text) throw Corrupt(where + " is not a cache key as this program writes it");
  try {
    key.Check();
  } catch (const Error& e) {
    throw Corrupt(where + ": " + e.what());
  }
  return key;
}

CacheKey CacheKey::FromFile(const fs::path& path) {
  return FromJson(ReadFile(path, kMaxKeyBytes), path.string());
}

Digest CacheKey::Hash() const { return Sha256Of(ToJson()); }

void CacheKey::Check() const {
  const auto check = [](const char* name, std::uint32_t value) {
    if (value < 1 || value > kMaxDimension) {
      throw InvalidInput(
          fmt::format("cache key: {} is {}, expected 1 to {}", name, value, kMaxDimension));
    }
  };
  check("layers", shape.layers);
  check("kv_heads", shape.kv_heads);
  check("head_dim", shape.head_dim);
  check("block_tokens", block_tokens);
  check("threads", threads);
}

namespace {

// What ClearCaches leaves: a cache's folders and lock, without a key or an entry.
bool IsCleared(const fs::path& folder) {
  return IsCacheFolderName(folder.filename().string()) && TypeOf(folder / kKeyName) == 0 &&
         ListFolder(folder).entries.empty();
}

}  // namespace

std::vector<CacheFolder> ListCacheFolders(const fs::path& cache_dir,
                                          std::vector<std::string>* damaged) {
  std::vector<CacheFolder> folders;
  std::error_code error;
  fs::directory_iterator entries(cache_dir, error);
  if (error) throw IoError("cannot list the cache folder " + cache_dir.string(), error.value());
  for (const fs::directory_entry& entry : entries) {
    const fs::path key_path = entry.path() / kKeyName;
    try {
      if (IsCleared(entry.path())) continue;
      CacheKey key = CacheKey::FromFile(key_path);
      if (Hex(key.Hash()) != entry.path().filename()) {
        throw Corrupt(key_path.string() + " does not hash to its folder's name");
      }
      folders.push_back({entry.path(), std::move(key)});
    } catch (const Error& e) {
      spdlog::warn("skipping {}: {}", entry.path().string(), e.what());
      const bool ours = IsCacheFolderName(entry.path().filename().string());
      if (damaged != nullptr && ours && e.kind() != Error::Kind::kIncompatible) {
        damaged->push_back(e.what());
      }
    }
  }
  std::ranges::sort(folders, {}, &CacheFolder::path);
  return folders;
}

bool IsCacheFolderName(std::string_view name) {
  return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace kvr::cache
