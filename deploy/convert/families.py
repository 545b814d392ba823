"""Stable Diffusion 1.x and 2.x as diffusers describes them, and which of them a checkpoint is."""
import json
import pathlib
import sys

UNET_PREFIX, VAE_PREFIX, EMA_PREFIX = "model.diffusion_model.", "first_stage_model.", "model_ema."
SD1_TEXT, SD2_TEXT = "cond_stage_model.transformer.", "cond_stage_model.model."

_UNET = {
    "_class_name": "UNet2DConditionModel", "act_fn": "silu", "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": False,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0,
    "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3}
_VAE = {
    "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4, "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32,
    "out_channels": 3, "sample_size": 512, "scaling_factor": 0.18215, "up_block_types": ["UpDecoderBlock2D"] * 4}
_TEXT = {
    "architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77, "model_type": "clip_text_model", "pad_token_id": 1, "vocab_size": 49408}
_SCHEDULER = {
    "_class_name": "DDIMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False,
    "num_train_timesteps": 1000, "set_alpha_to_one": False, "steps_offset": 1}
_TOKENIZER = {
    "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "add_prefix_space": False, "do_lower_case": True, "errors": "replace",
    "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
_INDEX = {
    "_class_name": "StableDiffusionPipeline", "feature_extractor": [None, None], "image_encoder": [None, None],
    "requires_safety_checker": False, "safety_checker": [None, None], "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}

# What differs, by the width of the text's embeddings. SD 2 uses OpenCLIP's last layer but one, hence 23.
FAMILIES = {
    768: {
        "name": "Stable Diffusion 1.x", "pad": "<|endoftext|>",
        "unet": {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64},
        "text": {"hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
                 "num_hidden_layers": 12, "projection_dim": 768}},
    1024: {
        "name": "Stable Diffusion 2.x", "pad": "!",
        "unet": {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
        "text": {"hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
                 "num_hidden_layers": 23, "projection_dim": 512}}}

# Files that people try, by a part of a name that only they have.
_OTHERS = (
    ("conditioner.embedders.", "is an SDXL checkpoint; imageddpo trains Stable Diffusion 1.x and 2.x"),
    ("double_blocks.", "is a FLUX checkpoint; imageddpo trains Stable Diffusion 1.x and 2.x"),
    ("joint_blocks.", "is a Stable Diffusion 3 checkpoint; imageddpo trains Stable Diffusion 1.x and 2.x"),
    ("control_model.", "is a ControlNet, not a whole model"),
    ("lora_unet_", "is a LoRA, not a model; a job takes it as lora.init_from"),
    (".lora_A.", "is a LoRA, not a model; a job takes it as lora.init_from"),
    ("down_blocks.", "is a UNet or VAE in diffusers' names; put it into a folder with the other parts and convert the folder"),
    ("string_to_param", "is a textual inversion, not a model"),
)


def check(tensors, path):
    """Exits unless the checkpoint has a UNet, a VAE and a text encoder of SD 1.x or 2.x; returns the text's width."""
    if f"{UNET_PREFIX}input_blocks.0.0.weight" not in tensors:
        said = next((text for part, text in _OTHERS if any(part in name for name in tensors)),
                    f"has no {UNET_PREFIX}input_blocks.0.0.weight, so it is no Stable Diffusion checkpoint")
        raise SystemExit(f"{path} {said}")
    other = next((text for part, text in _OTHERS[:1] if any(part in name for name in tensors)), None)
    if other:
        raise SystemExit(f"{path} {other}")
    channels = tensors[f"{UNET_PREFIX}input_blocks.0.0.weight"].shape[1]
    if channels != 4:
        kind = {9: "an inpainting model", 8: "an InstructPix2Pix model", 5: "a depth model", 7: "an upscaler"}.get(channels, "another kind of model")
        raise SystemExit(f"{path} is {kind}: its UNet takes {channels} channels. imageddpo trains those that take 4")
    for prefix, part in ((VAE_PREFIX, "VAE"), ("cond_stage_model.", "text encoder")):
        if not any(name.startswith(prefix) for name in tensors):
            raise SystemExit(f"{path} has no {part} ({prefix}…); use the full checkpoint, not a pruned UNet")
    cross = f"{UNET_PREFIX}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    if cross not in tensors:
        raise SystemExit(f"{path} has no {cross}: its UNet has another structure than Stable Diffusion 1.x and 2.x")
    return tensors[cross].shape[1]


def original_prediction_type(path):
    """"v_prediction" or "epsilon", from the YAML file that the original code trains with."""
    import yaml
    try:
        content = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
        parameters = content["model"]["params"]
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        raise SystemExit(f"{path} is no configuration of Stable Diffusion: it has no model.params") from None
    return "v_prediction" if parameters.get("parameterization") == "v" else "epsilon"


def write_tokenizer(folder, pad):
    """CLIP's tokenizer, from the byte pairs that open_clip ships."""
    try:
        import open_clip
    except ImportError:
        raise SystemExit("a tokenizer is needed: name a folder with --tokenizer (the one of any Stable Diffusion 1.x or 2.x), or "
                         "pip install open_clip_torch, which ships CLIP's") from None
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "rewards/export"))
    import tokenizer_files
    for name, content in tokenizer_files.from_open_clip(open_clip.SimpleTokenizer()).files().items():
        (folder / name.rpartition("/")[2]).write_text(content, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({**_TOKENIZER, "pad_token": pad}, indent=2))


def write_configs(folder, width, prediction_type):
    """The configuration files of a family, without a tokenizer; returns the family's entry."""
    family = FAMILIES[width]
    size = 96 if prediction_type == "v_prediction" and width == 1024 else 64
    parts = {
        "unet/config.json": {**_UNET, "sample_size": size, **family["unet"]},
        "vae/config.json": _VAE,
        "text_encoder/config.json": {**_TEXT, **family["text"]},
        "scheduler/scheduler_config.json": {**_SCHEDULER, "prediction_type": prediction_type},
        "model_index.json": _INDEX}
    for name, content in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    return family
