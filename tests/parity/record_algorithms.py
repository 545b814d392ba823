"""Records what diffusers, transformers, TRL and torch compute for small inputs, for the parity tests of the scheduler,
the tokenizer and the update's mathematics. Run once by hand; the files in tests/data/parity/algorithms are its output.

    pip install torch==2.11.0 diffusers transformers==5.23.0 trl==0.21.0 imageddpo==0.1.2 open_clip_torch safetensors
    python tests/parity/record_algorithms.py tests/data/parity/algorithms

The tokens come from the first merges of CLIP's own vocabulary (OpenAI, MIT licence), which open_clip_torch ships.
"""
import gzip
import importlib.util
import itertools
import json
import os
import pathlib
import random
import sys
import warnings

warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", WANDB_MODE="disabled")

import numpy as np
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
STABLE_DIFFUSION = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                        clip_sample=False, set_alpha_to_one=False, steps_offset=1)
PREDICTIONS = ("epsilon", "sample", "v_prediction")
SPACINGS = ("leading", "trailing", "linspace")


def scheduler_configs():
    """Every prediction type × spacing × option, then the other noise schedules."""
    options = {
        "plain": {},
        "clip": dict(clip_sample=True, clip_sample_range=0.7),
        "threshold": dict(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.5),
        "zero_snr": dict(rescale_betas_zero_snr=True, set_alpha_to_one=True),
    }
    configs = {}
    for prediction, spacing, (name, option) in itertools.product(PREDICTIONS, SPACINGS, options.items()):
        configs[f"{prediction}.{spacing}.{name}"] = dict(STABLE_DIFFUSION, prediction_type=prediction,
                                                         timestep_spacing=spacing, **option)
    configs["linear"] = dict(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    configs["cosine"] = dict(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=False)
    configs["short"] = dict(num_train_timesteps=50, beta_schedule="linear", beta_start=0.002, beta_end=0.3)
    configs["trained"] = dict(num_train_timesteps=20, trained_betas=[0.01 + 0.004 * i for i in range(20)],
                              clip_sample=False)
    # As DDIMScheduler saves them: what a file leaves out, ours reads as Stable Diffusion's pipelines do.
    return {name: dict(dict(clip_sample=True, steps_offset=0), **config) for name, config in configs.items()}


def record_scheduler(tensors, facts):
    from diffusers import DDIMScheduler
    from imageddpo.pipeline import scheduler_step

    generator = torch.Generator().manual_seed(1)
    shape = (4, 4, 3, 3)
    sample, output, noise = (torch.randn(shape, generator=generator) * s for s in (1.0, 1.3, 1.0))
    tensors.update(sample=sample, model_output=output, noise=noise)
    facts["schedulers"] = {}
    for name, config in scheduler_configs().items():
        scheduler = DDIMScheduler(**config)
        num_steps = 10
        scheduler.set_timesteps(num_steps)
        all_timesteps = [int(t) for t in scheduler.timesteps]
        rows = [1, 4, 7, 9]
        if config.get("rescale_betas_zero_snr") and config["prediction_type"] != "epsilon":
            rows[0] = 0  # No signal at all, where the spacing reaches it.
        timesteps = [all_timesteps[i] for i in rows]
        facts["schedulers"][name] = dict(
            config=dict(_class_name="DDIMScheduler", **config), timesteps=timesteps, num_steps=num_steps,
            schedules={n: [int(t) for t in (scheduler.set_timesteps(n), scheduler.timesteps)[1]]
                       for n in (1, 3, 10, 20, 49 if config["num_train_timesteps"] > 20 else 19)
                       if n <= config["num_train_timesteps"]})
        scheduler.set_timesteps(num_steps)
        tensors[f"{name}.alphas_cumprod"] = scheduler.alphas_cumprod
        tensors[f"{name}.noised"] = scheduler.add_noise(sample, noise, torch.tensor(timesteps))
        for eta in (1.0, 0.5, 0.0):
            nexts, log_probs, gradients = [], [], []
            for i, t in enumerate(timesteps):  # One by one: the original judges determinism for a whole batch.
                out = output[i:i + 1].clone().requires_grad_()
                saved = torch.randn
                torch.randn = lambda *a, **k: noise[i:i + 1]
                try:
                    step = scheduler_step(scheduler, out, torch.tensor([t]), sample[i:i + 1], eta=eta)
                finally:
                    torch.randn = saved
                nexts.append(step.latents.detach())
                log_probs.append(step.log_probs.detach())
                gradient = torch.zeros_like(out)
                if step.log_probs.requires_grad:
                    # Replay: the recorded next sample is a constant.
                    replay = scheduler_step(scheduler, out, torch.tensor([t]), sample[i:i + 1], eta=eta,
                                            prev_sample=step.latents.detach())
                    gradient, = torch.autograd.grad(replay.log_probs.sum(), out)
                gradients.append(gradient)
            tensors[f"{name}.{eta}.next"] = torch.cat(nexts)
            tensors[f"{name}.{eta}.log_prob"] = torch.cat(log_probs)
            tensors[f"{name}.{eta}.gradient"] = torch.cat(gradients)
    facts["executed_steps"] = {str(n): [n - max(0, min(int(n * (1 - s / 100)), n - 1)) for s in range(101)]
                               for n in (7, 10, 50)}


def record_guidance(tensors):
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    generator = torch.Generator().manual_seed(2)
    negative, prompt = (torch.randn(3, 4, 3, 3, generator=generator) for _ in range(2))
    guided = negative + 7.5 * (prompt - negative)
    tensors.update({"guidance.negative": negative, "guidance.prompt": prompt, "guidance.guided": guided,
                    "guidance.rescaled": rescale_noise_cfg(guided, prompt, guidance_rescale=0.7)})


def record_advantages(tensors):
    from trl.trainer.utils import PerPromptStatTracker

    rng = np.random.default_rng(3)
    rewards = (rng.normal(size=(5, 24)) * 3 + 10).astype(np.float32)
    ids = rng.integers(0, 4, size=(5, 24))
    ids[:, :3] = [90, 91, 92]  # Keys that stay below the minimum count.
    tracker = PerPromptStatTracker(16, 16)
    per_key = np.stack([tracker.update([str(i) for i in row], r) for row, r in zip(ids, rewards)])
    globally = np.stack([(r - r.mean()) / (r.std() + 1e-8) for r in rewards])
    tensors.update({"advantages.rewards": torch.tensor(rewards), "advantages.ids": torch.tensor(ids),
                    "advantages.per_key": torch.tensor(per_key), "advantages.global": torch.tensor(globally)})


def record_update(tensors):
    """TRL's loss, and torch's clipping and AdamW over six updates, some clipped."""
    generator = torch.Generator().manual_seed(4)
    n = lambda *shape: torch.randn(*shape, generator=generator)
    old, advantages = n(32), n(32) * 4
    new = (old + n(32) * 2e-4).requires_grad_()
    clipped_advantages = advantages.clamp(-5, 5)
    ratio = torch.exp(new - old)
    loss = torch.maximum(-clipped_advantages * ratio, -clipped_advantages * ratio.clamp(1 - 1e-4, 1 + 1e-4)).mean()
    loss.backward()
    tensors.update({"loss.new": new.detach(), "loss.old": old, "loss.advantages": advantages, "loss.loss": loss.detach(),
                    "loss.gradient": new.grad, "loss.approx_kl": (0.5 * torch.mean((new - old) ** 2)).detach(),
                    "loss.clipfrac": torch.mean((torch.abs(ratio - 1) > 1e-4).float())})
    params = [torch.nn.Parameter(n(*s)) for s in ((4, 7), (5,), (3, 2, 2))]
    optimizer = torch.optim.AdamW(params, lr=3e-3, betas=(0.9, 0.999), weight_decay=1e-4, eps=1e-8)
    for i, p in enumerate(params):
        tensors[f"adamw.before.{i}"] = p.detach().clone()
    norms = []
    for step in range(6):
        for i, p in enumerate(params):
            p.grad = n(*p.shape) * (0.01 if step % 2 else 2.0)
            tensors[f"adamw.grad.{step}.{i}"] = p.grad.clone()
        norms.append(torch.nn.utils.clip_grad_norm_(params, 1.0))
        for i, p in enumerate(params):
            tensors[f"adamw.clipped.{step}.{i}"] = p.grad.clone()
        optimizer.step()
        for i, p in enumerate(params):
            tensors[f"adamw.after.{step}.{i}"] = p.detach().clone()
    tensors["adamw.norms"] = torch.stack(norms)


WORDS = ["a photo of a cat", "don't", "can't", "it's", "we'll", "I'd", "they've", "you're", "I'm", "'s", "'T", "'RE", "''s",
         "<|startoftext|>", "<|endoftext|>", "<|STARTOFTEXT|>", "<|endoftext", "|>", "!", "!!!", "123", "4k", "８Ｋ", "½", "café",
         "cafe\u0301", "naïve", "Straße", "ＡＢＣ", "İstanbul", "ΣΑΣ", "한국어", "日本語", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "\u200d", "\ufeff", "\u00a0",
         "\t", "\r\n", "\x00", "\u2028", "  ", "masterpiece", "(((ultra-detailed)))", "[cat:dog:0.5]", "<lora:x:1>", "...", "--", "_",
         "#hashtag", "100%", "C++", "a" * 90, "!" * 90, "1" * 90, "é" * 40, "x " * 90, "Ǆ", "ǅ", "ﬁ", "K", "Å", "ẞ", "ŉ", "ᾳ", "Ω", "ﷺ",
         "\u0344", "\u0958", "क्षि", "สวัสดี", "مرحبا", "שלום", "привет", "中文。", "「」", "\u1c89", "\ua7cb", "\U00010d50", "\U0002ebf0",
         "\U00010d40", "\U000105c0"]


def texts():
    rng = random.Random(5)
    blocks = [(0x20, 0x7e)] * 6 + [(0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x52f), (0x590, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f),
                                   (0x1100, 0x11ff), (0x1e00, 0x1fff), (0x2000, 0x23ff), (0x3000, 0x30ff), (0x4e00, 0x9fff),
                                   (0xac00, 0xd7a3), (0xf900, 0xffef), (0x1d400, 0x1d7ff), (0x1f300, 0x1faff), (0, 0x1f)]
    out = ["", " "] + WORDS
    while len(out) < 240:
        pieces = [rng.choice(WORDS) if rng.random() < 0.4 else chr(rng.randint(*rng.choice(blocks)))
                  for _ in range(rng.randint(1, 25))]
        out.append(rng.choice(["", " ", ""]).join(pieces))
    return out


def record_tokens(directory):
    from transformers import CLIPTokenizer

    source = pathlib.Path(importlib.util.find_spec("open_clip").origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.open(source).read().decode().split("\n")[1:3001]
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b]
    alphabet = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    vocab = alphabet + [c + "</w>" for c in alphabet] + ["".join(m.split()) for m in merges]
    vocab = {token: i for i, token in enumerate(vocab + ["<|startoftext|>", "<|endoftext|>"])}

    def token(content, normalized):
        return dict(content=content, lstrip=False, normalized=normalized, rstrip=False, single_word=False)

    config = dict(tokenizer_class="CLIPTokenizer", model_max_length=77, bos_token="<|startoftext|>", eos_token="<|endoftext|>",
                  unk_token="<|endoftext|>", pad_token="<|endoftext|>", add_prefix_space=False, do_lower_case=True)
    flagged = dict(bos_token=token("<|startoftext|>", True), eos_token=token("<|endoftext|>", True),
                   unk_token=token("<|endoftext|>", True))
    folders = {  # As Stable Diffusion 1 and 2 ship them; as transformers 5 saves them.
        "sd1": (config, dict(flagged, pad_token="<|endoftext|>")),
        "sd2": (config, dict(flagged, pad_token="!")),
    }
    strings = texts()
    recorded = {}
    for name, (tokenizer_config, special) in folders.items():
        folder = directory / "tokenizers" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
        (folder / "special_tokens_map.json").write_text(json.dumps(special))
        tokenizer = CLIPTokenizer.from_pretrained(str(folder))
        recorded[name] = tokenizer(strings, padding="max_length", truncation=True, max_length=77).input_ids
        if name == "sd2":
            tokenizer.save_pretrained(str(directory / "tokenizers" / "saved"))
            again = CLIPTokenizer.from_pretrained(str(directory / "tokenizers" / "saved"))
            recorded["saved"] = again(strings, padding="max_length", truncation=True, max_length=77).input_ids
    (directory / "tokens.json").write_text(json.dumps(dict(texts=strings, tokens=recorded), separators=(",", ":")))


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    tensors, facts = {}, {}
    record_scheduler(tensors, facts)
    record_guidance(tensors)
    record_advantages(tensors)
    record_update(tensors)
    record_tokens(directory)
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(directory / "reference.safetensors"))
    (directory / "reference.json").write_text(json.dumps(facts, separators=(",", ":")))


if __name__ == "__main__":
    main()
