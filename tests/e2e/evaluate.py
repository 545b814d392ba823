"""Evaluations and samples as jobs of their own, and the LoRA of a job's best evaluation."""
import json
import pathlib
import re
import shutil
import struct
import tempfile

import harness

MODEL = harness.ROOT / "deploy/demo/tiny-sd"
GAP = 8  # Pixels between the pictures of a row.


def rows(ended, epoch):
    lines = (pathlib.Path(ended["output_dir"]) / f"eval/epoch-{epoch:06d}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def mean(values):
    return sum(values) / len(values)


def size(png):
    head = pathlib.Path(png).read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n", png
    return struct.unpack(">II", head[16:24])


def new_jobs(result):
    """The ids of the jobs that a command has submitted."""
    return re.findall(r"^(job-\d+) ", result.stderr, re.MULTILINE)


def assert_rows(ours, theirs, what):
    """Every number of the job's own evaluation is the same; there are distances besides."""
    assert len(ours) == len(theirs), what
    for our, their in zip(ours, theirs):
        assert {key: our.get(key) for key in their} == their, (what, our, their)


with harness.workspace() as directory, harness.Service(directory, 3) as service:
    held_out = directory / "data/held-out"
    settings = harness.job(directory, checkpoint={"every_epochs": 2, "keep": 1, "best": "classifier.logit"})
    settings["eval"]["every_epochs"] = 1
    ended = service.run(settings)
    last = rows(ended, 4)

    # The best: of the numbers that the evaluations have, the largest, of equal ones the first.
    logits = [mean([row["classifier.logit"] for row in rows(ended, epoch)]) for epoch in range(5)]
    best = max(range(5), key=lambda epoch: (logits[epoch], -epoch))
    assert ended["best_epoch"] == best, (ended["best_epoch"], logits)
    assert abs(ended["best_value"] - logits[best]) < 1e-9, (ended["best_value"], logits)
    folder = pathlib.Path(ended["best_lora_path"]).parent
    assert folder.name == f"best-epoch-{best:06d}", folder
    kept = sorted(path.name for path in folder.parent.iterdir())
    assert kept == [folder.name, "epoch-000004"], kept
    assert f"classifier.logit {logits[best]:.4g} after {best} epochs" in service.client("get", ended["id"]).stdout

    # The job's newest LoRA, with the job's settings: the numbers of the job's last evaluation, bit for bit. The base
    # model: those of its first one, whose fresh LoRA changes nothing.
    result = service.client("eval", ended["id"], "--data", held_out, "--base", "-o", "json")
    measures = json.loads(result.stdout)["measures"]
    tuned, base = (service.get(job_id) for job_id in new_jobs(result))
    assert tuned["state"] == base["state"] == "SUCCEEDED" and tuned["topology"] == "colocated 1", tuned
    assert_rows(rows(tuned, 0), last, "the newest LoRA")
    assert_rows(rows(base, 0), rows(ended, 0), "the base model")
    for part in ("input_l1.value", "input_psnr.value", "input_ssim.value"):
        assert part in measures and measures[part]["stderr"] > 0, measures
    difference = mean([a["reward"] - b["reward"] for a, b in zip(rows(tuned, 0), rows(base, 0))])
    assert abs(measures["reward"]["difference_mean"] - difference) < 1e-9, (measures["reward"], difference)
    assert abs(measures["classifier.correct"]["mean"] - mean([row["classifier.correct"] for row in last])) < 1e-9

    # The same by the LoRA's file and the job's file; and the best one.
    path = directory / "job.yaml"
    path.write_text(json.dumps(settings))
    result = service.client("eval", ended["lora_path"], "--job", path, "--data", held_out)
    assert "accuracy (classifier.correct)" in result.stdout and "WITH LORA" in result.stdout, result.stdout
    assert_rows(rows(service.get(new_jobs(result)[0]), 0), last, "the LoRA's file")
    result = service.client("eval", ended["id"], "--best", "--data", held_out)
    assert_rows(rows(service.get(new_jobs(result)[0]), 0), rows(ended, best), "the best LoRA")

    # A job that evaluates its moving average: `eval` does too, and --ema takes it of any checkpoint.
    averaged = harness.job(directory, train={"ema_decay": 0.5})
    averaged["eval"]["use_ema"] = True
    averaged = service.run(averaged)
    result = service.client("eval", averaged["id"], "--data", held_out)
    evaluated = service.get(new_jobs(result)[0])
    assert evaluated["spec"]["lora"]["init_from"].endswith("/lora_ema.safetensors"), evaluated["spec"]["lora"]
    assert_rows(rows(evaluated, 0), rows(averaged, averaged["progress"]["epoch"]), "the moving average")
    result = service.client("eval", averaged["lora_path"], "--ema", "--job", path, "--data", held_out)
    assert_rows(rows(service.get(new_jobs(result)[0]), 0), rows(evaluated, 0), "the average of a checkpoint")

    # A LoRA without anything else: distances alone.
    result = service.client("eval", ended["lora_path"], "--model", MODEL, "--data", held_out, "--set", "eval.num_steps=4", "-w")
    assert "input_l1.value" in result.stdout and "\nreward" not in result.stdout, result.stdout
    assert "SUCCEEDED" in result.stderr, result.stderr

    # Pictures: input, base model and LoRA side by side, under names of their own.
    picture = sorted(path for path in held_out.rglob("*.png"))[0]
    (directory / "mine").mkdir()
    other = shutil.copy(picture, directory / "mine" / picture.name)
    side = size(pathlib.Path(ended["output_dir"]) / "eval/epoch-000000/0-input.png")[0]
    sample = ["sample", "--lora", ended["lora_path"], "--model", MODEL, "--noise-strength", "0.5",
              "--guidance-scale", "1", "--seed", "3", "--out", directory / "pictures"]
    service.client(*sample, "--num-steps", "6", picture, other)
    made = sorted((directory / "pictures").iterdir())
    assert [path.name for path in made] == sorted([f"{picture.stem}.png", f"{picture.stem}-2.png"]), made
    assert all(size(path) == (3 * side + 2 * GAP, side) for path in made), [size(path) for path in made]

    # What cannot be done is refused with the remedy.
    with tempfile.TemporaryDirectory() as elsewhere:
        outside = shutil.copy(picture, pathlib.Path(elsewhere) / "outside.png")
        for arguments, code, words in [
                ((*sample, outside), 2, "lies outside the folders that jobs may use"),
                ((*sample, "--num-steps", "0", picture), 2, "num_steps` is 0"),
                (("eval", ended["lora_path"], "--data", held_out), 2, "--model DIR, or a job file with --job FILE"),
                (("eval", "job-000099", "--data", held_out), 3, "job-000099"),
                (("eval", ended["id"], "--ema", "--data", held_out), 2, "`train.ema_decay` is 0"),
                (("eval", ended["id"], "--model", MODEL, "--data", held_out), 2, "go with a LoRA")]:
            refused = service.client(*arguments, check=False)
            assert refused.returncode == code and words in refused.stderr, (arguments, refused)

    # A job file without epochs.
    alone = service.run(harness.job(directory, num_epochs=0))
    assert_rows(rows(alone, 0), rows(ended, 0), "num_epochs: 0")
    assert any("`data.path` is not read" in warning for warning in alone["warnings"]), alone["warnings"]
print("ok")
