#include "kvr/model/archive.h"

#include <caffe2/serialize/inline_container.h>

#include <filesystem>
#include <map>
#include <span>

#include "kvr/base/hash.h"
#include "kvr/base/json.h"
#include "torch_call.h"

namespace kvr::model {

namespace {

std::string ReadExtra(caffe2::serialize::PyTorchStreamReader& reader, const std::string& name) {
  auto [data, size] = reader.getRecord("extra/" + name);
  return {static_cast<const char*>(data.get()), size};
}

}  // namespace

ArchiveInfo ReadArchiveInfo(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) {
    throw NotFound("no model archive at " + path.string() +
                   "; scripts/get_models.py and scripts/export_model.py make one");
  }
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
  try {
    info.metadata = Json::parse(metadata);
    const Json& data = info.metadata;
    const int version = data.at("format_version");
    if (version != kArchiveFormatVersion) {
      throw Incompatible(path.string() + ": archive format " + std::to_string(version) +
                         ", this program reads " + std::to_string(kArchiveFormatVersion) +
                         "; export the model again with this version's scripts/export_model.py");
    }
    data.at("kind").get_to(info.kind);
    data.at("family").get_to(info.family);
    data.at("name").get_to(info.name);
    data.at("precision").get_to(info.precision);
    data.at("fingerprint").get_to(info.fingerprint);
    const Json& shape = data.at("shape");
    shape.at("layers").get_to(info.layers);
    shape.at("heads").get_to(info.heads);
    shape.at("kv_heads").get_to(info.kv_heads);
    shape.at("head_dim").get_to(info.head_dim);
    shape.at("width").get_to(info.width);
    shape.at("vocab").get_to(info.vocab);
    shape.at("parameters").get_to(info.parameters);
    data.at("context_tokens").get_to(info.context_tokens);
    data.at("random_weights").get_to(info.random_weights);
    data.at("eos_ids").get_to(info.eos_ids);
    // What its readers take for granted.
    (void)data.at("tokenizer").at("kind");
    if (info.kind == "language_model") (void)data.at("template");
  } catch (const Json::exception& error) {
    throw Corrupt(path.string() + ": metadata.json: " + error.what());
  }
  return info;
}

void VerifyWeights(const ArchiveInfo& info) {
  const torch::jit::Module module = LoadModule(info.path.string());
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
