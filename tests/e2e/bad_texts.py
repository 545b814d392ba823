"""Texts from outside that are not UTF-8 or hold control characters, in every place where one enters a job: it
runs, or fails with one clear error. The data directory's own name is such a text, and a neighbour on another rank
goes on all the while and ends with the bits that it has alone."""
import json
import os
import pathlib
import re
import shutil
import struct
import urllib.request
import zipfile

import harness

NAME = b"caf\xe9"
SHOWN = "caf\\xE9"
JPEG = [{"type": "jpeg", "measure": "compressibility"}]
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def real(shown):
    """The path to open, for a path as it is shown."""
    return pathlib.Path(os.fsdecode(re.sub(rb"\\x([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), shown.encode())))


def outcome(ended):
    return {"lora": real(ended["lora_path"]).read_bytes(), "metrics": (real(ended["output_dir"]) / "metrics.jsonl").read_text()}


class Neighbour:
    """A job on a rank of its own, again and again; each time with the bits of the first, which was alone."""

    def __init__(self, service, settings):
        self.service, self.settings = service, settings
        self.alone = outcome(service.run(settings))
        self.job, self.finished = service.submit(settings), 0

    def check(self, at_end=False):
        state = self.service.get(self.job)
        if at_end:
            state = self.service.wait_end(self.job)
        assert state["state"] in ("QUEUED", "STARTING", "RUNNING", "SUCCEEDED"), state
        assert state["resume_count"] == 0, state
        if state["state"] == "SUCCEEDED":
            harness.assert_same(self.alone, outcome(state), "the neighbour")
            self.finished += 1
            if not at_end:
                self.job = self.service.submit(self.settings)


def main(directory, service):
    def job(**changes):
        return harness.job(directory, topology={"colocated": 1}, **{"num_epochs": 1, "rewards": JPEG, **changes})

    neighbour = Neighbour(service, job(num_epochs=8, seed=3))

    def fails(settings, *words):
        ended = service.wait_end(service.submit(settings))
        reason = ended["state_reason"]
        assert ended["state"] == "FAILED" and ended["resume_count"] == 0, ended
        for word in words:
            assert word in reason, f"no {word!r} in: {reason}"
        assert "\\x5C" not in reason, f"escaped twice: {reason}"
        neighbour.check()

    def runs(settings):
        ended = service.run(settings)
        assert ended["resume_count"] == 0, ended
        shown = service.client("get", ended["id"]).stdout + service.client("watch", ended["id"]).stdout
        assert not CONTROL.search(shown), repr(shown)
        neighbour.check()
        return ended

    def rows(ended):
        text = (real(ended["output_dir"]) / "eval/epoch-000001.jsonl").read_text()
        assert len(text.split("\n")) - 1 == len(text.splitlines()), "a row is a line"
        return [json.loads(row) for row in text.splitlines()]

    def refused(text, *words, code=2):
        path = directory / "bad.yaml"
        path.write_bytes(text)
        result = service.client("submit", path, check=False)
        assert result.returncode == code, result
        for word in words:
            assert word in result.stderr, f"no {word!r} in: {result.stderr}"

    pictures = sorted((directory / "data/blurred").glob("*.png"))
    data = os.path.join(os.fsencode(directory), NAME + b" data")
    os.mkdir(data)
    names = [NAME + b".png", b"caf\\xE9.png", "café.png".encode(), b"-rf.png", b" 'a' \"b\".png", b"a\nb\x1b[2J.png",
             "🐱\u202egnp.png".encode(), b"x" * 251 + b".png"]
    for name, picture in zip(names, pictures):
        shutil.copyfile(picture, os.path.join(data, name))
    (directory / "link").symlink_to(os.fsdecode(data))

    # A folder whose name is not UTF-8: through a link, and as it is shown.
    ended = runs(job(data={"path": str(directory / "link")}, eval={"path": "link", "num_pictures": 8}))
    shown = f"{directory}/{SHOWN} data"
    assert ended["spec"]["data"]["path"] == shown, ended["spec"]["data"]
    ids = [row["id"] for row in rows(ended)]
    expected = [SHOWN + ".png", "caf\\x5CxE9.png"] + [name.decode() for name in names[2:]]
    assert sorted(ids) == sorted(expected), ids
    assert len(list((real(ended["output_dir"]) / "eval/epoch-000001").glob("*.png"))) == 16
    again = runs(job(data={"path": shown}, eval={"path": shown, "num_pictures": 8}))
    harness.assert_same(outcome(ended), outcome(again), "the same folder by another name")
    stored = directory / "stored.yaml"
    stored.write_text(service.client("get", again["id"], "-o", "yaml").stdout, encoding="utf-8")
    assert not CONTROL.search(stored.read_text(encoding="utf-8"))
    service.client("validate", stored)

    # metadata.jsonl names files as ids are written; captions may hold anything.
    lines = [{"file_name": name, "text": text} for name, text in zip(expected, ["a\u0000b\x1b[2J\n\u202e", "é", "", "🐱"] * 2)]
    metadata = real(shown) / "metadata.jsonl"
    metadata.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = runs(job(data={"path": shown, "prompt": "\ud83d\udc31 \x1b[2J\u202e"}, eval={"path": shown}, sample={"guidance_scale": 2.0}))
    assert [row["id"] for row in rows(ended)] == expected
    metadata.write_bytes(b'{"file_name": "caf\xe9.png"}\n')
    fails(job(data={"path": shown}), f"{SHOWN} data/metadata.jsonl:1: the line is not UTF-8", "save the file as UTF-8")
    metadata.write_text(json.dumps(lines[0]), encoding="utf-16")
    fails(job(data={"path": shown}), f"{SHOWN} data/metadata.jsonl is text in UTF-16", "save it as UTF-8")
    metadata.unlink()

    # An image that cannot be read.
    real(shown + "/" + SHOWN + ".png").write_bytes(b"not an image")
    fails(job(data={"path": shown}), f"cannot read image '{shown}/{SHOWN}.png'")

    # A model in such a folder, its config files, its tokenizer.
    model = real(f"{directory}/{SHOWN} model")
    shutil.copytree(harness.ROOT / "deploy/demo/tiny-sd", model)
    settings = job(model={"path": f"{directory}/{SHOWN} model"})
    runs(settings)
    for name in ("unet/config.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt"):
        file = model / name
        text = file.read_bytes()
        file.write_bytes(b"\n\xe9" + text)
        fails(settings, f"{SHOWN} model/{name}:2: the line is not UTF-8")
        file.write_bytes(text.decode().encode("utf-16"))
        fails(settings, f"{SHOWN} model/{name} is text in UTF-16")
        file.write_bytes(text)

    # Messages of libraries: a JSON parser's of a header, TorchScript's of a program.
    lora = real(f"{directory}/{SHOWN}.safetensors")
    header = b'{"' + NAME + b'": 1}'
    lora.write_bytes(struct.pack("<Q", len(header)) + header)
    fails(job(lora={"init_from": f"{directory}/{SHOWN}.safetensors"}), f"{SHOWN}.safetensors' is not a valid safetensors file")
    classifier = real(f"{directory}/{SHOWN}.pt")
    with zipfile.ZipFile(harness.ROOT / "deploy/demo/classifier.pt") as whole, zipfile.ZipFile(classifier, "w") as broken:
        for entry in whole.infolist():
            text = whole.read(entry)
            broken.writestr(entry.filename, NAME + b"\n\x1b[2J " + text if entry.filename.endswith(".py") else text)
    reward = [{"type": "classifier", "model": f"{directory}/{SHOWN}.pt", "measure": "logit_change"}]
    fails(job(rewards=reward), f"{SHOWN}.pt' is not a TorchScript file")

    # Job files and arguments.
    refused(b"data: {path: " + NAME + b"}", "bad.yaml:1: the line is not UTF-8", SHOWN, "save the file as UTF-8")
    refused(b"seed: 1\nname: a\x00b", "bad.yaml:2 has the control character \\x00")
    refused(json.dumps(job(data={"path": "a\0b"})).encode(), "`data.path`", "zero byte")
    refused(json.dumps(job(data={"path": "\x1b[2J\u202e"})).encode(), "`data.path`", "\\x1B[2J\\xE2\\x80\\xAE does not exist")
    refused(json.dumps(job(name="é" * 20000)).encode(), "`name`")
    path = directory / "utf16.yaml"
    path.write_text(json.dumps(job()), encoding="utf-16")
    service.client("validate", path)
    result = service.client("validate", path, "--set", os.fsdecode(b"data.path=/" + NAME), check=False)
    assert result.returncode == 2 and f"`data.path=/{SHOWN}` is not UTF-8" in result.stderr, result
    result = service.client("get", os.fsdecode(NAME) + "\x1b[2J", check=False)
    assert result.returncode == 3 and SHOWN + "\\x1B[2J" in result.stderr, result

    neighbour.check(at_end=True)
    assert neighbour.finished > 0
    port = json.loads((service.data_dir / "service.json").read_text())["http_address"]
    for page in ("metrics", "healthz"):
        urllib.request.urlopen(f"http://{port}/{page}").read().decode()
    for line in service.log.read_bytes().decode().split("\n"):
        assert not CONTROL.search(line), repr(line)


with harness.workspace() as folder:
    with harness.Service(folder, 3, folder=NAME) as running:
        main(folder, running)
print("ok")
