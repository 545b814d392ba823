"""Learns a byte-pair vocabulary from the captions and writes it in the format of CLIP's tokenizer."""

import collections
import json
import pathlib
import re

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")


def byte_symbols():
    """The printable character that stands for each byte, in the vocabulary's order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    symbols = {byte: chr(byte) for byte in plain}
    symbols.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    return [symbols[byte] for byte in plain + others]


def learn_merges(captions):
    """Merges the most frequent pair (ties: alphabetical) until every word of the captions is one symbol."""
    words = collections.Counter(word for caption in captions for word in _WORD.findall(caption))
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    merges = []
    while True:
        pairs = collections.Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, parts in pieces.items():
            merged, index = [], 0
            while index < len(parts):
                if tuple(parts[index : index + 2]) == best:
                    merged.append("".join(best))
                    index += 2
                else:
                    merged.append(parts[index])
                    index += 1
            pieces[word] = merged


def write_tokenizer(folder, captions, max_tokens):
    """Writes the four files of a CLIP tokenizer; returns the size of its vocabulary."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    symbols = byte_symbols()
    merges = learn_merges(captions)
    tokens = symbols + [symbol + "</w>" for symbol in symbols]
    tokens += ["".join(merge) for merge in merges] + [START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    assert len(vocabulary) == len(tokens)
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_tokens,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        **special,
    }
    lines = ["#version: 0.2"] + [" ".join(merge) for merge in merges]
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    return len(tokens)
