"""The planner against real runs: costs measured here, seconds per epoch predicted, the job run by the
service. Everything is measured in turn, several times over, so that a machine that is slow for a while
is slow for both sides; a run is predicted from the costs before and after it, and has to be within 25%
of that, or, on a machine that is too restless for it, the median of up to seven runs."""
import json
import pathlib
import statistics
import subprocess

import harness

MOST_ROUNDS = 7
WITHIN = 0.25
KEYS = ("epoch_seconds", "sample_seconds", "train_seconds")
TOPOLOGIES = [{"colocated": 1}, {"rollout": 1, "trainer": 1}]
# Messages of a worker wait for the messenger's next look, up to 4 ms when nothing happened for a while.
LINK = ["--link-latency-us", "4000"]


def costs(directory, name, job_file):
    path = directory / f"costs-{name}.json"
    subprocess.run([harness.BIN / "imageddpo-trace", "costs", "--job", job_file, "--output", path, "--min-seconds", "0.1"],
                   check=True)
    return path


def planner(job_file, ranks, *arguments):
    return subprocess.run([harness.BIN / "imageddpo", "plan", job_file, "--ranks", str(ranks), "-o", "json", *map(str, arguments)],
                          capture_output=True, text=True, check=False)


def predict(job_file, topology, *files):
    """The prediction of one topology."""
    result = planner(job_file, sum(topology.values()), *LINK, *[word for file in files for word in ("--costs", file)])
    assert result.returncode == 0, result.stderr
    return [p for p in json.loads(result.stdout)["predictions"] if p["topology"] == topology][0]


def measured(service, settings):
    """Medians over a job's epochs but the first two, in which every image is encoded."""
    rows = (pathlib.Path(service.run(settings)["output_dir"]) / "timings.jsonl").read_text().splitlines()
    timings = [json.loads(row) for row in rows][2:]
    return {key: statistics.median(row[key] for row in timings) for key in KEYS}


def settings_of(directory, topology):
    # 40 images, so that two epochs of 32 samples see them all; no evaluation.
    settings = harness.job(directory, num_epochs=5, topology=topology, checkpoint={"every_epochs": 100},
                           sample={"num_steps": 10, "noise_strength": 0.5, "guidance_scale": 1.0, "eta": 1.0, "batch_size": 32,
                                   "num_batches_per_epoch": 1},
                           train={"batch_size": 16, "learning_rate": 1e-3, "clip_range": 1e-3, "update": "replay"},
                           device={"device_batch_size": 8, "num_threads": 1})
    del settings["eval"]
    return settings


with harness.workspace() as directory, harness.Service(directory, 3) as service:
    files = []
    for number, topology in enumerate(TOPOLOGIES):
        files.append(directory / f"plan-{number}.yaml")
        files[-1].write_text(json.dumps(settings_of(directory, topology)))

    def medians_off():
        """What of which topology is predicted worse than allowed, by the rounds so far."""
        off = []
        for topology, rounds in zip(TOPOLOGIES, by_topology):
            for key in KEYS:
                ratio = statistics.median(entry[key] for entry in rounds)
                if not 1 - WITHIN <= ratio <= 1 + WITHIN:
                    off.append(f"{topology}: {key} is predicted {ratio:.2f} times as long")
        return off

    before = costs(directory, "start", files[0])
    by_topology = [[] for _ in TOPOLOGIES]
    for turn in range(MOST_ROUNDS):  # The first that is enough is the last.
        for number, topology in enumerate(TOPOLOGIES):
            real = measured(service, settings_of(directory, topology))
            after = costs(directory, f"{turn}-{number}", files[0])
            predicted = predict(files[number], topology, before, after)
            before = after
            by_topology[number].append({key: predicted[key] / real[key] for key in KEYS})
            print(topology, {key: f"predicted {predicted[key]:.3f}, measured {real[key]:.3f}" for key in KEYS}, flush=True)
        if not medians_off():
            break
    assert not medians_off(), medians_off()

    # `topology: auto` is, to 5%, the best of the table.
    auto = settings_of(directory, "auto")
    auto["train"]["batch_size"] = 32
    auto["device"]["device_batch_size"] = 4
    auto_file = directory / "auto.yaml"
    auto_file.write_text(json.dumps(auto))
    planned = planner(auto_file, 8, *LINK, "--costs", before)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["auto"]["epoch_seconds"] <= 1.05 * plan["predictions"][0]["epoch_seconds"], plan["auto"]["why"]

    # What is wrong is refused with the remedy.
    for arguments, code, words in [((0, "--costs", before), 2, "--ranks is 0; it must be from 1"),
                                   ((2,), 2, "imageddpo-trace costs --job"),
                                   ((2, "--costs", directory / "none.json"), 2, "imageddpo-trace costs --job")]:
        refused = planner(files[0], *arguments)
        assert refused.returncode == code and words in refused.stderr, refused

# The service takes what the planner says, and the order is that of real runs: four ranks of one thread.
with harness.workspace() as directory, harness.Service(directory, 5) as service:
    def settings(topology):
        changes = settings_of(directory, topology)
        changes["train"]["batch_size"] = 32
        return changes

    job = service.run(settings("auto"))
    assert job["topology"] == "colocated 4" and "the next best is" in job["topology_reason"], job
    split = {"rollout": 3, "trainer": 1}
    rounds = []
    while len(rounds) < MOST_ROUNDS and (not rounds or fast >= slow):
        rounds.append([measured(service, settings(topology))["epoch_seconds"] for topology in ("auto", split)])
        fast, slow = map(statistics.median, zip(*rounds))
    print(f"auto {fast:.3f} s, {split} {slow:.3f} s", flush=True)
    assert fast < slow, (fast, slow)
print("ok")
