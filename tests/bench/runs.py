"""What can be measured: each run is one program on its own, and gives a dictionary."""
import dataclasses
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
sys.dont_write_bytecode = True
import harness  # noqa: E402  (found by the line above)
import machine  # noqa: E402

ROOT = harness.ROOT
OUT = ROOT / "out/bench"
JOBS = HERE / "jobs"
DATA = {"four": 4, "thousand": 1000}  # Folders of the demo's images, by their number.
LONGEST_RUN_S = 3600
UNET_S = 5  # Of passes of the UNet, at least: one alone says little on a machine that others use.


class Unavailable(Exception):
    """What a run needs is not there."""


def reference_python():
    python = os.environ.get("REFERENCE_PYTHON", "")
    if not python:
        raise Unavailable("needs the original: REFERENCE_PYTHON=<python with it> make bench")
    return python


def prepare(job_file, *settings):
    """The images and the model that a job names, made where they are missing."""
    text = "\n".join([(JOBS / job_file).read_text(), *settings])
    for name, count in DATA.items():
        folder = OUT / "data" / name
        if f"out/bench/data/{name}/" in text and not folder.exists():
            partial = folder.with_name(name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            subprocess.run([harness.BIN / "imageddpo-demo", "data", "--output", partial, "--train-count", str(count),
                            "--held-out-count", "4"], check=True, stdout=subprocess.DEVNULL)
            partial.rename(folder)
    model = OUT / "models/sd15"
    if "out/bench/models/sd15" in text and not model.exists():
        print("makes a model of Stable Diffusion 1.5's size in out/bench/models (4 GB)", flush=True)
        model.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([reference_python(), HERE / "make_sd15.py", model], check=True)


def service_of_tree(directory, ranks):
    """A service for job files whose paths are relative to this tree."""
    service = harness.Service(directory, ranks)
    service.config.write_text(json.dumps(dict(json.loads(service.config.read_text()), base_dir=str(ROOT))))
    return service


def model_bench(filter_text, least_seconds, **environment):
    """Rows of tests/bench_model."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([harness.BIN.parent / "tests/bench_model", f"--benchmark_filter={filter_text}", f"--benchmark_min_time={least_seconds}",
                        f"--benchmark_out={file.name}", "--benchmark_out_format=json"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, env=dict(os.environ, **environment), cwd=ROOT, timeout=LONGEST_RUN_S)
        return json.loads(pathlib.Path(file.name).read_text())["benchmarks"]


def matrix_product(precision, threads):
    """GFLOP/s of a plain matrix product."""
    row, = model_bench(f"BM_MatrixProduct/{precision}", 0.5, OMP_NUM_THREADS=str(threads))
    return row["FLOPS"] / 1e9


@dataclasses.dataclass
class Ours:
    """A job through the service: imageddpod under its launcher, with its client."""
    job: str
    ranks: int = 1
    settings: tuple = ()
    skipped_epochs: int = 1

    def measure(self):
        prepare(self.job)
        directory = pathlib.Path(tempfile.mkdtemp(prefix="imageddpo-bench-"))
        try:
            service = service_of_tree(directory, self.ranks)
            start = time.monotonic()
            with service:
                service_start_s = time.monotonic() - start
                return dict(self._run(service), service_start_seconds=service_start_s)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _run(self, service):
        settings = [word for setting in self.settings for word in ("--set", setting)]
        client = subprocess.Popen([harness.BIN / "imageddpo", "--service-file", service.data_dir / "service.json", "submit",
                                   JOBS / self.job, *settings, "--watch"], stdout=subprocess.PIPE, text=True)
        accepted = running = first_epoch = None
        lines = []
        for line in client.stdout:
            now = time.monotonic()
            lines.append(line)
            accepted = accepted or now
            running = running or (now if "RUNNING" in line else None)
            first_epoch = first_epoch or (now if re.match(r"epoch \d", line) else None)
        if client.wait(LONGEST_RUN_S) != 0 or first_epoch is None:
            raise AssertionError(f"{self.job} failed:\n{''.join(lines[-20:])}{service.log.read_text()[-3000:]}")
        job, = json.loads(service.client("list", "-o", "json").stdout)["jobs"]
        timings = (pathlib.Path(job["output_dir"]) / "timings.jsonl").read_text().splitlines()
        epochs = [json.loads(line) for line in timings][self.skipped_epochs:]
        return {"job": job["spec"], "epochs": epochs, "first_update_seconds": first_epoch - accepted,
                "start_seconds": (running or first_epoch) - accepted,
                "peak_memory_bytes": sum(machine.peak_memory_bytes(pid) for pid in service.pids().values())}


@dataclasses.dataclass
class Original:
    """The same job file under the original."""
    job: str
    epochs: int = 1
    threads: int = 0  # 0: one for each core.
    short_warm_up: bool = False

    def measure(self):
        python = reference_python()
        prepare(self.job)
        with tempfile.TemporaryDirectory() as directory:
            job = pathlib.Path(directory) / "job.yaml"
            job.write_text(subprocess.run([harness.BIN / "imageddpo", "validate", JOBS / self.job, "-o", "yaml"], check=True,
                                          stdout=subprocess.PIPE, text=True).stdout)
            command = [python, HERE / "reference_epochs.py", job, job.with_suffix(".json"), "--epochs", str(self.epochs)]
            command += ["--threads", str(self.threads)] if self.threads else []
            command += ["--short-warm-up"] if self.short_warm_up else []
            # Threads of OpenMP are set here as well: some libraries read it when they are loaded.
            environment = dict(os.environ, **({"OMP_NUM_THREADS": str(self.threads)} if self.threads else {}))
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST_RUN_S)
            if done.returncode != 0:
                raise AssertionError(f"the original failed with {self.job}:\n{done.stderr[-3000:]}")
            return json.loads(job.with_suffix(".json").read_text())


@dataclasses.dataclass
class OurUnet:
    """Seconds of a pass of the UNet, by itself."""
    model: str
    batch: int
    job: str  # That needs the same model.

    def measure(self):
        prepare(self.job)
        rows = model_bench(f"BM_Unet(Forward|ForwardBackward)/{self.batch}/real_time", UNET_S, IMAGEDDPO_BENCH_MODEL=self.model)
        seconds = {row["name"].split("/")[0]: row["real_time"] / 1e3 for row in rows}
        return {"forward_seconds": seconds["BM_UnetForward"], "forward_backward_seconds": seconds["BM_UnetForwardBackward"]}


@dataclasses.dataclass
class OurStep:
    """Seconds of a step without its passes of the UNet, of a micro-batch."""
    model: str
    batch: int
    latent_side: int
    job: str  # That needs the same model.

    def measure(self):
        prepare(self.job)
        row, = model_bench(f"BM_StepWithoutUnet/{self.batch}/real_time", 1, IMAGEDDPO_BENCH_MODEL=self.model,
                           IMAGEDDPO_BENCH_SIZE=str(self.latent_side))
        return {"step_seconds": row["real_time"] / 1e3}


@dataclasses.dataclass
class EagerUnet:
    """The same in PyTorch, by diffusers and PEFT."""
    model: str
    batch: int
    job: str

    def measure(self):
        python = reference_python()
        prepare(self.job)
        done = subprocess.run([python, HERE / "reference_unet.py", self.model, str(self.batch), str(UNET_S)], cwd=ROOT, check=True,
                              stdout=subprocess.PIPE, text=True, timeout=LONGEST_RUN_S)
        return json.loads(done.stdout.splitlines()[-1])


@dataclasses.dataclass
class Stream:
    """Records and weights between two processes."""

    def measure(self):
        output = OUT / "stream.json"
        subprocess.run([HERE / "stream.sh", harness.BIN.parent / "tests/stream_bench", output], check=True,
                       stdout=subprocess.DEVNULL, timeout=LONGEST_RUN_S)
        return json.loads(output.read_text())


@dataclasses.dataclass
class OpenImages:
    """A rollout rank's look at its images before it samples: list them and read the head of each."""
    images: int

    def measure(self):
        with tempfile.TemporaryDirectory(prefix="imageddpo-bench-") as directory:
            done = subprocess.run([harness.BIN.parent / "tests/open_bench", directory, str(self.images)], check=True,
                                  stdout=subprocess.PIPE, text=True, timeout=LONGEST_RUN_S)
        return json.loads(done.stdout)


@dataclasses.dataclass
class DeviceCounters:
    """What four more micro-batches of an epoch ask of a device that stands in for a GPU, for each kind of update."""

    def measure(self):
        done = subprocess.run([harness.BIN.parent / "tests/dist_device_jobs",
                               "--gtest_filter=DeviceJobs.AMicroBatchWaitsForTheDeviceOnce"], check=True, cwd=ROOT,
                              stdout=subprocess.PIPE, text=True, timeout=LONGEST_RUN_S,
                              env=dict(os.environ, IMAGEDDPO_SOURCE_DIR=str(ROOT)))
        names = ("launches", "synchronisations", "h2d_bytes", "d2h_bytes", "allocations")
        rows = re.findall(r"^device_counters (\w+)((?: -?\d+)+)$", done.stdout, re.MULTILINE)
        return {"micro_batches": 4, **{update: dict(zip(names, map(int, numbers.split()))) for update, numbers in rows}}


@dataclasses.dataclass
class Scrape:
    """A scrape of a service with so many ranks and jobs, and the recording of an epoch's numbers there."""
    ranks: int
    jobs: int

    def measure(self):
        done = subprocess.run([harness.BIN.parent / "tests/scrape_bench", str(self.ranks), str(self.jobs)], check=True,
                              stdout=subprocess.PIPE, text=True, timeout=LONGEST_RUN_S)
        return json.loads(done.stdout)


REWARD_BENCH = "tests/reward_bench"


@dataclasses.dataclass
class RewardCall:
    """A batch of 8 images of 512 pixels, scored by a service of this host that takes no time to score it."""

    def measure(self):
        done = subprocess.run([harness.BIN.parent / REWARD_BENCH, "call"], check=True, stdout=subprocess.PIPE, text=True,
                              timeout=LONGEST_RUN_S)
        return json.loads(done.stdout)


@dataclasses.dataclass
class RewardOverlap:
    """The same job with a reward service that answers at once, and with one that takes a share of the time that a batch is
    sampled in."""
    job: str
    share: float

    def measure(self):
        free = self._run(0)
        batch = free["job"]["device"]["device_batch_size"]
        batches = free["job"]["sample"]["batch_size"] * free["job"]["sample"]["num_batches_per_epoch"] / batch
        seconds = self.share * statistics.median(row["sample_seconds"] for row in free["epochs"]) / batches
        slow = self._run(seconds)
        return {"free_epoch_seconds": epoch_seconds(free), "slow_epoch_seconds": epoch_seconds(slow), "reward_seconds": seconds}

    def _run(self, seconds):
        with subprocess.Popen([harness.BIN.parent / REWARD_BENCH, "serve", str(seconds)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as service:
            rewards = [{"type": "service", "endpoints": [service.stdout.readline().strip()]}]
            return Ours(self.job, 1, (f"rewards={json.dumps(rewards)}", "topology={colocated: 1}"), 2).measure()


SD15 = "out/bench/models/sd15"
TINY = "deploy/demo/tiny-sd"
TINY_DATA = "data.path=out/bench/data/thousand/blurred"
RUNS = {
    "sd15_g1_fp32": Ours("sd15_g1_fp32.yaml"),
    "sd15_g1_bf16": Ours("sd15_g1_bf16.yaml"),
    "sd15_g7_fp32": Ours("sd15_g7_fp32.yaml"),
    "tiny": Ours("tiny.yaml", ranks=3),
    "tiny_replay": Ours("tiny_replay.yaml", ranks=3),
    "first_step": Ours("first_step.yaml", skipped_epochs=0),
    "lock_step": Ours("overlap.yaml", 3, ("sample.max_staleness=0",), 2),
    "run_ahead": Ours("overlap.yaml", 3, ("sample.max_staleness=1",), 2),
    "ranks_1": Ours("colocated.yaml", 3, ("topology={colocated: 1}",), 2),
    "ranks_2": Ours("colocated.yaml", 3, ("topology={colocated: 2}",), 2),
    "unet_sd15": OurUnet(SD15, 1, "sd15_g1_fp32.yaml"),
    "unet_tiny": OurUnet(TINY, 32, "tiny.yaml"),
    "step_sd15": OurStep(SD15, 2, 32, "sd15_g1_fp32.yaml"),
    "stream": Stream(),
    "open_100k": OpenImages(100_000),
    "device_counters": DeviceCounters(),
    "scrape": Scrape(64, 50),
    "reward_call": RewardCall(),
    "reward_overlap": RewardOverlap("overlap.yaml", 0.3),
    "original_sd15_g1_fp32": Original("sd15_g1_fp32.yaml", short_warm_up=True),
    "original_sd15_g1_bf16": Original("sd15_g1_bf16.yaml", short_warm_up=True),
    "original_sd15_g7_fp32": Original("sd15_g7_fp32.yaml", short_warm_up=True),
    "original_tiny_1_thread": Original("tiny.yaml", 4, threads=1),
    "original_tiny": Original("tiny.yaml", 4),
    "original_tiny_replay_1_thread": Original("tiny_replay.yaml", 4, threads=1),
    "original_tiny_replay": Original("tiny_replay.yaml", 4),
    "original_unet_sd15": EagerUnet(SD15, 1, "sd15_g1_fp32.yaml"),
    "original_unet_tiny": EagerUnet(TINY, 32, "tiny.yaml"),
}


def measure(name):
    """One round of a run, with what the machine did meanwhile."""
    run = RUNS[name]
    with machine.Watch() as watch:
        result = run.measure()
    if isinstance(run, (Ours, Original)):
        precision = "bf16" if "bf16" in name else "fp32"
        result["matrix_product_gflops"] = matrix_product(precision, getattr(run, "threads", 0) or os.cpu_count())
    return dict(result, others_cores=watch.others_cores, wall_seconds=watch.wall_seconds,
                measured_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def epoch_seconds(result):
    return statistics.median(row["epoch_seconds"] for row in result["epochs"])
