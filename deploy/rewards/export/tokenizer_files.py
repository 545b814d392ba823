"""The tokenizer inside a reward file: a CLIP byte-pair vocabulary with its merges, and the ids around a text."""
import dataclasses
import json
import pathlib

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    vocabulary: dict  # token → id; special tokens under transformers' names
    merges: tuple     # ("a", "b</w>"), the first ones first
    length: int       # tokens of one text, with its beginning, end and padding
    pad_id: int

    @property
    def bos_id(self):
        return self.vocabulary[BOS]

    @property
    def eos_id(self):
        return self.vocabulary[EOS]

    def description(self):
        """What imageddpo.json says of it."""
        return {"type": "clip", "length": self.length, "pad_token_id": self.pad_id, "bos_token_id": self.bos_id, "eos_token_id": self.eos_id}

    def files(self):
        """Name in the archive → content."""
        merges = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in self.merges)
        return {"tokenizer/vocab.json": json.dumps(self.vocabulary, ensure_ascii=False), "tokenizer/merges.txt": merges}


def _read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"{path} is not JSON: {error}") from None


def _content(token):
    """A special token is written as a text or as an object with its content."""
    return token.get("content") if isinstance(token, dict) else token


def _pair(merge, path):
    parts = tuple(merge.split(" ") if isinstance(merge, str) else merge)
    if len(parts) != 2:
        raise SystemExit(f"{path}: the merge {merge!r} is not a pair of tokens")
    return parts


def _vocabulary_and_merges(folder):
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        path = folder / "merges.txt"
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#version")]
        return _read_json(folder / "vocab.json"), tuple(_pair(line, path) for line in lines)
    path = folder / "tokenizer.json"
    if not path.exists():
        raise SystemExit(f"{folder} has no CLIP tokenizer: vocab.json and merges.txt, or tokenizer.json. "
                         "Copy the model's whole folder, or name the tokenizer's with --tokenizer")
    content = _read_json(path)
    model = content.get("model", {})
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise SystemExit(f"{path} is a {model.get('type')} tokenizer; reward files know CLIP's byte pairs only")
    vocabulary = dict(model["vocab"])
    vocabulary.update({token["content"]: token["id"] for token in content.get("added_tokens", [])})
    return vocabulary, tuple(_pair(merge, path) for merge in model["merges"])


def read_folder(folder, length):
    """The tokenizer of a transformers or diffusers folder.

    length: tokens of a text that the model takes. Exits with the file's name where something is missing.
    """
    folder = pathlib.Path(folder)
    if (folder / "tokenizer").is_dir():
        folder = folder / "tokenizer"
    vocabulary, merges = _vocabulary_and_merges(folder)
    for token in (BOS, EOS):
        if token not in vocabulary:
            raise SystemExit(f"{folder}: the vocabulary has no {token}; this is not a CLIP tokenizer")
    pad = EOS
    for name in ("special_tokens_map.json", "tokenizer_config.json"):  # The second one has the last word.
        if (folder / name).exists():
            pad = _content(_read_json(folder / name).get("pad_token")) or pad
    if pad not in vocabulary:
        raise SystemExit(f"{folder}: the padding token {pad!r} is not in the vocabulary")
    return Tokenizer(vocabulary, merges, length, vocabulary[pad])


def from_open_clip(tokenizer):
    """open_clip's SimpleTokenizer, whose special tokens have other names and whose padding is the id 0."""
    if type(tokenizer).__name__ != "SimpleTokenizer":
        raise SystemExit(f"the model's tokenizer is a {type(tokenizer).__name__}; reward files know CLIP's byte pairs only")
    names = {"<start_of_text>": BOS, "<end_of_text>": EOS}
    vocabulary = {names.get(token, token): index for token, index in tokenizer.encoder.items()}
    return Tokenizer(vocabulary, tuple(tokenizer.bpe_ranks), tokenizer.context_length, 0)
