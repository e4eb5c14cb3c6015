#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets: tests/corpus/make_seeds.py DIRECTORY makes DIRECTORY/gguf, text, vocab and eval.

One seed for each thing that a file, a text or a vocabulary can have, as small as it can be.  What fuzzing found beyond them lies in the same
folders of the repository, named by its hash; a new seed is added by running this and then a fuzz target with -merge=1.
"""
import os
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: '<B', I8: '<b', U16: '<H', I16: '<h', U32: '<I', I32: '<i', F32: '<f', BOOL: '<B', U64: '<Q', I64: '<q', F64: '<d'}


def text(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack('<Q', len(s)) + s


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        element, items = v
        return struct.pack('<IQ', element, len(items)) + b''.join(value(element, x) for x in items)
    return struct.pack(FORMATS[kind], v)


def gguf(pairs, tensors, version=3, alignment=32, flags=0):
    """pairs: (key, kind, value); tensors: (name, type, dims, bytes).  The last byte is the target's options."""
    if alignment != 32:
        pairs = pairs + [('general.alignment', U32, alignment)]
    out = b'GGUF' + struct.pack('<IQQ', version, len(tensors), len(pairs))
    for key, kind, v in pairs:
        out += text(key) + struct.pack('<I', kind) + value(kind, v)
    data = b''
    for name, kind, dims, raw in tensors:
        out += text(name) + struct.pack('<I', len(dims)) + struct.pack('<%dQ' % len(dims), *dims) + struct.pack('<IQ', kind, len(data))
        data += raw + bytes(-len(raw) % alignment)
    return out + bytes(-len(out) % alignment) + data + bytes([flags])


BLOCKS = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 20: (32, 18), 39: (32, 17), 40: (64, 36), 41: (128, 18),
          42: (64, 18)}
TINY = {0: struct.pack('<f', .5), 1: b'\0\x38', 30: b'\0\x3f'}


