#!/usr/bin/env python3
"""Writes tests/splits.h: texts and where each pre-tokenizer must cut them, from the expressions of the models' tokenizer.json and the
`regex` module, an independent implementation.

    python3 -m pip install regex
    python3 tests/make_splits.py > tests/splits.h

Where a tokenizer.json has several expressions, each cuts the pieces of the one before.  The texts hold no character above Unicode 14 and, for the
DeepSeek expressions, no spaces outside ASCII: their ranges U+0800..U+4E00 hold such spaces, which llama.cpp (and smolq) do not match.
`make_splits.py fuzz PROGRAM [seed]` compares random texts with PROGRAM NAME, which reads the text and prints the pieces' byte lengths.
"""
import random
import subprocess
import sys

import regex

FOLD = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
UPPER, LOWER, LEAD = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[^\r\n\p{L}\p{N}]?"
LISTED = ("A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377"
          "\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
          "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"
          "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4"
          "\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d"
          "\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
          "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06"
          "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
          "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943")


def llama3(digits, letters=r"\p{L}"):
    return FOLD + r"|[^\r\n\p{L}\p{N}]?[" + letters + r"]+|\p{N}" + digits + r"| ?[^\s\p{L}\p{N}" + letters + r"]+[\r\n]*" + TAIL


def o200k(digits, after):
    return f"{LEAD}{UPPER}*{LOWER}+{after}|{LEAD}{UPPER}+{LOWER}*{after}|" + r"\p{N}" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL


EXPRESSIONS = {
    "gpt-2": [GPT2],
    "starcoder": [r"\p{N}", GPT2],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "llama-bpe": [llama3("{1,3}")],
    "qwen2": [llama3("")],
    "qwen35": [llama3("", r"\p{L}\p{M}")],
    "minicpm5": [r"\p{N}{1,3}", llama3("+")],
    "seed-coder": [FOLD + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+" + TAIL],
    "bailingmoe": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    "gpt-4o": [o200k("{1,3}", FOLD + "?")],
    "tekken": [o200k("", "")],
    "deepseek-llm": ["[\r\n]", r"\s?[" + LISTED + "]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+\Z", "[一-龥ࠀ-一가-퟿]+", r"\p{N}+"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + TAIL],
}
TEXTS = ["Hello, World! I'LL say it's we're DON'T 'sup", "x  y   z \n\n  a\t\tb\r\n\r\n  ", "12345 67²½ 1,234.5 v1.2.3", "if (a<=b) {return `x`|~y;} //\n/end",
         "HTMLParser camelCase ABCdef Éa ÉCOLE ǅabc ʰh", "中文ABC と カナ한국어。！ x中Ay", "हिन्दी में e\u0301a \u0301\u0301X \u0301a", "a\x00b \x1c\ue000\u200d😀🎉 €5 →→\n\nb", "'", " ", "'S 'l 'v 'L",
         "Ähm don’t ‘q’ Ⴀა Ա.d 123abc!abc $x"]
POOL = ["a", "b", "S", "T", "s", "t", "re", "LL", "'", "'s", "'S", "’", " ", "  ", "\n", "\r", "\t", "1", "23", "456", "²", "½", "!", ".", "/", "$", "+", "~", "|", "`", "<", "é", "É", "ǅ", "ʰ", "ª",
        "中", "文", "の", "カ", "한", "\u0301", "\u093f", "हि", "\u200d", "😀", "€", "。", "！", "‘", "\x00", "\x1c", "\ue000", "Ⴀ", "ა", "ß", "K"]
OTHER_SPACES = ["\u3000", "\u00a0", "\u0085", "\u2028"]


def split(name, text):
    pieces = [text]
    for expression in EXPRESSIONS[name]:
        cut = []
        for piece in pieces:
            at = 0
            for match in regex.finditer(expression, piece):
                cut += [part for part in (piece[at:match.start()], match.group()) if part]
                at = match.end()
            cut += [piece[at:]] if at < len(piece) else []
        pieces = cut
    return [len(piece.encode()) for piece in pieces]


if sys.argv[1:2] == ["fuzz"]:
    random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    wrong = 0
    for name in EXPRESSIONS:
        pool = POOL if name in ("deepseek-llm", "deepseek-coder") else POOL + OTHER_SPACES
        for _ in range(200):
            text = "".join(random.choices(pool, k=random.choice([3, 8, 40])))
            got = [int(n) for n in subprocess.run([sys.argv[2], name], input=text.encode(), capture_output=True, check=True).stdout.split()]
            if got != split(name, text):
                wrong += 1
                print(f"{name} {text!r}: {got}, expected {split(name, text)}")
    sys.exit(wrong != 0)

print("/* Written by tests/make_splits.py, don't edit: pre-tokenizer, text, its bytes, lengths of the pieces. */")
print("static const struct { const char *pre, *text; int bytes; const char *lengths; } splits[] = {")
for name in EXPRESSIONS:
    for text in TEXTS:
        c = "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
        print(f'    {{ "{name}", "{c}", {len(text.encode())}, "{" ".join(map(str, split(name, text)))}" }},')
print("};")
