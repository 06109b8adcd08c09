#include "assets.h"

// The assembler takes a file in as it is, between two symbols (GCC and Clang, ELF).
#define KVR_ASSET(function, name, path)                                              \
  asm(".pushsection .rodata\n"                                                       \
      ".global kvr_asset_" #name "\nkvr_asset_" #name                                \
      ":\n"                                                                          \
      ".incbin \"" path                                                              \
      "\"\n"                                                                         \
      ".global kvr_asset_" #name "_end\nkvr_asset_" #name                            \
      "_end:\n"                                                                      \
      ".byte 0\n.popsection\n");                                                     \
  extern "C" const char kvr_asset_##name[], kvr_asset_##name##_end[];                \
  namespace kvr::report {                                                            \
  std::string_view function() { return {kvr_asset_##name, kvr_asset_##name##_end}; } \
  }

KVR_ASSET(PageStyle, style, KVR_PAGE "/page.css")
KVR_ASSET(PageScript, script, KVR_PAGE "/page.js")
KVR_ASSET(VegaScript, vega, KVR_VEGA "/vega.min.js")
KVR_ASSET(VegaLiteScript, vega_lite, KVR_VEGA "/vega-lite.min.js")
KVR_ASSET(VegaEmbedScript, vega_embed, KVR_VEGA "/vega-embed.min.js")
KVR_ASSET(VegaLicences, licences, KVR_VEGA "/LICENSES.txt")
