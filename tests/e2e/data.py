"""Images as people have them: bad ones are all named at the start, or skipped with the bits of a job on the others;
20 bad ones of every kind among 2,000 are found in seconds; captions of other tools are used; what is not understood is
told; a set that changes while a job is interrupted is refused, unless that is allowed; one severity of an array is
chosen; a job learns to repair clean images that it has corrupted itself."""
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import time
import urllib.request
import zlib

import harness

REWARD = [{"type": "jpeg", "measure": "compressibility"}]


def folder_of(pictures, path):
    """A folder of images without a metadata file."""
    path.mkdir()
    for picture in pictures:
        shutil.copyfile(picture, path / picture.name)
    return path


def failed(service, settings, *words):
    ended = service.wait_end(service.submit(settings))
    assert ended["state"] == "FAILED", ended
    for word in words:
        assert word in ended["state_reason"], f"no {word!r} in: {ended['state_reason']}"


def png_of(width, height, data=b""):
    """A PNG whose head says this size, whatever its pixels are."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def pixels_of(png):
    """The bytes of an 8-bit RGB PNG, row after row."""
    at, packed, width = 8, b"", 0
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        body = png[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, _, *form = struct.unpack(">IIBBBBB", body)
            assert form == [8, 2, 0, 0, 0], form
        packed += body if kind == b"IDAT" else b""
        at += 12 + size
    raw, stride = zlib.decompress(packed), 3 * width
    pixels, above = b"", bytes(stride)
    for begin in range(0, len(raw), stride + 1):
        kind, row = raw[begin], bytearray(raw[begin + 1:begin + 1 + stride])
        for i, up in enumerate(above):
            left, corner = (row[i - 3], above[i - 3]) if i >= 3 else (0, 0)
            paeth = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
            row[i] = (row[i] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
        pixels, above = pixels + row, bytes(row)
    return pixels


def npy_of(shape, data):
    """A file of numpy.save with uint8."""
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    head = head.ljust((len(head) + 10) // 64 * 64 + 64 - 10 - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + data


def apart(left, right):
    """Mean absolute difference, of 1."""
    assert len(left) == len(right) > 0
    return sum(abs(a - b) for a, b in zip(left, right)) / len(left) / 255


def write_bad_images(folder, picture):
    """20 files that are no images, each in another way; their names."""
    png, whole = picture.read_bytes(), harness.ROOT / "tests/data"

    def cut(name, share=0.5):
        content = (whole / name).read_bytes()
        return content[:int(len(content) * share)]

    middle = len(png) // 2
    contents = {
        "cut.png": png[:60], "cut-in-its-head.png": png[:20], "cut-at-its-end.png": png[:-30],
        "changed.png": png[:middle] + bytes(255 - byte for byte in png[middle:middle + 8]) + png[middle + 8:],
        "cut.jpg": cut("images/rgb.jpg", 0.6), "cut-behind-its-magic.jpeg": b"\xff\xd8\xff",
        "empty.png": b"", "zeros.jpg": bytes(5000), "wrong-magic.png": b"\x80" + png[1:],
        "page.jpg": b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n", "no-pixels.png": png_of(0, 0),
        "bomb.png": png_of(30000, 30000, bytes(30000)), "cut.webp": cut("pictures/webp/lossy.webp"),
        "cut.tiff": cut("pictures/tiff/rgb.tif"), "cut.gif": cut("pictures/gif/plain.gif"), "cut.bmp": cut("pictures/bmp/rgb24.bmp"),
        "phone.jpg": b"\0\0\0\x18ftypheic" + bytes(16), "archive.png": b"PK\x03\x04" + bytes(100)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "gone.png").symlink_to("nowhere.png")
    last = folder / "unreadable.png"
    if os.geteuid() == 0:
        last.symlink_to(last.name)  # root may read everything, but not this.
    else:
        last.write_bytes(png)
        last.chmod(0)
    return [*contents, "gone.png", last.name]


def state_of(job, epoch):
    return json.loads((pathlib.Path(job["output_dir"]) / f"checkpoints/epoch-{epoch:06d}/state.json").read_text())


with harness.workspace() as directory:
    pictures = sorted((directory / "data/blurred").glob("*.png"))
    assert len(pictures) == 40, pictures
    broken = folder_of(pictures, directory / "broken")
    cut, text = broken / pictures[7].name, broken / pictures[21].name
    cut.write_bytes(cut.read_bytes()[:60])  # Its head is good.
    others = folder_of([p for p in pictures if p.name not in (cut.name, text.name)], directory / "others")

    def job(path, **data):
        settings = harness.job(directory, data={"path": str(path), **data}, rewards=REWARD, num_epochs=3)
        del settings["eval"]
        return settings

    with harness.Service(directory, 3) as service:
        # The pixels of one: named in the first epochs, although it may not be drawn.
        failed(service, job(broken), cut.name, "1 of 40 images", "data.on_error")
        text.write_text("not an image")
        failed(service, job(broken), text.name, "1 of 40 images", "data.on_error")

        checked = service.client("check-data", broken, check=False)
        assert checked.returncode == 1, checked
        assert cut.name in checked.stderr and text.name in checked.stderr, checked.stderr
        assert service.client("check-data", others).returncode == 0

        skipped = service.run(job(broken, on_error="skip"))
        assert skipped["progress"]["data_images"] == 38 and skipped["progress"]["data_images_listed"] == 40, skipped["progress"]
        assert "38 of 40 images, 2 skipped" in service.client("get", skipped["id"]).stdout
        assert any("2 of 40 images" in w and cut.name in w and text.name in w for w in skipped["warnings"]), skipped["warnings"]
        rows = [json.loads(row) for row in (pathlib.Path(skipped["output_dir"]) / "metrics.jsonl").read_text().splitlines()]
        assert all(row["images_skipped"] == 2 for row in rows), rows
        assert sorted(state_of(skipped, 3)["data"]["skipped"]) == sorted([cut.name, text.name])
        whole = service.run(job(others))
        assert harness.outcome(whole)["lora"] == harness.outcome(skipped)["lora"], "skipping is not the same as leaving out"
        assert "images_skipped" not in (pathlib.Path(whole["output_dir"]) / "metrics.jsonl").read_text()

        # Captions of other tools, and a file that nobody reads.
        (others / "captions.json").write_text("{}")
        captioned = folder_of(pictures[:8], directory / "captioned")
        (captioned / "metadata.csv").write_text("file_name,text\n" + "".join(f"{p.name},a thing\n" for p in pictures[:8]))
        ended = service.run({**job(captioned), "sample": {**job(captioned)["sample"], "guidance_scale": 3.0}})
        assert ended["warnings"] == [], ended["warnings"]
        ended = service.run(job(others))
        assert any("captions.json" in warning for warning in ended["warnings"]), ended["warnings"]
        (directory / "splits").mkdir()
        for split in ("train", "test"):
            folder_of(pictures[:8], directory / "splits" / split)
        failed(service, job(directory / "splits"), "one folder per split", "splits/train")

        # 20 bad ones of every kind among 2,000.
        many = directory / "many"
        many.mkdir()
        for i in range(1980):
            os.link(pictures[i % 40], many / f"{i:04d}.png")
        names = write_bad_images(many, pictures[0])
        assert len(set(names)) == 20, names
        start = time.monotonic()
        checked = service.client("check-data", many, check=False)
        seconds = time.monotonic() - start
        assert checked.returncode == 1 and seconds < 20, (checked.returncode, seconds)
        lines = checked.stderr.splitlines()
        assert len(lines) == 20 and all(line.startswith("bad: ") for line in lines), checked.stderr
        for name in names:
            assert sum(f"/{name}'" in line for line in lines) == 1, f"{name} is not named once:\n{checked.stderr}"
        for what in ("a web page (HTML)", "30000x30000", "HEIC", "the file is empty", "only zeros", "leads nowhere"):
            assert what in checked.stderr, f"no {what!r} in:\n{checked.stderr}"
        assert re.search(r"images +2000\n", checked.stdout) and re.search(r"cannot be read +20\n", checked.stdout), checked.stdout
        assert len(json.loads(service.client("check-data", many, "-o", "json", check=False).stdout)["bad"]) == 20

        skipped = service.run({**job(many, on_error="skip"), "num_epochs": 1})
        assert skipped["progress"]["data_images"] == 1980 and skipped["progress"]["data_images_listed"] == 2000, skipped["progress"]
        assert "1980 of 2000 images, 20 skipped" in service.client("get", skipped["id"]).stdout
        assert any("20 of 2000 images" in w and all(name in w for name in names) for w in skipped["warnings"]), skipped["warnings"]
        assert re.search(r"warning: .*20 of 2000 images", service.client("watch", skipped["id"]).stdout)
        rows = [json.loads(row) for row in (pathlib.Path(skipped["output_dir"]) / "metrics.jsonl").read_text().splitlines()]
        assert rows and all(row["images_skipped"] == 20 for row in rows), rows
        address = json.loads((service.data_dir / "service.json").read_text())["http_address"]
        metrics = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
        assert re.search(rf'imageddpo_job_images_skipped{{[^}}]*job_id="{skipped["id"]}"[^}}]*}} 20\n', metrics), metrics

        # The severities of a corruption in an array (CIFAR-10-C).
        array = directory / "fog.npy"
        array.write_bytes(npy_of((10, 32, 32, 3), b"".join(pixels_of(picture.read_bytes()) for picture in pictures[:10])))
        (directory / "labels.npy").write_bytes(npy_of((10,), bytes(range(10))))
        chosen = service.run({**job(array, severity=3), "num_epochs": 1})
        assert chosen["progress"]["data_images"] == 2, chosen["progress"]
        assert state_of(chosen, 1)["data"]["ids"] == ["fog.npy/4", "fog.npy/5"]
        failed(service, job(captioned, severity=3), "`data.path`", "`data.severity`", "not read as a .npy")

        # Clean images that the job corrupts itself, each with the clean one as what it should become.
        clean = directory / "data/held-out-clean"
        settings = harness.job(directory, num_epochs=1, data={"path": str(clean), "corrupt": {"kind": "brightness", "severity": 3}},
                               eval={"path": str(clean), "num_pictures": 12},
                               rewards=[{"type": "psnr", "reference": "target"}, {"type": "ssim", "reference": "target", "weight": 10},
                                        {"type": "l1", "name": "to_target", "reference": "target", "held_out": True},
                                        {"type": "l1", "name": "to_input", "reference": "input", "held_out": True}])
        repaired = service.run(settings)
        output = pathlib.Path(repaired["output_dir"])
        files = [json.loads(line)["file_name"] for line in (clean / "metadata.jsonl").read_text().splitlines()]
        for epoch in (0, 1):
            rows = [json.loads(row) for row in (output / f"eval/epoch-{epoch:06d}.jsonl").read_text().splitlines()]
            assert len(rows) == len(files) == 12, rows
            for i, row in enumerate(rows):
                target = pixels_of((clean / files[i]).read_bytes())
                entered, became = (pixels_of((output / f"eval/epoch-{epoch:06d}/{i}-{what}.png").read_bytes()) for what in ("input", "output"))
                # Grey images: their values are raised by 0.3.
                assert all(abs(value - min(255, before + 76.5)) <= 1 for value, before in zip(entered, target)), files[i]
                # The pictures are rounded to whole levels, the rewards are not.
                assert abs(row["to_target.value"] - apart(became, target)) < 0.003, row
                assert abs(row["to_input.value"] - apart(became, entered)) < 0.003, row
                assert abs(row["reward"] - row["psnr.value"] - 10 * row["ssim.value"]) < 1e-9, row
            assert any(abs(row["to_target.value"] - row["to_input.value"]) > 0.02 for row in rows), rows
        inputs = sorted(output.glob("samples/*/*-input.png"))
        assert inputs and all(min(pixels_of(path.read_bytes())) in (75, 76, 77) for path in inputs), inputs
        means = json.loads((output / "metrics.jsonl").read_text().splitlines()[0])["parts_mean"]
        assert abs(means["to_target.value"] - means["to_input.value"]) > 0.001, means

        # A set that changes while its job is interrupted.
        for allowed in (False, True):
            settings = {**job(others, allow_change=allowed), "num_epochs": 40, "checkpoint": {"every_epochs": 1}}
            job_id = service.submit(settings)
            service.wait(job_id, lambda j: j["progress"]["epoch"] >= 2, 240, "a checkpoint")
            shutil.copyfile(pictures[0], others / f"new-{allowed}.png")
            os.kill(service.pids()[service.ranks_of(job_id)[0]], signal.SIGKILL)
            ended = service.wait_end(job_id)
            change = f"1 image was added (new-{allowed}.png)"
            if allowed:
                assert ended["state"] == "SUCCEEDED" and ended["resume_count"] >= 1, ended
                assert any(change in warning for warning in ended["warnings"]), ended["warnings"]
                assert ended["progress"]["data_images"] == 40, ended["progress"]
            else:
                assert ended["state"] == "FAILED" and change in ended["state_reason"], ended
                assert "data.allow_change" in ended["state_reason"], ended
print("ok")
