"""The single pass: where the job allows it, same bits on 1, 2 and 3 ranks, the replay's update but for rounding."""
import json
import pathlib
import struct

import harness

# One update an epoch, 4 micro-batches, 4 gradient shards; two branches, and images that come back in later epochs.
SETTINGS = {"train": {"batch_size": 16, "learning_rate": 1e-3, "clip_range": 1e-3}, "num_epochs": 3}


def stored_update(ended):
    """The update as it was resolved at submit, from the stored job."""
    lines = (pathlib.Path(ended["output_dir"]) / "job.yaml").read_text().splitlines()
    return [line.split(":")[1].strip() for line in lines if line.strip().startswith("update:")][0]


def floats(path):
    """Every value of a safetensors file of float32."""
    data = pathlib.Path(path).read_bytes()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    return struct.unpack(f"<{(len(data) - begin) // 4}f", data[begin:])


def rows(ended):
    return [json.loads(line) for line in (pathlib.Path(ended["output_dir"]) / "metrics.jsonl").read_text().splitlines()]


with harness.workspace() as directory:
    def run(service, ranks=None, **changes):
        settings = {**SETTINGS, **changes}
        settings["train"] = {**SETTINGS["train"], **changes.get("train", {})}
        if ranks:
            settings["topology"] = {"colocated": ranks}
        return service.run(harness.job(directory, **settings))

    with harness.Service(directory, 4) as service:
        single = run(service, 1)
        assert stored_update(single) == "single_pass", stored_update(single)
        for row in rows(single):
            assert (row["approx_kl"], row["clipfrac"], row["ratio_first_step_max_error"]) == (0, 0, 0), row
        for ranks in (2, 3):
            harness.assert_same(harness.outcome(single), harness.outcome(run(service, ranks)), f"colocated {ranks}")
        guided = {"sample": {**harness.job(directory)["sample"], "guidance_scale": 3.0}, "data": {"prompt": "a shoe"}, "num_epochs": 2}
        harness.assert_same(harness.outcome(run(service, 1, **guided)), harness.outcome(run(service, 3, **guided)),
                            "guided, colocated 3")

        # By default the pool's size decides the topology, and nothing but the topology.
        unnamed = run(service)
        assert stored_update(unnamed) == "replay", stored_update(unnamed)
        replay = run(service, 2, train={"update": "replay"})
        harness.assert_same(harness.outcome(unnamed), harness.outcome(replay), "replay, colocated 2")

        # Activations that are computed again have the same bits, in both.
        again = {"gradient_checkpointing": True}
        harness.assert_same(harness.outcome(single), harness.outcome(run(service, 2, device=again)), "single pass, recomputed")
        harness.assert_same(harness.outcome(replay), harness.outcome(run(service, 2, train={"update": "replay"}, device=again)),
                            "replay, recomputed")

        # The first epoch samples the same images; the gradient is the same but for rounding.
        ours, theirs = rows(single)[0], rows(replay)[0]
        for key in ("reward_mean", "reward_std", "parts_mean"):
            assert ours[key] == theirs[key], (key, ours, theirs)
        for key in ("loss", "grad_norm"):
            assert abs(ours[key] - theirs[key]) <= 1e-5 * abs(theirs[key]) + 1e-7, (key, ours, theirs)
        assert harness.outcome(single) != harness.outcome(replay), "the replay was no replay"
        largest = max(abs(a - b) for a, b in zip(floats(single["lora_path"]), floats(replay["lora_path"])))
        assert largest < 1e-3, largest

        refused = service.directory / "refused.yaml"
        refused.write_text(json.dumps(harness.job(directory, train={"update": "single_pass"}, topology={"colocated": 1})))
        result = service.client("submit", refused, check=False)
        assert result.returncode != 0 and "single_pass` is not possible: an epoch has 2 updates" in result.stderr, result.stderr
print("ok")
