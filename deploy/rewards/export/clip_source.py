"""A CLIP model from transformers or open_clip, with its weights in our towers and its own code to hold them against."""
import contextlib
import dataclasses
import pathlib
import typing

import torch

import clip_model
import preprocess
import tokenizer_files


@dataclasses.dataclass
class ClipSource:
    """A model, ours and the package's. Features are not normalised."""
    image_tower: clip_model.ImageTower
    text_tower: clip_model.TextTower
    preprocess: preprocess.Preprocess
    tokenizer: tokenizer_files.Tokenizer
    logit_scale: float                   # what the model multiplies cosines by, about 100
    tokenize: typing.Callable            # the package's: texts → [N,length] int64
    original_image: typing.Callable      # the package's: [N,3,S,S] normalised → [N,E]
    original_text: typing.Callable       # the package's: [N,length] → [N,E]
    original_pixels: typing.Optional[typing.Callable]  # the package's: PIL images → [N,3,S,S] normalised

    def pixels(self):
        """What reward_file.Reward takes as `pixels`."""
        return (self.preprocess, self.original_pixels) if self.original_pixels else None

    def use_plain_preprocessing(self):
        """Stretches pictures to the network's square, bicubic without antialiasing: torch's interpolate() as it is by default."""
        old = self.preprocess
        self.preprocess = preprocess.Preprocess(
            old.crop or old.resize, 0, old.mean_3.tolist(), old.std_3.tolist(), fit="stretch", antialias=False, clip=False)
        self.original_pixels = None
        return self


