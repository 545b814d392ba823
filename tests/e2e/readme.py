"""README's five commands for a job of one's own, as they stand there, on a small random Stable Diffusion 1.5.

    python3 tests/e2e/readme.py [PYTHON]     PYTHON: one with diffusers and peft, for README's Python lines, too

What is different from a user with the true model: the service gets cluster.yaml with free ports, the client the
address by its variable; of 50 epochs 3 are run.
"""
import array
import json
import math
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import harness

sys.dont_write_bytecode = True
sys.path.insert(0, str(harness.ROOT / "tests/bench"))
import sd15_model  # noqa: E402
import sd15_unet  # noqa: E402

SMALL = sd15_unet.Sizes(unet=(16, 32, 64, 64), vae=(16, 32, 64, 64), context=48, vocabulary=577, norm_groups=8, image=64)
LORA_RANK = 4
SECTION = (harness.ROOT / "README.md").read_text().split("\n## A job of your own, in five commands\n")[1].split("\n## ")[0]


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL).group(1)


def read_header(path):
    """{name: {dtype, shape, data_offsets}} of a safetensors file, and where its data begin."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size


def values_of(name, shape):
    """Random: those of norms around 1, others so that a layer keeps its input's size."""
    centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
    width = math.sqrt(3 / math.prod(shape[1:])) if len(shape) > 1 else 0.1
    return array.array("f", (centre + random.uniform(-width, width) for _ in range(math.prod(shape))))


def make_model(folder):
    """As it is downloaded: diffusers' layout, file names and float32, the real structure, few channels."""
    random.seed(1)
    sd15_model.write_model(folder, SMALL)
    shutil.copy(harness.ROOT / "deploy/demo/tiny-sd/model_index.json", folder)
    for zeros in list(folder.rglob("*.fp16.safetensors")):
        header, offset, data = {}, 0, []
        for name, entry in read_header(zeros)[0].items():
            data.append(values_of(name, entry["shape"]).tobytes())
            header[name] = {"dtype": "F32", "shape": entry["shape"], "data_offsets": [offset, offset + len(data[-1])]}
            offset += len(data[-1])
        text = json.dumps(header).encode()
        zeros.with_name(zeros.name.replace(".fp16", "")).write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))
        zeros.unlink()


def make_images(folder):
    folder.mkdir()
    for name in ("rgb.png", "rgb_interlaced.png", "palette4.png", "grey.png", "rgb.jpg", "progressive.jpg", "grey.jpg", "oriented/oriented6.jpg"):
        shutil.copy(harness.ROOT / "tests/data/images" / name, folder)


def edit(text, *changes):
    """What a user's editor does: each (old, new) stands in the text once."""
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in:\n{text}"
        text = text.replace(old, new)
    return text


def make_tree(tree):
    """A clone that has been built: what the service and the client need of one; what is written stays in it."""
    shutil.copytree(harness.ROOT / "deploy", tree / "deploy")  # Not a link: scripts look for the tree beside them.
    (tree / "build").symlink_to(harness.BIN.parent)
    (tree / "third_party").symlink_to(harness.ROOT / "third_party")
    cluster = tree / "deploy/cluster.yaml"
    cluster.write_text(edit(cluster.read_text(), ("port: 50051", "port: 0"), ("port: 9464", "port: 0")))


def run(command, cwd, **variables):
    """Its output; it has to end well."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    result = subprocess.run(command, cwd=cwd, env={**environment, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, timeout=600, check=False)
    print(f"$ {shlex.join(map(str, command))}\n{result.stdout}", flush=True)
    assert result.returncode == 0, f"{command} ended with {result.returncode}"
    return result.stdout


def processes_in(folder):
    found = []
    for link in pathlib.Path("/proc").glob("[0-9]*/cwd"):
        try:
            if folder in link.readlink().parents or folder == link.readlink():
                found.append(link.parent.name)
        except OSError:
            pass
    return found


def check_lora(path):
    """The tensors that diffusers wrote for a LoRA of Stable Diffusion 1.5, in this model's sizes; it has learned."""
    recorded, _ = read_header(harness.ROOT / "tests/data/parity/lora/sd15_header.safetensors")
    weights = sd15_unet.unet(SMALL)
    expected = {}
    for name in recorded:
        module, factor = name.removeprefix("unet.").removesuffix(".weight").split(".lora.")
        out, into = weights[f"{module}.weight"]
        expected[name] = [LORA_RANK, into] if factor == "down" else [out, LORA_RANK]
    header, begin = read_header(path)
    assert {name: entry["shape"] for name, entry in header.items()} == expected, "other tensors than diffusers'"
    assert {entry["dtype"] for entry in header.values()} == {"F32"}
    data = path.read_bytes()[begin:]
    for name, entry in header.items():
        assert any(data[slice(*entry["data_offsets"])]), f"{name} is zero after training"


