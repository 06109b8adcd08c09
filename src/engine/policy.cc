#include "kvr/engine/policy.h"

#include <array>

#include "kvr/base/error.h"
#include "kvr/base/registry.h"
#include "policies/embedding.h"
#include "policies/off.h"
#include "policies/prefix.h"

namespace kvr::engine {

namespace {

constexpr std::array kAll = {
    policies::kEmbedding,
    policies::kPrefix,
    policies::kOff,
};

}  // namespace

// These are there before any code runs, whatever the order of the program's files.
constinit const std::span<const Policy> kPolicies = kAll;
constinit const Policy Policy::kEmbedding = policies::kEmbedding;
constinit const Policy Policy::kPrefix = policies::kPrefix;
constinit const Policy Policy::kOff = policies::kOff;

Policy PolicyFromString(std::string_view text, std::span<const Policy> registry) {
  if (const Policy* policy = FindNamed(registry, text)) return *policy;
  throw InvalidInput("policy: found '" + std::string(text) + "', expected " + AnyOf(registry));
}

std::vector<std::string> PolicyNames(std::span<const Policy> registry) { return NamesOf(registry); }

std::vector<std::string> FindingPolicyNames(std::span<const Policy> registry) {
  std::vector<std::string> names;
  for (const Policy& policy : registry) {
    if (policy.find != nullptr) names.emplace_back(policy.name);
  }
  return names;
}

}  // namespace kvr::engine
