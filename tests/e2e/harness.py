"""The real service for tests: imageddpod under its launcher, the real client, the demo's tiny model.

Every service has a directory and ports of its own, so that tests run side by side, and is ended with
all its processes when the `with` block ends.
"""
import codecs
import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("IMAGEDDPO_BIN_DIR", ROOT / "build/bin"))
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")  # Jobs' states.


# Bytes that are not UTF-8, as the service shows and takes them.
codecs.register_error("shown", lambda e: ("".join(f"\\x{byte:02X}" for byte in e.object[e.start:e.end]), e.end))


@contextlib.contextmanager
def workspace():
    """A temporary directory with 40 blurred images and 12 held-out ones, made by the demo's tool."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="imageddpo-e2e-"))
    try:
        subprocess.run([BIN / "imageddpo-demo", "data", "--output", directory / "data", "--train-count", "40",
                        "--held-out-count", "12"], check=True, stdout=subprocess.DEVNULL)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def job(directory, **changes):
    """A small job as a dictionary; JSON is YAML."""
    settings = {
        "name": "small", "seed": 5,
        "model": {"path": str(ROOT / "deploy/demo/tiny-sd")},
        "data": {"path": str(directory / "data/blurred")},
        "eval": {"path": str(directory / "data/held-out"), "batch_size": 4, "num_pictures": 2},
        "rewards": [{"type": "classifier", "model": str(ROOT / "deploy/demo/classifier.pt"), "measure": "logit_change"}],
        "sample": {"num_steps": 6, "noise_strength": 0.5, "guidance_scale": 1.0, "eta": 1.0, "batch_size": 16, "num_batches_per_epoch": 1},
        "train": {"batch_size": 8, "learning_rate": 1e-3, "clip_range": 1e-3},
        "num_epochs": 4,
        "checkpoint": {"every_epochs": 2, "keep": 3},
        "device": {"device_batch_size": 4, "num_threads": 1},
    }
    for key, value in changes.items():
        if isinstance(value, dict):
            settings[key] = {**settings.get(key, {}), **value}
        else:
            settings[key] = value
    return settings


class Service:
    """The service of `ranks` processes on `directory`/`folder`, with these settings of its pool."""

    def __init__(self, directory, ranks, folder=b"service", **pool):
        self.directory = directory
        self.ranks = ranks
        self.data_dir = directory / os.fsdecode(folder)
        self.log = directory / "service.log"
        self.config = directory / "cluster.yaml"
        self.config.write_text(json.dumps({
            "data_dir": os.fsencode(self.data_dir).decode(errors="shown"), "base_dir": str(directory), "allowed_roots": [str(directory), str(ROOT)],
            "grpc": {"address": "127.0.0.1", "port": 0, "insecure": True}, "http": {"port": 0, "insecure": True}, "pool": pool}))
        self.launcher = None
        self.launcher_options = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        # The service file is read as soon as the launcher runs; one of an earlier service would be wrong.
        (self.data_dir / "service.json").unlink(missing_ok=True)
        with open(self.log, "a", encoding="utf-8") as log:
            self.launcher = subprocess.Popen([ROOT / "deploy/imageddpod-run", "-n", str(self.ranks), "--config", self.config,
                                              "--program", BIN / "imageddpod", *self.launcher_options], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for(lambda: (self.data_dir / "service.json").exists() or self.ended(), 60, "the service's start")
        if self.ended():
            raise AssertionError(f"the service ended with {self.launcher.returncode}:\n{self.log.read_text()}")

    def ended(self):
        return self.launcher.poll() is not None

    def stop(self):
        if self.launcher and not self.ended():
            self.launcher.send_signal(signal.SIGTERM)
            self.launcher.wait(timeout=120)
        left = self.pids()
        assert not left, f"processes left behind: {left}"

    def pids(self):
        """{rank: pid} of imageddpod's processes, found by the service's config file on their command lines."""
        found = {}
        for process in pathlib.Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                environment = (process / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(self.config).encode() in words and words[0].endswith(b"/imageddpod"):
                rank = [e.split(b"=")[1] for e in environment if e.startswith(b"OMPI_COMM_WORLD_RANK=")]
                found[int(rank[0]) if rank else 0] = int(process.name)
        return found

    def kill(self, rank, number=signal.SIGKILL):
        os.kill(self.pids()[rank], number)

    def ranks_of(self, job_id):
        """World ranks of the job's newest gang, from the log: rollout ranks first, then trainers."""
        ranks = re.findall(rf"{job_id}: forms a gang of ranks ([0-9, ]+)", self.log.read_text())
        return [int(rank) for rank in ranks[-1].split(", ")]

    def client(self, *arguments, check=True, timeout=300):
        result = subprocess.run([BIN / "imageddpo", "--service-file", self.data_dir / "service.json", *map(str, arguments)],
                                capture_output=True, text=True, timeout=timeout, check=False)
        if check and result.returncode != 0:
            raise AssertionError(f"imageddpo {arguments} ended with {result.returncode}:\n{result.stderr}\n{self.log.read_text()}")
        return result

    def admin(self, *arguments, code=0):
        """What `imageddpo admin` prints, with the service's settings."""
        result = subprocess.run([BIN / "imageddpo", "admin", *map(str, arguments), "--config", self.config], capture_output=True, text=True,
                                timeout=120, check=False)
        assert result.returncode == code, f"admin {arguments} ended with {result.returncode}: {result.stderr}"
        return result.stdout.strip()

    def submit(self, settings):
        """The job's id. A service that restarts meanwhile is waited for."""
        path = self.directory / f"job-{time.monotonic_ns()}.yaml"
        path.write_text(json.dumps(settings))
        result = [None]

        def accepted():
            result[0] = self.client("submit", path, "--request-id", path.name, check=False)
            return result[0].returncode != 4

        wait_for(accepted, 60, "the service to take a job")
        assert result[0].returncode == 0, result[0]
        return re.search(r"job-\d+", result[0].stdout).group()

    def get(self, job_id):
        """The job, or None while the service restarts."""
        result = self.client("get", job_id, "-o", "json", check=False)
        return json.loads(result.stdout) if result.returncode == 0 else None

    def wait(self, job_id, condition, timeout, what):
        last = [None]

        def holds():
            last[0] = self.get(job_id) or last[0]
            return last[0] is not None and condition(last[0])

        try:
            wait_for(holds, timeout, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; the job: {json.dumps(last[0])[:3000]}\n{self.log.read_text()[-6000:]}") from None
        return last[0]

    def wait_end(self, job_id, timeout=300):
        return self.wait(job_id, lambda j: j["state"] in ENDED, timeout, f"{job_id} to end")

    def run(self, settings, timeout=300):
        ended = self.wait_end(self.submit(settings), timeout)
        assert ended["state"] == "SUCCEEDED", f"{ended['state']}: {ended['state_reason']}\n{self.log.read_text()[-6000:]}"
        return ended


def state_of(pid):
    """One letter, as `T` of a stopped process; None: there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


def own_mounts():
    """Starts this test again where it may mount disks that nobody else sees. Returns why it may not, as in most containers;
    None in the new process."""
    if "IMAGEDDPO_OWN_MOUNTS" in os.environ:
        return None
    own = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount"]
    tried = subprocess.run([*own, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"this system lets nobody mount a small disk: {tried.stderr.strip()}"
    os.execvpe("unshare", [*own, sys.executable, *sys.argv], {**os.environ, "IMAGEDDPO_OWN_MOUNTS": "1"})


@contextlib.contextmanager
def small_disk(folder):
    """A disk of 128 MB mounted on it, which is made. After own_mounts()."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(path):
    """A file as large as its disk allows."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error


def outcome(ended):
    """What must be equal, bit for bit, between two runs of one job."""
    return {"lora": pathlib.Path(ended["lora_path"]).read_bytes(),
            "metrics": (pathlib.Path(ended["output_dir"]) / "metrics.jsonl").read_text()}


def assert_same(left, right, what):
    assert left["metrics"] == right["metrics"], f"{what}: metrics.jsonl differs:\n{left['metrics']}\n{right['metrics']}"
    assert left["lora"] == right["lora"], f"{what}: the LoRA differs"


def wait_for(condition, timeout, what):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.1)
