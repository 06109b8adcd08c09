#include "kvr/cache/codec.h"

#include <array>

#include "codecs/bf16.h"
#include "codecs/fp16.h"
#include "codecs/fp32.h"
#include "codecs/int8.h"
#include "kvr/base/error.h"
#include "kvr/base/registry.h"

namespace kvr::cache {

namespace {

constexpr std::array kAllCodecs = {
    codecs::kFp32,
    codecs::kBf16,
    codecs::kFp16,
    codecs::kInt8,
};

}  // namespace

// Both are there before any code runs, whatever the order of the program's files.
constinit const std::span<const Codec> kCodecs = kAllCodecs;
constinit const Codec Codec::kFp32 = codecs::kFp32;

Codec CodecFromString(std::string_view text, std::span<const Codec> registry) {
  if (const Codec* codec = FindNamed(registry, text)) return *codec;
  throw InvalidInput("codec: found '" + std::string(text) + "', expected " + AnyOf(registry));
}

std::vector<std::string> CodecNames(std::span<const Codec> registry) { return NamesOf(registry); }

}  // namespace kvr::cache
