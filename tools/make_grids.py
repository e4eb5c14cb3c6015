#!/usr/bin/env python3
"""Writes the codebooks in src/grids.h, between the two marker lines, from the gguf package (pip install gguf numpy).

    python3 tools/make_grids.py            rewrite the tables
    python3 tools/make_grids.py --check    say whether they are what the package says, change nothing

A codebook entry becomes one 16-bit word: its values, lowest first, as 2-bit (eight values) or 3-bit (four values) codes.
"""
import sys
from pathlib import Path

import numpy as np
from gguf import quants

HEADER = Path(__file__).resolve().parent.parent / "src" / "grids.h"
BEGIN = "/* ---- made by tools/make_grids.py ---- */\n"
END = "/* ---- end of what it made ---- */\n"

#         class      table              what an entry holds
TABLES = [
    ("IQ1_S",   "smolq_grid_iq1",     "IQ1_S and IQ1_M: eight values -1 0 1, code 0 1 2"),
    ("IQ2_XXS", "smolq_grid_iq2_xxs", "IQ2_XXS: eight values 8 25 43, code 0 1 2"),
    ("IQ2_XS",  "smolq_grid_iq2_xs",  "IQ2_XS: as IQ2_XXS"),
    ("IQ2_S",   "smolq_grid_iq2_s",   "IQ2_S: as IQ2_XXS"),
    ("IQ3_XXS", "smolq_grid_iq3_xxs", "IQ3_XXS: four values 4 12 20 28 36 44 52 62, code 0 to 7"),
    ("IQ3_S",   "smolq_grid_iq3_s",   "IQ3_S: four values 1 3 5 7 9 11 13 15, code 0 to 7"),
]
PER_LINE = 20


def words(name):
    """The entries of a codebook as 16-bit words."""
    quant = getattr(quants, name)
    quant.init_grid()
    grid = quant.grid.reshape(quant.grid_shape)
    codes = np.searchsorted(np.array(quant.grid_map, np.float32), grid)
    bits = 2 if grid.shape[1] == 8 else 3
    return [sum(int(code) << bits * j for j, code in enumerate(entry)) for entry in codes]


def tables():
    text = ""
    for name, table, what in TABLES:
        entries = words(name)
        text += f"\n/* {what} */\nSMOLQ_TABLE uint16_t {table}[{len(entries)}] = {{\n"
        for i in range(0, len(entries), PER_LINE):
            text += ",".join(f"0x{word:04x}" for word in entries[i:i + PER_LINE]) + ",\n"
        text += "};\n"
    return text + "\n"


def main():
    current = HEADER.read_text()
    head, rest = current.split(BEGIN)
    tail = rest.split(END)[1]
    wanted = head + BEGIN + tables() + END + tail
    if sys.argv[1:] == ["--check"]:
        if wanted != current:
            sys.exit("src/grids.h differs from the gguf package; run tools/make_grids.py")
        print("src/grids.h is what the gguf package says")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        HEADER.write_text(wanted)


main()
