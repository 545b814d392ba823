"""The reward of the original's application, CLIP's logit change minus LPIPS, trains the demo's model both ways: as TorchScript
files, of which deploy/rewards/export has made CLIP's, and as a service of one's own in numpy (application_reward.py)."""
import json
import pathlib
import subprocess
import sys
import zipfile

import rewards_harness
from rewards_harness import harness

sys.dont_write_bytecode = True
EXPORTED = harness.ROOT / "tests/data/parity/rewards/labels/reward.pt"
CLASSES = 4  # Of that file.
SCRIPT_FILE = harness.BIN.parent / "tests/reward_script"
TOLERANCE = 1e-4  # Float32 there, float64 in numpy; values are of the order of 1.
LPIPS = """
def forward(self, generated, input):
  first = torch.sin(torch.arange(216, dtype=7) * 1.7).to(6).reshape([8, 3, 3, 3]) / 5.0
  second = torch.sin(torch.arange(1152, dtype=7) * 2.3).to(6).reshape([16, 8, 3, 3]) / 5.0
  a = torch.relu(torch.conv2d(generated * 2.0 - 1.0, first, None, [2, 2], [1, 1]))
  b = torch.relu(torch.conv2d(input * 2.0 - 1.0, first, None, [2, 2], [1, 1]))
  c = torch.relu(torch.conv2d(a, second, None, [2, 2], [1, 1]))
  d = torch.relu(torch.conv2d(b, second, None, [2, 2], [1, 1]))
  near = a / torch.sqrt((a * a).sum([1], True) + 0.001) - b / torch.sqrt((b * b).sum([1], True) + 0.001)
  far = c / torch.sqrt((c * c).sum([1], True) + 0.001) - d / torch.sqrt((d * d).sum([1], True) + 0.001)
  return (near * near).sum([1]).mean([1, 2]) + (far * far).sum([1]).mean([1, 2])
"""


def write_labels(path):
    """The exported file, whose reward is another of its outputs here."""
    with zipfile.ZipFile(EXPORTED) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("/extra/imageddpo.json"):
                data = json.dumps({**json.loads(data), "value": "logit_change"}).encode()
            new.writestr(zipfile.ZipInfo(name), data)
    return str(path)


def write_lpips(path):
    subprocess.run([SCRIPT_FILE, path, json.dumps({"format": 1, "inputs": ["generated", "input"]})], input=LPIPS, text=True, check=True)
    return str(path)


def relabel(folder):
    """Labels that the file's classes have."""
    path = folder / "metadata.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**entry, "label": entry["label"] % CLASSES}) + "\n" for entry in entries))


def rows_of(service, directory, rewards):
    """The rows of a job that has trained with them."""
    ended = service.run(harness.job(directory, rewards=rewards, num_epochs=2, eval={"max_images": 4}, topology={"rollout": 1, "trainer": 1}))
    rows = [json.loads(row) for row in (pathlib.Path(ended["output_dir"]) / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 0, 1, 1], rows
    assert all(row["grad_norm"] > 0 and row["reward_std"] > 1e-3 for row in rows), rows
    return rows


def main():
    with harness.workspace() as directory, rewards_harness.installed() as package, harness.Service(directory, 3) as service:
        for folder in ("blurred", "held-out"):
            relabel(directory / "data" / folder)
        files = rows_of(service, directory, [
            {"type": "torchscript", "model": write_labels(directory / "labels.pt"), "name": "labels", "clamp": 10},
            {"type": "torchscript", "model": write_lpips(directory / "lpips.pt"), "name": "lpips", "weight": -1.8}])
        address = f"unix:{directory}/reward.sock"
        with rewards_harness.Process(package, rewards_harness.HERE / "application_reward.py", EXPORTED, address, log=directory / "reward.log"):
            served = rows_of(service, directory, [{"type": "service", "endpoints": [address], "name": "application"}])
    file, service_row = files[0], served[0]
    pairs = {"logit change": (file["parts_mean"]["labels.value"], service_row["parts_mean"]["application.logit_change"]),
             "LPIPS": (file["parts_mean"]["lpips.value"], service_row["parts_mean"]["application.lpips"]),
             "reward": (file["reward_mean"], service_row["reward_mean"]), "its spread": (file["reward_std"], service_row["reward_std"])}
    for what, (of_files, of_service) in pairs.items():
        assert abs(of_files - of_service) < TOLERANCE, (what, of_files, of_service)
    assert file["parts_mean"]["lpips.value"] > 10 * TOLERANCE, file
    print("ok")


main()
