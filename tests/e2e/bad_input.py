"""Every kind of bad input, over the real client: a clear error that names the thing, the right exit code,
and a service that runs the next job."""
import json
import pathlib
import shutil
import subprocess

import harness


def refused(service, settings, *words, code=2):
    path = service.directory / "bad.yaml"
    path.write_text(json.dumps(settings))
    result = service.client("submit", path, check=False)
    assert result.returncode == code, f"exit code {result.returncode}, expected {code}: {result.stderr}"
    for word in words:
        assert word in result.stderr, f"no {word!r} in: {result.stderr}"


def fails(service, settings, *words):
    ended = service.wait_end(service.submit(settings))
    assert ended["state"] == "FAILED", ended["state"]
    for word in words:
        assert word in ended["state_reason"], f"no {word!r} in: {ended['state_reason']}"


def not_started(*arguments, word):
    """The launcher and the service refuse: one line, once, exit code 2."""
    result = subprocess.run([harness.ROOT / "deploy/imageddpod-run", "--program", harness.BIN / "imageddpod", *arguments],
                            capture_output=True, text=True, timeout=120, check=False)
    said = (result.stdout + result.stderr).splitlines()
    assert result.returncode == 2 and len(said) == 1 and word in said[0], f"exit code {result.returncode}: {said}"


with harness.workspace() as directory, harness.Service(directory, 2) as service:
    def job(**changes):
        return harness.job(directory, num_epochs=1, **changes)

    refused(service, job(sample={"num_step": 3}), "num_step", "num_steps")
    refused(service, job(sample={"batch_size": 15}), "batch_size")
    refused(service, job(device={"device_batch_size": 3}), "device_batch_size")
    refused(service, job(model={"path": str(directory / "nowhere")}), "nowhere")
    refused(service, job(model={"path": "/etc"}), "/etc")
    refused(service, job(data={"path": str(directory / "empty")}), "empty")
    refused(service, job(topology={"rollout": 7, "trainer": 3}), "topology.rollout")
    refused(service, job(topology={"rollout": 4, "trainer": 1}), "topology", "pool has 1")
    refused(service, job(model={"precision": "fp16"}), "fp16", "use `bf16`")
    refused(service, job(data={"resolution": 8192}, device={"device_batch_size": "auto"}), "GB on a rank", "gradient_checkpointing")
    refused(service, job(train={"optimizer": "lion"}), "train.optimizer", "adamw8bit")

    model = directory / "model"
    shutil.copytree(harness.ROOT / "deploy/demo/tiny-sd", model)
    weights = model / "unet/diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    fails(service, job(model={"path": str(model)}), "unet/diffusion_pytorch_model.safetensors")
    weights.write_bytes(whole)
    config = model / "unet/config.json"
    text = json.loads(config.read_text())
    config.write_text(json.dumps({**text, "resnet_time_scale_shift": "scale_shift"}))
    fails(service, job(model={"path": str(model)}), "config.json", "resnet_time_scale_shift")
    config.write_text(json.dumps(text))

    data = directory / "some"
    shutil.copytree(directory / "data/blurred", data)
    lines = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    del lines[3]["label"]
    (data / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    fails(service, job(data={"path": str(data)}), "label", lines[3]["id"])
    lines[3]["label"] = 0
    (data / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for line in lines:
        (data / line["file_name"]).write_bytes(b"not an image")
    fails(service, job(data={"path": str(data)}), ".png")

    # Texts that are not UTF-8.
    (data / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-16")
    fails(service, job(data={"path": str(data)}), "metadata.jsonl", "UTF-16", "save it as UTF-8")
    (data / "metadata.jsonl").write_bytes(b'{"file_name": "caf\xe9.png"}\n')
    fails(service, job(data={"path": str(data)}), "metadata.jsonl:1", "not UTF-8", "caf\\xE9.png")
    named = directory / "names"
    named.mkdir()
    for i, picture in enumerate(sorted((directory / "data/blurred").glob("*.png"))[:8]):
        shutil.copyfile(picture, bytes(named) + b"/caf\xe9-%d.png" % i)
    reward = [{"type": "jpeg", "measure": "compressibility"}]
    ended = service.run(job(data={"path": str(named)}, eval={"path": str(named)}, rewards=reward))
    rows = (pathlib.Path(ended["output_dir"]) / "eval/epoch-000001.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["id"] == "caf\\xE9-0.png", rows[0]

    missing = service.client("get", "job-000999", check=False)
    assert missing.returncode == 3 and "job-000999" in missing.stderr, missing
    cancelled = service.submit(job(sample={"num_batches_per_epoch": 64}))
    service.wait(cancelled, lambda j: j["state"] == "RUNNING", 60, "the job to run")
    service.client("cancel", cancelled)
    assert service.wait_end(cancelled, 30)["state"] == "CANCELLED"
    service.run(job())
    assert not list(pathlib.Path(service.data_dir).rglob("*.tmp*")), "half-written files were left behind"
print("ok")

with harness.workspace() as directory:
    config = directory / "cluster.yaml"
    config.write_text("nonsense: 3\n")
    not_started("--config", config, word="nonsense")
    not_started("--", "--what", word="--what")
    checked = subprocess.run([harness.ROOT / "deploy/imageddpod-run", "--check", "--program", harness.BIN / "imageddpod",
                              "--config", config], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 2 and "nonsense" in checked.stderr, f"exit code {checked.returncode}: {checked.stderr}"
    not_started("--", "--grpc-port", "99999", word="--grpc-port")
