"""Model folders and LoRA files as other programs write them: jobs on them give the same bits as on ours, and say with a
warning what was read otherwise than it stands, or left out."""
import json
import os
import pathlib
import shutil
import struct

import harness

PROMPT = "a very long caption " * 40


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    whole = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8:8 + length]), whole[8 + length:]
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()}


def write_safetensors(path, tensors, metadata=None):
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def rename(name, down, up):
    """A module's path in diffusers' spelling, and the part as the spelling calls it."""
    path, _, part = name.removeprefix("unet.").rpartition(".lora.")
    return path, {"down.weight": down, "up.weight": up}[part]


def changed(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


with harness.workspace() as directory, harness.Service(directory, 1) as service:
    def job(**changes):
        return harness.job(directory, num_epochs=1, checkpoint={"every_epochs": 1}, **changes)

    def warnings(ended, *expected):
        found = ended.get("warnings", [])
        assert len(found) == len(expected), found
        for words in expected:
            assert any(all(word in text for word in words) for text in found), f"no warning with {words}: {found}"

    # The same model as other versions of diffusers wrote it.
    plain = service.run(job())
    warnings(plain)
    old = directory / "old-model"
    shutil.copytree(harness.ROOT / "deploy/demo/tiny-sd", old)
    changed(old / "unet/config.json", lambda c: {**c, "upcast_attention": None, "dual_cross_attention": None, "decay": 0.9999, "optimization_step": 9,
                                                 "use_ema_warmup": False, "_name_or_path": "somewhere", "torch_dtype": "float16"})
    changed(old / "vae/config.json", lambda c: {**c, "sample_size": None, "update_after_step": 0})
    changed(old / "scheduler/scheduler_config.json", lambda c: {
        **{key: c[key] for key in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "set_alpha_to_one")},
        "_class_name": "PNDMScheduler", "skip_prk_steps": True})
    ended = service.run(job(model={"path": str(old)}))
    warnings(ended, ["steps_offset", "taken as 1"], ["clip_sample", "taken as false"], ["skip_prk_steps"])
    harness.assert_same(harness.outcome(plain), harness.outcome(ended), "the same model, written by another version")

    changed(old / "scheduler/scheduler_config.json", lambda c: {**c, "clip_sample": True, "steps_offset": 1})
    guided = {"num_steps": 10, "noise_strength": 0.8, "guidance_scale": 2.0}
    ended = service.run(job(model={"path": str(old)}, data={"negative_prompt": PROMPT}, sample=guided))
    warnings(ended, ["clip_sample", "clipped to ±1"], ["skip_prk_steps"], ["1 prompt has more than the 75 tokens"],
             ["runs 9 of them", "pipelines run 8"])

    # One LoRA in the files of several programs; its scale is 4 where nothing else says.
    trained = read_safetensors(plain["lora_path"])
    meant = {}
    for name, (dtype, shape, data) in trained.items():
        path, part = rename(name, "lora.down.weight", "lora.up.weight")
        if part == "lora.up.weight":
            data = b"".join(struct.pack("<f", 4 * value) for (value,) in struct.iter_unpack("<f", data))
        meant[f"unet.{path}.{part}"] = (dtype, shape, data)
    write_safetensors(directory / "meant/lora.safetensors", meant)
    kohya = {}
    for name, value in trained.items():
        path, part = rename(name, "lora_down.weight", "lora_up.weight")
        kohya[f"lora_unet_{path.replace('.', '_')}.{part}"] = value
        kohya[f"lora_unet_{path.replace('.', '_')}.alpha"] = ("I64", [], struct.pack("<q", 16))
    for part in ("lora_down.weight", "lora_up.weight"):
        kohya[f"lora_te_text_model_encoder_layers_0_mlp_fc1.{part}"] = ("F32", [1, 1], bytes(4))
    write_safetensors(directory / "kohya/lora.safetensors", kohya, {"ss_network_dim": "4", "ss_network_alpha": "16", "modelspec.title": "a style"})
    peft = {}
    for name, value in trained.items():
        path, part = rename(name, "lora_A.weight", "lora_B.weight")
        peft[f"base_model.model.{path}.{part}"] = value
    write_safetensors(directory / "peft/adapter_model.safetensors", peft)
    adapter = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "bias": "none", "use_dora": False, "target_modules": ["to_q"]}
    (directory / "peft/adapter_config.json").write_text(json.dumps(adapter))

    def metrics(ended):
        return (pathlib.Path(ended["output_dir"]) / "metrics.jsonl").read_text().splitlines()[0]

    def reward(ended):
        return json.loads(metrics(ended))["reward_mean"]

    expected = service.run(job(lora={"init_from": str(directory / "meant/lora.safetensors")}))
    warnings(expected)
    assert reward(expected) != reward(plain), "the LoRA changes nothing"
    for path, setting in (("kohya/lora.safetensors", "skip"), ("peft", "refuse"), ("peft/adapter_model.safetensors", "refuse")):
        ended = service.run(job(lora={"init_from": str(directory / path), "unsupported_modules": setting}))
        warnings(ended, *([["left out 2 keys of the text encoder"]] if setting == "skip" else []))
        difference = abs(reward(ended) - reward(expected))
        assert difference < 1e-4, f"{path}: another reward than with the scale in the weights, by {difference}"
    # A checkpoint's folder is one of them.
    service.run(job(lora={"init_from": os.path.dirname(plain["lora_path"])}))

    def fails(path, *words):
        ended = service.wait_end(service.submit(job(lora={"init_from": str(path)})))
        assert ended["state"] == "FAILED", ended["state"]
        for word in words:
            assert word in ended["state_reason"], f"no {word!r} in: {ended['state_reason']}"

    fails(directory / "kohya/lora.safetensors", "2 keys of the text encoder", "`lora.unsupported_modules: skip`")
    (directory / "peft/adapter_config.json").write_text(json.dumps({**adapter, "use_dora": True, "bias": "all"}))
    fails(directory / "peft", "adapter_config.json", "use_dora", "bias")
print("ok")
