#include "kvr/model/archive.h"

#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>

#include "archive_image.h"
#include "kvr/base/hash.h"
#include "kvr/base/json.h"
#include "torch_call.h"

namespace kvr::model {

namespace {

std::string ReadExtra(caffe2::serialize::PyTorchStreamReader& reader, const std::string& name) {
  auto [data, size] = reader.getRecord("extra/" + name);
  return {static_cast<const char*>(data.get()), size};
}

// The fields of metadata.json, each checked before anything is made of it.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  [[nodiscard]] const Json& At(const char* name) const {
    const auto found = object_.is_object() ? object_.find(name) : object_.end();
    if (found == object_.end()) throw Corrupt(where_ + ": no field " + name);
    return *found;
  }
  [[nodiscard]] Fields Object(const char* name) const {
    if (!At(name).is_object()) Refuse(name, "an object");
    return {At(name), where_ + ", " + name};
  }
  [[nodiscard]] std::string Text(const char* name) const {
    if (!At(name).is_string()) Refuse(name, "a text");
    return At(name);
  }
  [[nodiscard]] bool Flag(const char* name) const {
    if (!At(name).is_boolean()) Refuse(name, "true or false");
    return At(name);
  }
  [[nodiscard]] std::int64_t Number(const char* name, std::int64_t least,
                                    std::int64_t greatest) const {
    return Checked(At(name), name, least, greatest);
  }
  // Token ids, each below `vocab`.
  [[nodiscard]] std::vector<Token> Ids(const char* name, std::int64_t vocab) const {
    if (!At(name).is_array()) Refuse(name, "a list of token ids");
    std::vector<Token> ids;
    for (const Json& id : At(name)) {
      ids.push_back(static_cast<Token>(Checked(id, name, 0, vocab - 1)));
    }
    return ids;
  }

 private:
  [[nodiscard]] std::int64_t Checked(const Json& value, const char* name, std::int64_t least,
                                     std::int64_t greatest) const {
    const bool whole = value.is_number_integer() &&
                       !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX);
    if (!whole || value.get<std::int64_t>() < least || value.get<std::int64_t>() > greatest) {
      Refuse(name,
             "whole numbers from " + std::to_string(least) + " to " + std::to_string(greatest));
    }
    return value;
  }
  [[noreturn]] void Refuse(const char* name, const std::string& expected) const {
    throw Corrupt(where_ + ": " + name + ": found " + DumpLine(At(name)).substr(0, 60) +
                  ", expected " + expected);
  }

  const Json& object_;
  std::string where_;
};

// No id that the tokenizer can give may lie outside the network's vocabulary.
void CheckTokenIds(const Fields& tokenizer, const ArchiveInfo& info) {
  const std::string kind = tokenizer.Text("kind");
  if (kind == "wordpiece") {
    for (const char* id : {"unknown_id", "cls_id", "sep_id"}) {
      (void)tokenizer.Number(id, 0, info.vocab - 1);
    }
    const auto lines = std::count(info.tokenizer_model.begin(), info.tokenizer_model.end(), '\n');
    if (lines > info.vocab) {
      throw Corrupt(info.path.string() + ": the tokenizer has " + std::to_string(lines) +
                    " word pieces, the network only " + std::to_string(info.vocab));
    }
    return;
  }
  (void)tokenizer.Number("vocab_size", 1, info.vocab);
  if (tokenizer.Flag("add_bos")) (void)tokenizer.Number("bos_id", 0, info.vocab - 1);
  if (!tokenizer.At("special").is_array()) {
    throw Corrupt(info.path.string() + ": metadata.json, tokenizer: special is no list");
  }
  for (const Json& special : tokenizer.At("special")) {
    (void)Fields(special, info.path.string() + ": metadata.json, tokenizer, special")
        .Number("id", 0, info.vocab - 1);
  }
}

void ReadMetadata(const Fields& data, ArchiveInfo* info) {
  constexpr std::int64_t kMost = std::int64_t{1} << 24;  // of any dimension: far above any model
  info->kind = data.Text("kind");
  info->family = data.Text("family");
  info->name = data.Text("name");
  info->precision = data.Text("precision");
  info->fingerprint = data.Text("fingerprint");
  const Fields shape = data.Object("shape");
  const auto dimension = [&](const char* name) {
    return static_cast<int>(shape.Number(name, 1, kMost));
  };
  info->layers = dimension("layers");
  info->heads = dimension("heads");
  info->kv_heads = static_cast<int>(shape.Number("kv_heads", 1, info->heads));
  info->head_dim = dimension("head_dim");
  info->width = dimension("width");
  info->vocab = dimension("vocab");
  info->parameters = shape.Number("parameters", 1, std::int64_t{1} << 50);
  info->context_tokens = static_cast<int>(data.Number("context_tokens", 1, kMost));
  info->random_weights = data.Flag("random_weights");
  info->eos_ids = data.Ids("eos_ids", info->vocab);
  CheckTokenIds(data.Object("tokenizer"), *info);
  if (info->kind == "language_model") (void)data.At("template");
}

