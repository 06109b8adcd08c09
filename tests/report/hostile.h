// Texts that prompts and models may hold, each of which breaks some format that takes it as it is.
#pragma once

#include <string>
#include <vector>

namespace kvr::report {

inline std::vector<std::string> HostileTexts() {
  using namespace std::string_literals;
  return {"</script><script>document.title='taken'</script>",
          "<img src=x onerror=\"document.title='taken'\">",
          "<!-- <script>",
          "' onmouseover='x' \" onfocus=\"x",
          "]]> {{x}} ${y} `z` __proto__ constructor",
          "\\end{document} \\input{/etc/passwd} % _ # & ~ ^ {} $x$ \\",
          "=cmd|'/c calc'!A1",
          "+1+1",
          "-2+3",
          "@SUM(1+1)",
          "a,=1+1;=2+2\t=3\n=4\"=5",
          "nul \0 bell \a escape \x1b[31m delete \x7f next \xc2\x85 end"s,
          "one\ntwo\r\nthree\u2028four\u2029five",
          "\u202Egnirts\u202C \u200Fright\u200E \u061C \u2067isolated\u2069",
          "日本語 العربية עברית 🙂 é ﬁ e\u0301 \uFFFD \uFFFE \uFFFF",
          "[optional] *starred* -- `` '' ?` !`",
          std::string(300, 'w')};
}

}  // namespace kvr::report