def check_python(python, tree, lora):
    """README's Python lines, with the paths that a user puts in."""
    script = edit(block("python"), ("models/stable-diffusion-v1-5", "sd15"), ("data/images/0001.png", "pictures/rgb.png"),
                  ("out/imageddpo/jobs/job-000001/checkpoints/epoch-000050", str(lora.parent.relative_to(tree))),
                  ("(512, 512)", "(64, 64)"))
    script += "assert pipe.get_active_adapters() and image.size == (64, 64)\nprint('loaded', pipe.get_active_adapters())\n"
    output = run([python, "-c", script], tree, HF_HUB_OFFLINE="1")
    assert "unexpected keys" not in output and "missing keys" not in output, output


def five_commands(tree):
    """Runs them in order; returns the path of the LoRA."""
    build, copy, start, submit, get = [shlex.split(line, comments=True) for line in block("sh").splitlines()]
    # The tree is built, by this very target as a rule. Shown only: after a commit it would link again, under other tests.
    shown = run([*build, "--dry-run"], harness.ROOT)
    assert build[0] == "make" and "deploy/setup.sh" in shown and "--target programs" in shown, shown

    run(copy, tree)
    job = tree / copy[-1]
    job.write_text(edit(job.read_text(), ("path: models/stable-diffusion-v1-5", "path: sd15"), ("path: data/images", "path: pictures"),
                        ("num_epochs: 50", "num_epochs: 3")))
    with open(tree / "service.log", "w", encoding="utf-8") as log:
        service = subprocess.Popen([*start, "--config", "deploy/cluster.yaml"], cwd=tree, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        file = tree / "out/imageddpo/service.json"
        harness.wait_for(lambda: file.exists() or service.poll() is not None, 60, "the service's start")
        assert service.poll() is None, (tree / "service.log").read_text()
        address = {"IMAGEDDPO_ADDRESS": json.loads(file.read_text())["grpc_address"]}
        run(["build/bin/imageddpo", "validate", copy[-1]], tree)
        watched = run(submit, tree, **address)
        assert "job-000001 SUCCEEDED" in watched and "epoch 3/3" in watched
        told = run(get, tree, **address)
        assert re.search(r"^state +SUCCEEDED$", told, re.MULTILINE) and re.search(r"^reward +-?\d", told, re.MULTILINE)
    finally:
        service.send_signal(signal.SIGINT)  # Ctrl-C in its terminal.
        code = service.wait(timeout=120)
    assert code == 130, f"the service ended with {code}"
    left = processes_in(tree)
    assert not left, f"processes left behind: {left}"
    return pathlib.Path(re.search(r"^LoRA +(.+)$", told, re.MULTILINE).group(1))


def main():
    with tempfile.TemporaryDirectory(prefix="imageddpo-readme-") as folder:
        tree = pathlib.Path(folder).resolve()
        make_tree(tree)
        make_model(tree / "sd15")
        make_images(tree / "pictures")
        lora = five_commands(tree)
        # README's "What comes out, and where".
        job = tree / "out/imageddpo/jobs/job-000001"
        assert lora == job / "checkpoints/epoch-000003/pytorch_lora_weights.safetensors", lora
        for name in ("job.yaml", "metrics.jsonl", "timings.jsonl"):
            assert (job / name).stat().st_size, name
        assert list((job / "samples/epoch-000002").glob("*.png"))
        check_lora(lora)
        if len(sys.argv) > 1:
            check_python(sys.argv[1], tree, lora)
    print("ok")


main()
