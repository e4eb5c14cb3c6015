#!/usr/bin/env python3
"""Writes src/unicode.c: the class of every code point, from Python's Unicode data.

    python3 -m pip install unicodedata2==15.1.0
    python3 tools/make_unicode.py > src/unicode.c

The version matters: a newly assigned letter splits differently from an unassigned code point.  15.1 is what llama.cpp's tables hold, and
what the golden token ids were made with; Python 3.13 has the same version built in, and then unicodedata2 is not needed.
"""
try:
    import unicodedata2 as data
except ImportError:
    import unicodedata as data

VERSION = "15.1.0"
if data.unidata_version != VERSION:
    raise SystemExit(f"make_unicode.py: Unicode {VERSION} expected, this Python has {data.unidata_version}: pip install unicodedata2=={VERSION}")

#          name, what it holds
CLASSES = (("OTHER", "controls, formats, surrogates, private use, unassigned"),
           ("LU", "letters: upper case"), ("LL", "lower case"), ("LT", "title case"), ("LM", "modifiers"), ("LO", "without case"),
           ("M", "marks, which combine with the character before"), ("N", "numbers of any kind"), ("P", "punctuation"), ("S", "symbols"),
           ("SPACE", "\\s: the property White_Space, which holds all of \\p{Z} and the line controls"))
SPACES = {9, 10, 11, 12, 13, 0x20, 0x85, 0xa0, 0x1680, *range(0x2000, 0x200b), 0x2028, 0x2029, 0x202f, 0x205f, 0x3000}


def class_of(c):
    names = [name for name, _ in CLASSES]
    if c in SPACES:
        return names.index("SPACE")
    category = data.category(chr(c)).upper()
    for name in (category, category[0]):
        if name in names:
            return names.index(name)
    return 0


TOP = 0x110000
classes = [class_of(c) for c in range(TOP)]
END = 0x32400                                   # beyond it only the selectors U+E0100..E01EF are not OTHER
assert all(classes[c] == (6 if 0xe0100 <= c <= 0xe01ef else 0) for c in range(END, TOP))

rows, pages, page_of = {}, {}, []
for start in range(0, END, 256):
    page = []
    for at in range(start, start + 256, 16):
        word = sum(classes[at + i] << (4 * i) for i in range(16))
        page.append(rows.setdefault(word, len(rows)))
    page_of.append(pages.setdefault(tuple(page), len(pages)))
assert len(pages) <= 256


def table(type_and_name, items, per_line):
    print(f"static const {type_and_name}[{len(items)}] = {{")
    for i in range(0, len(items), per_line):
        print("    " + ",".join(items[i:i + per_line]) + ",")
    print("};")


print(f"""/* ==== unicode.c: what kind of character a code point is ==============================================================
 * Pre-tokenizers ask for \\p{{L}}, \\p{{N}}, \\s and the like.  Each code point has one of {len(CLASSES)} classes, a bit each, so that a question is a mask.
 *
 * Three steps to the class, as most of the code space repeats itself: 256 code points make a page, of which there are {len(pages)} kinds; a page is
 * 16 rows; a row is 16 classes of 4 bits in one word, of which there are {len(rows)} kinds.
 *
 * Unicode {VERSION}; written by tools/make_unicode.py, don't edit. */
#pragma once
#include "base.c"

enum {{""")
for i, (name, what) in enumerate(CLASSES):
    print(f"    SMOLQ__{name} = 1 << {i},".ljust(28) + f"/* {what} */")
print("""    SMOLQ__CASED  = SMOLQ__LU | SMOLQ__LL | SMOLQ__LT,
    SMOLQ__LETTER = SMOLQ__CASED | SMOLQ__LM | SMOLQ__LO
};
""")
table("uint64_t smolq__unicode_rows", [f"0x{w:x}u" for w in rows], 7)
table("uint16_t smolq__unicode_pages", [str(r) for p in pages for r in p], 32)
table("uint8_t smolq__unicode_page_of", [str(p) for p in page_of], 36)
print(f"""
/* The class bit of a code point; OTHER beyond the last. */
static uint32_t smolq__class(uint32_t c)
{{
    uint32_t row;
    if (c >= 0x{END:x}) return c >= 0xe0100 && c <= 0xe01ef ? SMOLQ__M : SMOLQ__OTHER;
    row = smolq__unicode_pages[smolq__unicode_page_of[c >> 8] * 16u + ((c >> 4) & 15)];
    return 1u << ((smolq__unicode_rows[row] >> ((c & 15) * 4)) & 15);
}}

/* The character at p: its code point, how many bytes, and its class bit; all zero at the end of the text.  A byte that doesn't begin a
 * well-formed sequence (Unicode standard, table 3-7: no overlong forms, no surrogates) is a character of its own, U+FFFD. */
typedef struct smolq__char {{ uint32_t c, n, is; }} smolq__char;
static smolq__char smolq__char_at(const uint8_t *p, const uint8_t *end)
{{
    smolq__char at = {{ 0, 0, 0 }};
    uint32_t c, more, i;
    if (p == end) return at;
    c = p[0];
    more = c < 0xc2 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : 0;
    at.n = 1;
    at.c = c < 0x80 ? c : 0xfffd;
    if (more > 0 && (size_t)(end - p) > more) {{
        static const uint32_t least[4] = {{ 0, 0x80, 0x800, 0x10000 }};
        c &= 0x3fu >> more;
        for (i = 1; i <= more && (p[i] & 0xc0) == 0x80; i++) c = c << 6 | (p[i] & 0x3fu);
        if (i > more && c >= least[more] && c < 0x110000 && (c & 0xfffff800u) != 0xd800) {{
            at.n = more + 1;
            at.c = c;
        }}
    }}
    at.is = smolq__class(at.c);
    return at;
}}""")
