#!/bin/sh
# Writes smolq.h to standard output: the parts of src/ in reading order, which is also its table of contents.
set -eu
cd "$(dirname "$0")/.."

#      zone  part        what it is about
parts='A     api.h       the API and manual
       B     formats.h   blocks of every tensor type
       B     float.h     canonical scalar arithmetic
       B     grids.h     codebooks of the IQ types
       B     backend.h   programs, buffers, the functions of a backend
       C     base.c      errors, memory, checked arithmetic, look-ups
       C     file.c      mapping, memory, the callers IO
       C     quant.c     unpacking blocks
       C     gguf.c      the file format
       C     unicode.c   character classes
       C     pretok.c    pre-tokenizers
       C     tokenizer.c text to tokens and back
       C     stream.c    tokens to text as they come, stop strings
       C     chat.c      chat formats
       C     arch.c      families, keys and tensor names
       C     rope.c      rotations
       C     program.c   the forward pass as a list of operations
       C     ref.c       the reference backend
       C     device.c    backends at work, the self-test
       C     model.c     open, probe
       C     context.c   KV caches, plans, evaluation
       C     sample.c    sampling'

echo "$parts" | { while read -r zone part what; do
    [ "$zone" != "${last-$zone}" ] && [ "${last-A}" != A ] && echo "#endif /* zone $last */"
    [ "$zone" = B ] && [ "${last-}" != B ] && cat <<'T'

#if (defined(SMOLQ_BACKEND) || defined(SMOLQ_IMPLEMENTATION)) && !defined(SMOLQ_ZONE_B)
#define SMOLQ_ZONE_B
T
    [ "$zone" = C ] && [ "${last-}" != C ] && cat <<'T'

#if defined(SMOLQ_IMPLEMENTATION) && !defined(SMOLQ_ZONE_C)
#define SMOLQ_ZONE_C
T
    echo; echo "/* ---- begin src/$part ---- */"
    sed -e '/^#pragma once$/d' -e '/^#include "[a-z_]*\.[ch]"/d' "src/$part"
    echo "/* ---- end src/$part ---- */"
    last=$zone
done; echo "#endif /* zone $last */"; }