def matrix(name, kind, *dims):
    weights, size = BLOCKS[kind]
    n = 1
    for d in dims:
        n *= d
    raw = TINY[kind] * n if kind in TINY else bytes([0, 0x14] + [17] * (size - 2)) * (n // weights)
    return name, kind, dims, raw


def tokenizer(bpe, n):
    words = ['<unk>', '<s>', '</s>', '\u2581', 'a', 'b', 'ab', '<0x0A>'] if not bpe else ['<|im_start|>', '<|im_end|>', 'a', 'b', 'ab', '\u0120', '\u0120ab', 't']
    pairs = [('tokenizer.ggml.model', STRING, 'gpt2' if bpe else 'llama'), ('tokenizer.ggml.tokens', ARRAY, (STRING, words[:n]))]
    if bpe:
        pairs += [('tokenizer.ggml.pre', STRING, 'qwen2'), ('tokenizer.ggml.merges', ARRAY, (STRING, ['a b', '\u0120 ab'])),
                  ('tokenizer.ggml.token_type', ARRAY, (I32, [3, 3, 1, 1, 1, 1, 1, 1][:n]))]
    else:
        pairs += [('tokenizer.ggml.scores', ARRAY, (F32, [0, 0, 0, -1, -2, -3, -1, 0][:n])), ('tokenizer.ggml.token_type', ARRAY, (I32, [2, 3, 3, 1, 1, 1, 1, 6][:n]))]
    return pairs


def model(family, kind=0, width=2, ff=2, vocab=4, extra=(), words=False, rope=False, flags=0, alignment=8, version=3, heads=1):
    qwen3, moe = family.startswith('qwen3'), family == 'qwen3moe'
    p = family + '.'
    pairs = [('general.architecture', STRING, family), (p + 'block_count', U32, 1), (p + 'context_length', U32, 16), (p + 'embedding_length', U32, width),
             (p + 'attention.head_count', U32, heads), (p + 'attention.layer_norm_rms_epsilon', F32, 1e-5)]
    if not moe:
        pairs.append((p + 'feed_forward_length', U32, ff))
    else:
        pairs += [(p + 'expert_count', U32, 2), (p + 'expert_used_count', U32, 1), (p + 'expert_feed_forward_length', U32, ff)]
    pairs += [(p + key, k, v) for key, k, v in extra]
    if words:
        pairs += tokenizer(family.startswith('qwen'), vocab)
    head = width // heads
    b = 'blk.0.'
    tensors = [matrix('token_embd.weight', kind, width, vocab), matrix('output_norm.weight', 0, width), matrix(b + 'attn_norm.weight', 0, width)]
    tensors += [matrix(b + 'attn_%s.weight' % n, kind, width, width) for n in ('q', 'k', 'v', 'output')]
    if family == 'qwen2':
        tensors += [matrix(b + 'attn_%s.bias' % n, 0, width) for n in 'qkv']
    if qwen3:
        tensors += [matrix(b + 'attn_%s_norm.weight' % n, 0, head) for n in 'qk']
    tensors.append(matrix(b + 'ffn_norm.weight', 0, width))
    if moe:
        tensors += [matrix(b + 'ffn_gate_inp.weight', 0, width, 2), matrix(b + 'ffn_gate_exps.weight', kind, width, ff, 2), matrix(b + 'ffn_up_exps.weight', kind, width, ff, 2),
                    matrix(b + 'ffn_down_exps.weight', kind, ff, width, 2)]
    else:
        tensors += [matrix(b + 'ffn_gate.weight', kind, width, ff), matrix(b + 'ffn_up.weight', kind, width, ff), matrix(b + 'ffn_down.weight', kind, ff, width)]
    if rope:
        tensors.append(matrix('rope_freqs.weight', 0, head // 2))
    return gguf(pairs, tensors, version, alignment, flags)


YARN = [('rope.scaling.type', STRING, 'yarn'), ('rope.scaling.factor', F32, 4.0), ('rope.scaling.original_context_length', U32, 8)]
GGUF = {
    'empty': gguf([], []), 'version2': gguf([('a', U8, 1)], [], 2), 'version1': gguf([], [], 1), 'lfs': b'version https://git-lfs.github.com/spec/v1\n', 'html': b'<!DOCTYPE html>',
    'scalars': gguf([('k%d' % k, k, 1) for k in FORMATS] + [('s', STRING, 'text')], []),
    'arrays': gguf([('a%d' % k, ARRAY, (k, [1, 0])) for k in FORMATS] + [('as', ARRAY, (STRING, ['x', ''])), ('aa', ARRAY, (ARRAY, [(U8, [1]), (STRING, ['y']), (ARRAY, [(BOOL, [1])])]))], []),
    'integers': gguf([], [('i', 26, (2,), b'12345678'), ('d', 28, (1,), b'12345678')]),
    'split': gguf([('split.no', U16, 0), ('split.count', U16, 2)], []), 'one_part': gguf([('split.no', U16, 0), ('split.count', U16, 1), ('split.tensors.count', I32, 0)], []),
    'vocab_spm': gguf(tokenizer(False, 8), []), 'vocab_bpe': gguf(tokenizer(True, 8), []),
    'read': model('llama', flags=1), 'little_memory': model('llama', words=True, flags=0x42), 'fail_third': model('llama', words=True, flags=0x24), 'limits': model('qwen2', words=True, flags=8),
    'llama_words': model('llama', words=True, vocab=8), 'qwen2_words': model('qwen2', words=True, vocab=8, flags=0x20), 'rope_freqs': model('llama', rope=True), 'version2_model': model('llama', version=2),
    'yarn': model('llama', extra=YARN), 'linear': model('llama', extra=[('rope.scaling.type', STRING, 'linear'), ('rope.scaling.factor', F32, 2.0)]),
    'layer_arrays': model('llama', extra=[('attention.head_count_kv', ARRAY, (U32, [1]))]), 'attn_scale': model('llama', extra=[('attention.scale', F32, .5)]),
    'unaligned': model('llama', alignment=1), 'two_heads': model('llama', width=4, heads=2),
}
GGUF.update({family: model(family) for family in ('llama', 'smollm3', 'qwen2', 'qwen3', 'qwen3moe')})
GGUF.update({'type%d' % kind: model('llama', kind, width=BLOCKS[kind][0] * (1 if BLOCKS[kind][0] > 1 else 2), ff=max(2, BLOCKS[kind][0]), vocab=2)
             for kind in (1, 30, 2, 3, 6, 7, 8, 20, 39)})

TEXTS = ['', 'a', 'the and in', ' the  and\n\n in\t', "It's we'll I'D 12345 1,234.5", '\u00e9e\u0301\u0300 \u4e2d\u6587 \u3053\u3093', '\U0001f600\U0001f468\u200d\U0001f469', '<|im_start|>user<|im_end|>',
         '<|endoftext|><s></s><unk>', '<0x0A><0xFF>', '\u2581the\u2581', 'camelCase HTTPServer x_y', '\r\n\r\n  \n', '\u00a0\u3000\u2028', '\x00\x01\x7f', '/path/to "q" (x)!?', '\u0661\u0662\u0663 \u2163 \u00bd',
         'thththth', '\u01c5\u02b0\u1e9e', '\ufffd\ufffe\uffff']
TEXTS = [t.encode() for t in TEXTS] + [b'\xff\xfe', b'\xf0\x9f\x98', b'\xe2\x96', b'a\xcc', b'\xed\xa0\x80', b'\xc0\x80', b'\xf4\x90\x80\x80']


def vocabulary(what, special, words, pairs, sample, flags=0, pre=0):
    """words: (text, type, score)"""
    out = bytes([what, flags, pre]) + bytes(special)
    for w, kind, score in words:
        w = w.encode() if isinstance(w, str) else w
        out += bytes([len(w) | kind << 5, score & 255]) + w
    return out + b'\xff' + b''.join(bytes(p) for p in pairs) + b'\xff\xff' + sample


NONE = [255] * 4
SPM = [('<unk>', 2, 0), ('<s>', 3, 0), ('</s>', 3, 0), ('\u2581', 1, -1), ('a', 1, -2), ('b', 1, -3), ('ab', 1, -1), ('\u2581ab', 1, 0), ('<0x0A>', 6, 0), ('USER', 4, 0)]
BPE = [('<|im_start|>', 3, 0), ('a', 1, 0), ('b', 1, 0), ('ab', 1, 0), ('\u0120', 1, 0), ('\u0120ab', 1, 0), ('USER', 4, 0), ('USERS', 4, 0)]
VOCAB = {
    'spm': vocabulary(2 | 4, NONE, SPM, [], b' ab ba\n<s>USER'), 'spm_space': vocabulary(2 | 4 | 32, [1, 2, 0, 255], SPM, [], b'ab  ab', 1), 'spm_trim': vocabulary(2 | 4 | 64, NONE, SPM, [], b' ab  ab '),
    'spm_special': vocabulary(2 | 4, [1, 2, 0, 255], SPM, [], b'<s>ab</s>', 3), 'spm_bytes': vocabulary(2 | 4 | 16, NONE, SPM, [], b'\x00\xffab'), 'spm_no_scores': vocabulary(2, NONE, SPM, [], b'ababab'),
    'spm_no_types': vocabulary(4, NONE, SPM, [], b'ab<s>'), 'spm_little': vocabulary(6, NONE, SPM, [], b'ab' * 400, 8), 'phi3': vocabulary(2 | 4 | 128, NONE, SPM, [], b'USER   ab<s>  ', 2),
    'bpe': vocabulary(1 | 2, NONE, BPE, [(1, 2), (4, 3)], b' ab ba<|im_start|>USERS'), 'bpe_special': vocabulary(1 | 2, [0, 0, 255, 255], BPE, [(1, 2), (4, 3)], b'<|im_start|>ab', 3),
    'bpe_bytes': vocabulary(1 | 2 | 16, NONE, [('ab', 1, 0), ('abab', 1, 0), ('<|im_end|>', 4, 0)], [(97, 98), (128, 128)], b'abababab \xff<|im_end|>'),
    'copies': vocabulary(2 | 4, NONE, [('a', 1, 0)] * 4 + [('', 1, 0)] * 2, [], b'aaa'), 'empty': vocabulary(0, NONE, [], [], b'a'), 'ends': vocabulary(2, NONE, [('<|end|>', 3, 0), ('<|return|>', 3, 0), ('<|call|>', 3, 0), ('</s>', 3, 0)], [], b'x'),
    'specials': vocabulary(2, NONE, [('a' * k, 4, 0) for k in range(1, 16)], [], b'a' * 40 + b'b'), 'controls': vocabulary(3 | 16, NONE, [('th', 3, 0), ('the', 1, 0)], [(116, 104), (128, 101)], b'the th'),
}
VOCAB.update({'pre%d' % i: vocabulary(1 | 2 | 16, NONE, [('ab', 1, 0)], [(97, 98)], "It's 1234 ab\n\n \u00e9\u4e2d".encode(), 0, i) for i in range(0, 64, 4)})


def evaluation(family, kind, kv, tokens, steps, patches):
    """steps: (kind, n, a, b, c); patches: (where, bits)"""
    out = bytes([family, kind, kv, tokens, len(steps)]) + b''.join(struct.pack('<Bbfff', *s) for s in steps)
    return out + b''.join(struct.pack('<HI', *p) for p in patches)


KEY = 0x8000
NAN, INFINITE, HUGE, ONE = 0x7fc00000, 0x7f800000, 0x7149f2ca, 0x3f800000
EVAL = {'family%d_type%d' % (f, t): evaluation(f, t, f % 4 | 4, 2, [(6, 8, 1.1, .1, .1), (9, 0, 5., .1, 0)], [(100 * f, NAN)] if t % 3 == 0 else [])
        for f in range(5) for t in range(f % 2, 28, 2)}
EVAL.update({'step%d' % k: evaluation(0, 25, 0, 2, [(k, 3, .5, .1, 1)], []) for k in range(12)})
EVAL.update({'key%d' % k: evaluation(k % 5, 25, 0, 2, [], [(KEY + k, (HUGE, INFINITE, ONE, 0)[k % 4])]) for k in range(25)})


def main():
    root = sys.argv[1]
    seeds = {'gguf': GGUF, 'vocab': VOCAB, 'text': {}, 'eval': EVAL}
    for i, t in enumerate(TEXTS):
        seeds['text']['text%d' % i] = bytes([i % 3, (i * 7) & 63]) + t
        seeds['text']['pre%d' % i] = bytes([3 + i * 3, 0]) + t
    for folder, files in seeds.items():
        os.makedirs(os.path.join(root, folder), exist_ok=True)
        for name, raw in files.items():
            with open(os.path.join(root, folder, name), 'wb') as f:
                f.write(raw)


main()