// Throws kCorrupt unless the records read are the ones that the archive was sealed with.
void CheckRecords(const std::optional<Seal>& seal, const std::string& metadata,
                  const ArchiveInfo& info) {
  if (!seal) return;
  const bool good = Xxh3Of(metadata) == seal->metadata;
  if (good && Xxh3Of(info.tokenizer_model) == seal->tokenizer) return;
  throw Corrupt(info.path.string() + ": its " + (good ? "tokenizer.model" : "metadata.json") +
                " is damaged; export the model again");
}

// What the exporter reads is easily taken for what it writes.
void RefuseSources(const std::filesystem::path& path) {
  std::string what;
  if (std::filesystem::is_directory(path)) {
    what = "a folder";
  } else {
    const UniqueFd fd = OpenForRead(path);
    std::string magic(std::min<std::uint64_t>(4, FileSize(fd.get(), path)), '\0');
    iovec part{magic.data(), magic.size()};
    ReadScattered(fd.get(), 0, {&part, 1}, path);
    if (magic == "GGUF") what = "a GGUF file";
  }
  if (what.empty()) return;
  throw Incompatible(path.string() + " is " + what +
                     ", not an archive; make one of it: .venv/bin/python scripts/export_model.py " +
                     path.string() + " --out models/NAME.pt");
}

}  // namespace

ArchiveInfo ReadArchiveInfo(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) {
    throw NotFound(
        "no model archive at " + path.string() +
        "; scripts/setup.sh models makes the default ones, scripts/export_model.py any other");
  }
  RefuseSources(path);
  const std::string what = path.string() + " is not a model archive of this program";
  ArchiveInfo info;
  info.path = path;
  std::string metadata;
  TorchCall(what, Error::Kind::kCorrupt, [&] {
    caffe2::serialize::PyTorchStreamReader reader(path.string());
    metadata = ReadExtra(reader, "metadata.json");
    info.tokenizer_model = ReadExtra(reader, "tokenizer.model");
    return 0;
  });
  const std::optional<Seal> seal = ReadSeal(OpenForRead(path), path);
  CheckRecords(seal, metadata, info);
  const std::string where = path.string() + ": metadata.json";
  try {
    info.metadata = ParseJson(metadata, where);
  } catch (const Error& error) {
    throw Corrupt(error.what());
  }
  const Fields data(info.metadata, where);
  const std::int64_t version = data.Number("format_version", 0, INT32_MAX);
  if (version != kArchiveFormatVersion) {
    throw Incompatible(path.string() + ": archive format " + std::to_string(version) +
                       ", this program reads " + std::to_string(kArchiveFormatVersion) +
                       "; export the model again with this version's scripts/export_model.py");
  }
  if (!seal) throw Corrupt(path.string() + " does not end in a seal: it is cut off or damaged");
  info.image_digest = seal->image;
  ReadMetadata(data, &info);
  return info;
}

void VerifyWeights(const ArchiveInfo& info) {
  const torch::jit::Module module = LoadModule(info);
  std::map<std::string, at::Tensor> weights;
  for (const auto& attribute : module.named_attributes(/*recurse=*/true)) {
    if (!attribute.value.isTensor() || attribute.value.toTensor().numel() == 0) continue;
    weights[attribute.name] = attribute.value.toTensor().contiguous();
  }
  Sha256 digest;
  for (const auto& [name, tensor] : weights) {
    digest.Update(name);
    digest.Update(std::span(static_cast<const std::byte*>(tensor.const_data_ptr()),
                            static_cast<std::size_t>(tensor.nbytes())));
  }
  const std::string found = Hex(digest.Finish());
  const std::string expected = info.metadata.value("weights_sha256", "");
  if (found != expected) {
    throw Corrupt(info.path.string() + ": the weights' SHA-256 is " + found + ", expected " +
                  expected + "; export the model again");
  }
}

ArchiveInfo ReadArchiveInfo(const std::filesystem::path& path, const std::string& kind) {
  ArchiveInfo info = ReadArchiveInfo(path);
  if (info.kind != kind) {
    throw Incompatible(path.string() + " holds a model of kind '" + info.kind + "', expected '" +
                       kind + "'");
  }
  return info;
}

}  // namespace kvr::model
