"""What deploy/rewards/export and deploy/convert do without torch: tokenizer files, reading pickles, telling checkpoints apart.

    python3 tests/unit/export/export_test.py       needs Python alone; tests/parity/export has the rest
"""
import io
import json
import os
import pathlib
import pickle
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "deploy/rewards/export"), str(ROOT / "deploy/convert")]
import checkpoint  # noqa: E402
import families  # noqa: E402
import tokenizer_files  # noqa: E402

TOKENIZER = ROOT / "deploy/demo/tiny-sd/tokenizer"


class Folder(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def refused(self, expected, action, *arguments):
        with self.assertRaises(SystemExit) as caught:
            action(*arguments)
        self.assertIn(expected, str(caught.exception.code))


class TokenizerFiles(Folder):
    def test_files_come_back_as_they_were(self):
        tokenizer = tokenizer_files.read_folder(TOKENIZER, 77)
        self.assertEqual(tokenizer.description(),
                         {"type": "clip", "length": 77, "pad_token_id": 576, "bos_token_id": 575, "eos_token_id": 576})
        for name, content in tokenizer.files().items():
            self.write(name, content)
        self.assertEqual(json.loads((self.folder / "tokenizer/vocab.json").read_text()), json.loads((TOKENIZER / "vocab.json").read_text()))
        self.assertEqual((self.folder / "tokenizer/merges.txt").read_text(), (TOKENIZER / "merges.txt").read_text())
        self.assertEqual(tokenizer_files.read_folder(self.folder, 77), tokenizer)

    def test_one_file_says_the_same_as_three(self):
        expected = tokenizer_files.read_folder(TOKENIZER, 77)
        special = (tokenizer_files.BOS, tokenizer_files.EOS)
        for pair in (lambda merge: " ".join(merge), list):
            self.write("tokenizer.json", {
                "model": {"type": "BPE", "vocab": {name: index for name, index in expected.vocabulary.items() if name not in special},
                          "merges": [pair(merge) for merge in expected.merges]},
                "added_tokens": [{"content": name, "id": expected.vocabulary[name]} for name in special]})
            self.assertEqual(tokenizer_files.read_folder(self.folder, 77), expected)

    def test_padding_is_what_the_folder_says(self):
        for name in ("vocab.json", "merges.txt"):
            self.write(name, (TOKENIZER / name).read_text())
        self.write("special_tokens_map.json", {"pad_token": {"content": "!"}})
        self.assertEqual(tokenizer_files.read_folder(self.folder, 77).pad_id, json.loads((TOKENIZER / "vocab.json").read_text())["!"])
        self.write("tokenizer_config.json", {"pad_token": "<|pad|>"})
        self.refused("'<|pad|>' is not in the vocabulary", tokenizer_files.read_folder, self.folder, 77)

    def test_what_is_no_clip_tokenizer_is_refused(self):
        self.refused("has no CLIP tokenizer", tokenizer_files.read_folder, self.folder, 77)
        self.write("tokenizer.json", "{")
        self.refused("tokenizer.json is not JSON", tokenizer_files.read_folder, self.folder, 77)
        self.write("tokenizer.json", {"model": {"type": "Unigram"}})
        self.refused("is a Unigram tokenizer", tokenizer_files.read_folder, self.folder, 77)
        self.write("vocab.json", {"a": 0})
        self.write("merges.txt", "#version: 0.2\na b\n")
        self.refused("no <|startoftext|>", tokenizer_files.read_folder, self.folder, 77)
        self.write("merges.txt", "a b c\n")
        self.refused("is not a pair", tokenizer_files.read_folder, self.folder, 77)

    def test_open_clip_has_other_names(self):
        simple = type("SimpleTokenizer", (), {})()
        simple.encoder = {"!": 0, "a": 1, "<start_of_text>": 2, "<end_of_text>": 3}
        simple.bpe_ranks, simple.context_length = {("a", "b"): 0}, 77
        tokenizer = tokenizer_files.from_open_clip(simple)
        self.assertEqual(tokenizer.description(), {"type": "clip", "length": 77, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3})
        self.refused("is a HFTokenizer", tokenizer_files.from_open_clip, type("HFTokenizer", (), {})())


class Harm:
    """Its pickle makes a folder where it is read."""

    def __init__(self, path):
        self._path = str(path)

    def __reduce__(self):
        return os.mkdir, (self._path,)


class Grown(list):
    """A foreign class with everything that a pickle can do to an object."""

    def __init__(self, values):
        super().__init__(values)
        self.note = {"deep": [1, 2]}


class Pickles(unittest.TestCase):
    def read(self, content):
        module, foreign = checkpoint.pickle_module()
        return module.load(io.BytesIO(pickle.dumps(content))), foreign()

    def test_nothing_is_run(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "made"
            content, foreign = self.read({"weights": [1.5], "harm": Harm(path)})
            self.assertFalse(path.exists())
            self.assertEqual(content["weights"], [1.5])
            self.assertEqual(foreign, [f"{os.mkdir.__module__}.mkdir"])
            pickle.loads(pickle.dumps(Harm(path)))  # What an ordinary reader does.
            self.assertTrue(path.exists())

    def test_builtins_are_foreign(self):
        for call in (b"cbuiltins\neval\n(S'1/0'\ntR.", b"cbuiltins\n__import__\n(S'os'\ntR.", b"ctorch\nload\n(S'/etc/passwd'\ntR.",
                     b"ctorch._utils\n_import_dotted_name\n(S'os.system'\ntR.", b"ctorch.hub\nload\n(S'x'\ntR."):
            module, foreign = checkpoint.pickle_module()
            try:
                module.load(io.BytesIO(call))
            except ModuleNotFoundError as error:  # Where torch is not installed, its own names cannot be looked up.
                self.assertEqual(error.name, "torch")
                continue
            self.assertEqual(len(foreign()), 1, call)

    def test_foreign_objects_are_ignored_with_all_that_is_in_them(self):
        content, foreign = self.read({"step": 3, "callback": Grown([1, 2]), Grown: "a class as a key", "path": pathlib.PurePosixPath("/x")})
        self.assertEqual(content["step"], 3)
        self.assertEqual(len(content), 4)
        self.assertEqual(len(foreign), 2)

    def test_readers_do_not_share_what_they_met(self):
        self.read({"x": Grown([])})
        self.assertEqual(self.read({"x": 1})[1], [])



class Families(Folder):
    FIRST = "model.diffusion_model.input_blocks.0.0.weight"
    CROSS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"

    def tensors(self, channels=4, width=768, **others):
        return {self.FIRST: types.SimpleNamespace(shape=(320, channels, 3, 3)), self.CROSS: types.SimpleNamespace(shape=(320, width)),
                "first_stage_model.quant_conv.weight": None, "cond_stage_model.transformer.x": None, **others}

    def test_tells_which_model_a_checkpoint_is(self):
        self.assertEqual(families.check(self.tensors(), "x"), 768)
        self.assertEqual(families.check(self.tensors(width=1024), "x"), 1024)
        self.refused("x is an inpainting model", families.check, self.tensors(channels=9), "x")
        self.refused("x is an InstructPix2Pix model", families.check, self.tensors(channels=8), "x")
        self.refused("x is an SDXL checkpoint", families.check, self.tensors(**{"conditioner.embedders.0.y": None}), "x")
        self.refused("lora.init_from", families.check, {"lora_unet_a.lora_up.weight": None}, "x")
        self.refused("lora.init_from", families.check, {"unet.a.lora_A.weight": None}, "x")
        self.refused("is no Stable Diffusion checkpoint", families.check, {"weight": None}, "x")
        other = {name: value for name, value in self.tensors().items() if name != self.CROSS}
        self.refused("another structure", families.check, other, "x")
        pruned = {name: value for name, value in self.tensors().items() if not name.startswith("first_stage_model")}
        self.refused("has no VAE", families.check, pruned, "x")

    def test_writes_what_the_service_reads(self):
        for width, heads in ((768, 8), (1024, [5, 10, 20, 20])):
            folder = self.folder / str(width)
            families.write_configs(folder, width, "epsilon")
            unet = json.loads((folder / "unet/config.json").read_text())
            self.assertEqual((unet["cross_attention_dim"], unet["attention_head_dim"], unet["in_channels"]), (width, heads, 4))
            self.assertEqual(json.loads((folder / "scheduler/scheduler_config.json").read_text())["prediction_type"], "epsilon")
            self.assertEqual(json.loads((folder / "text_encoder/config.json").read_text())["hidden_size"], width)


if __name__ == "__main__":
    unittest.main(verbosity=0)
