"""The text on whose token ids an archive and the reference have to agree."""

TORTURE_TEXT = (
    "The quick brown fox doesn't jump; it's they'll, we've, I'm, you'd, you're. DON'T'S 'tis\u2019s\n"
    "Grüße aus Köln, naïve café, Ångström, ﬁn, ẞ, İstanbul ΑΣΣ ОЛЯ ёлка ὈΔΥΣΣΕΎΣ שָׁלוֹם مرحبًا ١٢٣\n"
    "हिन्दी में नमस्ते १२३ ไทย한국어조선말 你好，世界。𠀀𪛖 日本語テキスト ｶﾞｶﾞ ǅ Ⅷ ⅷ ½ ² ௧௨ 𝟘𝟙 𝔘𝔫𝔦\n"
    "e\u0301 a\u0323\u0302 Z\u0351\u036b\u0343a\u034fl\u0334go \u1e9b\u0323 \ufeffBOM \u00adsoft\u200bzero\u200dwidth\u2060\n"
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇩🇪🇫🇷 👍🏽 ☺︎☺️ 🫠 \U0001f9ff\U000e0067\U000f0000\U0010ffff\n"
    "1234567890 3.14159 1,000,000 2024-01-31T12:34:56Z 0xDEADBEEF 1e-9 a1b22c333 v2 ４２\n"
    "\ttab\t\ttabs  two   three    four     \n\n\n  \r\n \u00a0nbsp\u2003em\u3000ideographic\u2028line\x0b\x0c\x85\u180e end   \n"
    "def f(x: int = 0) -> str:\n    return f\"{x!r:>{10}}\"  # naïve\n\tif (a&&b||!c) { s += '\\n'; }\n"
    "https://example.org/a?b=c%20d#e __init__ snake_case camelCase $$$ !!! ... ?!? «»„“ — … ₿ ※\n"
    "nul\x00 bell\x07 esc\x1b[0m ctl\x01\x04\x06\x13\x14\x16\x1d del\x7f c1\x80\x9f \ufffd \uffff\n"
    "<|endoftext|><|im_start|>user\nhi<|im_end|>\n<|im_start|> <|im_end |> <s>a</s> b<unk> [CLS] x [SEP][MASK] [mask] [UNK][PAD]<repo_name>\n"
    + "a" * 300 + " " * 50 + "=" * 120 + "é" * 101 + "." * 70 + "\n" * 9 + "ha" * 80 + "'" * 9 + " ▁ ▁▁"
)
