#include "../formats/formats.h"
#include "formats.h"

namespace kvr::report {
namespace {

std::string RenderMarkdown(const Comparison& comparison) {
  return std::string("# ") + (comparison.Regressed() ? "Regression" : "No regression") + "\n\n" +
         kMarkdownFormat.report(InWords(comparison));
}

}  // namespace

const CompareFormat kCompareMarkdown = {"markdown", RenderMarkdown};

}  // namespace kvr::report
