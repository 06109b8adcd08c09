#include "kvr/cache/chain.h"

#include <algorithm>
#include <bit>
#include <string>

#include "kvr/base/error.h"

namespace kvr::cache {

static_assert(std::endian::native == std::endian::little, "the cache format is little-endian");

std::span<const std::byte> TokenBytes(std::span<const Token> tokens) {
  return std::as_bytes(tokens);
}

Digest ChainHash(const Digest& parent, std::span<const Token> tokens) {
  return Sha256().Update(std::as_bytes(std::span(parent))).Update(TokenBytes(tokens)).Finish();
}

std::vector<ChainLink> Chain(const Digest& root, std::span<const Token> tokens,
                             std::uint32_t block_tokens) {
  std::vector<ChainLink> chain;
  chain.reserve(tokens.size() / block_tokens + 1);
  Digest parent = root;
  for (std::size_t first = 0; first < tokens.size(); first += block_tokens) {
    const auto block =
        tokens.subspan(first, std::min<std::size_t>(block_tokens, tokens.size() - first));
    if (const auto bad = std::ranges::find_if(block, [](Token t) { return t < 0; });
        bad != block.end()) {
      throw InvalidInput("token id " + std::to_string(*bad) + " found, expected 0 or more");
    }
    const Digest hash = ChainHash(parent, block);
    chain.push_back({hash, parent, static_cast<std::uint32_t>(first),
                     static_cast<std::uint32_t>(block.size())});
    parent = hash;
  }
  return chain;
}

}  // namespace kvr::cache