def add_arguments(parser):
    """--transformers FOLDER, or --open-clip NAME with --weights FILE."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--transformers", metavar="FOLDER", help="a CLIP model's folder as transformers saves it: config.json, weights, tokenizer")
    source.add_argument("--open-clip", metavar="NAME", help="an open_clip architecture, such as ViT-B-32, or local-dir:FOLDER")
    parser.add_argument("--weights", metavar="FILE", help="with --open-clip: its checkpoint (.safetensors, .bin, .pt)")
    parser.add_argument("--tokenizer", metavar="FOLDER", help="with --transformers: the tokenizer's folder, where it is not the model's")
    parser.add_argument("--preprocess", choices=("package", "plain"), default="package",
                        help="package (default): as the model's package resizes and crops; plain: stretched, bicubic, without antialiasing")


def load(options):
    if options.transformers:
        source = from_transformers(options.transformers, options.tokenizer)
    else:
        source = from_open_clip(options.open_clip, options.weights)
    return source.use_plain_preprocessing() if options.preprocess == "plain" else source


def _copy(target, source):
    if tuple(target.shape) != tuple(source.shape):
        raise SystemExit(f"a weight has shape {list(source.shape)} where {list(target.shape)} is expected; this is no CLIP with a ViT")
    target.data.copy_(source.data.float())


def _copy_layer(target, source):
    """A linear layer or a norm."""
    _copy(target.weight, source.weight)
    if (target.bias is None) != (getattr(source, "bias", None) is None):
        raise SystemExit("a layer of the model has a bias where CLIP has none, or none where it has one")
    if target.bias is not None:
        _copy(target.bias, source.bias)


@contextlib.contextmanager
def _explained(package, what):
    """Turns what a package says of a file into one line."""
    try:
        yield
    except ImportError as error:
        raise SystemExit(f"{package} is needed: pip install {package} ({error})") from None
    except SystemExit:
        raise
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise SystemExit(f"{package} cannot read {what}: {said[0]}") from error


# transformers


def _activation(name):
    if name not in ("quick_gelu", "gelu"):
        raise SystemExit(f"the activation {name!r} is not supported; quick_gelu and gelu are")
    return name == "quick_gelu"


def _sizes(config):
    return clip_model.Sizes(config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size,
                            _activation(config.hidden_act), config.layer_norm_eps)


def _copy_transformers_blocks(ours, encoder):
    for block, layer in zip(ours, encoder.layers, strict=True):
        _copy_layer(block.ln_1, layer.layer_norm1)
        _copy_layer(block.ln_2, layer.layer_norm2)
        projections = [layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj]
        _copy(block.attn.in_proj.weight, torch.cat([projection.weight for projection in projections]))
        _copy(block.attn.in_proj.bias, torch.cat([projection.bias for projection in projections]))
        _copy_layer(block.attn.out_proj, layer.self_attn.out_proj)
        _copy_layer(block.c_fc, layer.mlp.fc1)
        _copy_layer(block.c_proj, layer.mlp.fc2)


def _features(returned):
    """transformers 4 returns features, 5 an object with them."""
    return returned if isinstance(returned, torch.Tensor) else returned.pooler_output


def _transformers_preprocess(processor):
    size, crop = processor.size, processor.crop_size
    edge = size["shortest_edge"] if "shortest_edge" in size and size["shortest_edge"] else None
    if edge is None and size["height"] != size["width"]:
        raise SystemExit("the image processor resizes to what is not a square, which is not supported")
    interpolation = {2: "bilinear", 3: "bicubic"}.get(int(processor.resample))
    if interpolation is None:
        raise SystemExit(f"the image processor's resample is {processor.resample}; 2 (bilinear) and 3 (bicubic) are supported")
    return preprocess.Preprocess(
        resize=(edge or size["height"]) if processor.do_resize else 0, crop=crop["height"] if processor.do_center_crop else 0,
        mean=processor.image_mean, std=processor.image_std, interpolation=interpolation, fit="shorter" if edge else "stretch",
        crop_half_down=True)


def transformers_tokenize(folder, length):
    """texts → [N,length] int64 by transformers, with the tokenizer in a local folder."""
    path = pathlib.Path(folder)
    path = path / "tokenizer" if (path / "tokenizer").is_dir() else path
    with _explained("transformers", path):
        from transformers import CLIPTokenizer
        tokenizer = CLIPTokenizer.from_pretrained(path, local_files_only=True)
    return lambda texts: tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids


def from_transformers(folder, tokenizer_folder=None):
    """A local folder of transformers' CLIPModel; tokenizer and image processor from it, or CLIP's usual processor."""
    folder = pathlib.Path(folder)
    if not (folder / "config.json").exists():
        raise SystemExit(f"{folder}/config.json does not exist; --transformers takes a local folder, nothing is downloaded")
    with _explained("transformers", folder):
        from transformers import CLIPImageProcessor, CLIPModel
        model, report = CLIPModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        has_processor = (folder / "preprocessor_config.json").exists() or (folder / "processor_config.json").exists()
        side = model.config.vision_config.image_size
        processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True) if has_processor else CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    missing = [name for name in report["missing_keys"] if not name.endswith("position_ids")]
    if missing:
        raise SystemExit(f"{folder}: the weights have no {missing[0]} (of {len(missing)} missing); is it a whole CLIP model?")
    model.float().eval().requires_grad_(False)
    text, vision, embedding = model.config.text_config, model.config.vision_config, model.config.projection_dim
    words = tokenizer_files.read_folder(tokenizer_folder or folder, text.max_position_embeddings)
    if max(words.vocabulary.values()) >= text.vocab_size:
        raise SystemExit(f"the tokenizer has more tokens than the model's {text.vocab_size}; it is another model's")

    image_tower = clip_model.ImageTower(_sizes(vision), vision.image_size, vision.patch_size, embedding)
    _copy(image_tower.conv1.weight, model.vision_model.embeddings.patch_embedding.weight)
    _copy(image_tower.class_embedding, model.vision_model.embeddings.class_embedding)
    _copy(image_tower.positional_embedding, model.vision_model.embeddings.position_embedding.weight)
    _copy_layer(image_tower.ln_pre, model.vision_model.pre_layrnorm)
    _copy_layer(image_tower.ln_post, model.vision_model.post_layernorm)
    _copy_transformers_blocks(image_tower.blocks, model.vision_model.encoder)
    _copy_layer(image_tower.proj, model.visual_projection)

    text_tower = clip_model.TextTower(_sizes(text), text.vocab_size, text.max_position_embeddings, embedding, words.eos_id)
    _copy(text_tower.token_embedding.weight, model.text_model.embeddings.token_embedding.weight)
    _copy(text_tower.positional_embedding, model.text_model.embeddings.position_embedding.weight)
    _copy_layer(text_tower.ln_final, model.text_model.final_layer_norm)
    _copy_transformers_blocks(text_tower.blocks, model.text_model.encoder)
    _copy_layer(text_tower.text_projection, model.text_projection)

    return ClipSource(
        image_tower.eval(), text_tower.eval(), _transformers_preprocess(processor), words, model.logit_scale.exp().item(),
        transformers_tokenize(tokenizer_folder or folder, words.length),
        lambda pixels: _features(model.get_image_features(pixel_values=pixels)),
        lambda tokens: _features(model.get_text_features(input_ids=tokens)),
        lambda pictures: processor(images=pictures, return_tensors="pt").pixel_values)


# open_clip


def _refuse(part, kind):
    raise SystemExit(f"the model's {part} is a {kind}, not the ViT or transformer that CLIP has; export it with "
                     "`python deploy/rewards/export module`, see its README")


def _open_clip_sizes(transformer, norm):
    first = transformer.resblocks[0]
    if type(first).__name__ != "ResidualAttentionBlock" or type(first.ls_1).__name__ != "Identity":
        _refuse("block", f"{type(first).__name__} with {type(first.ls_1).__name__}")
    return clip_model.Sizes(norm.weight.shape[0], len(transformer.resblocks), first.attn.num_heads, first.mlp.c_fc.out_features,
                            type(first.mlp.gelu).__name__ == "QuickGELU", norm.eps)


def _copy_open_clip_blocks(ours, transformer):
    for block, layer in zip(ours, transformer.resblocks, strict=True):
        _copy_layer(block.ln_1, layer.ln_1)
        _copy_layer(block.ln_2, layer.ln_2)
        _copy(block.attn.in_proj.weight, layer.attn.in_proj_weight)
        _copy(block.attn.in_proj.bias, layer.attn.in_proj_bias)
        _copy_layer(block.attn.out_proj, layer.attn.out_proj)
        _copy_layer(block.c_fc, layer.mlp.c_fc)
        _copy_layer(block.c_proj, layer.mlp.c_proj)


def _copy_projection(target, source):
    """open_clip has a matrix [width, embedding], or a linear layer."""
    if isinstance(source, torch.nn.Linear):
        _copy_layer(target, source)
    else:
        _copy(target.weight, source.T)


def _open_clip_preprocess(config):
    size = config["size"] if isinstance(config["size"], int) else config["size"][0]
    fits = {"shortest": "shorter", "squash": "stretch", "longest": "longer"}
    return preprocess.Preprocess(
        resize=size, crop=0 if config["resize_mode"] == "longest" else size, mean=config["mean"], std=config["std"],
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic", fit=fits[config["resize_mode"]])


def from_open_clip(name, weights):
    """An open_clip model from a local file or folder; `name` may be local-dir:FOLDER, which holds its weights."""
    local = name.startswith("local-dir:")
    if not local and not (weights and pathlib.Path(weights).exists()):
        raise SystemExit(f"--open-clip {name} needs --weights with an existing file; nothing is downloaded"
                         + (f" ({weights} does not exist)" if weights else ""))
    with _explained("open_clip_torch", weights or name):
        import open_clip
        from open_clip.transform import PreprocessCfg, image_transform_v2
        model = open_clip.create_model(name, pretrained=None if local else str(weights), require_pretrained=True)
        theirs = open_clip.get_tokenizer(name)
        config = model.visual.preprocess_cfg
        transform = image_transform_v2(PreprocessCfg(**config), is_train=False)
    model.float().eval().requires_grad_(False)
    return from_open_clip_model(model, theirs, config, transform)


def from_open_clip_model(model, theirs, config, transform):
    """The same from a loaded model, its tokenizer, preprocessing settings and transform."""
    visual, text = model.visual, getattr(model, "text", model)
    pool = getattr(text, "pool_type", None) or getattr(text, "text_pool_type", None)
    if type(visual).__name__ != "VisionTransformer" or visual.attn_pool is not None or visual.pool_type != "tok" or visual.final_ln_after_pool:
        other = " with another pooling" if type(visual).__name__ == "VisionTransformer" else ""
        _refuse("image tower", f"{type(visual).__name__}{other}")
    if not hasattr(text, "token_embedding") or pool not in ("argmax", "eos") or getattr(text, "cls_emb", None) is not None:
        _refuse("text tower", type(text).__name__)
    words = tokenizer_files.from_open_clip(theirs)
    embedding = visual.proj.shape[1]

    image_tower = clip_model.ImageTower(_open_clip_sizes(visual.transformer, visual.ln_post), visual.image_size[0], visual.patch_size[0], embedding)
    _copy(image_tower.conv1.weight, visual.conv1.weight)
    _copy(image_tower.class_embedding, visual.class_embedding)
    _copy(image_tower.positional_embedding, visual.positional_embedding)
    _copy_layer(image_tower.ln_pre, visual.ln_pre)
    _copy_layer(image_tower.ln_post, visual.ln_post)
    _copy_open_clip_blocks(image_tower.blocks, visual.transformer)
    _copy_projection(image_tower.proj, visual.proj)

    text_tower = clip_model.TextTower(_open_clip_sizes(text.transformer, text.ln_final), text.token_embedding.num_embeddings,
                                      text.positional_embedding.shape[0], embedding, words.eos_id)
    _copy(text_tower.token_embedding.weight, text.token_embedding.weight)
    _copy(text_tower.positional_embedding, text.positional_embedding)
    _copy_layer(text_tower.ln_final, text.ln_final)
    _copy_open_clip_blocks(text_tower.blocks, text.transformer)
    _copy_projection(text_tower.text_projection, text.text_projection)

    return ClipSource(
        image_tower.eval(), text_tower.eval(), _open_clip_preprocess(config), words, model.logit_scale.exp().item(), theirs,
        model.encode_image, model.encode_text, lambda pictures: torch.stack([transform(picture) for picture in pictures]))
