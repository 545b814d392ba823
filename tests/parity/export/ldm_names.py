"""From diffusers' names of tensors to those of a Stable Diffusion checkpoint in one file: the way back of what deploy/convert does."""
import re

_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
           "conv_shortcut": "skip_connection"}
_ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
         "conv_norm_out": "out.0", "conv_out": "out.2"}


def _resnet(rest):
    layer, kind = rest.rsplit(".", 1)
    return f"{_RESNET[layer]}.{kind}"


def unet_name(name, layers, attention):
    """layers: layers_per_block; attention: for each up block whether it has attention."""
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    if match:
        way, kind, rest = match.group(1), match.group(3), match.group(5)
        block, layer = int(match.group(2)), int(match.group(4))
        if way == "down":
            place = (layers + 1) * (block + 1) if kind == "downsamplers" else (layers + 1) * block + layer + 1
            if kind == "downsamplers":
                return f"input_blocks.{place}.0.op.{rest.removeprefix('conv.')}"
            return f"input_blocks.{place}.{'0.' + _resnet(rest) if kind == 'resnets' else '1.' + rest}"
        place = (layers + 1) * block + (layers if kind == "upsamplers" else layer)
        if kind == "upsamplers":
            return f"output_blocks.{place}.{2 if attention[block] else 1}.{rest}"
        return f"output_blocks.{place}.{'0.' + _resnet(rest) if kind == 'resnets' else '1.' + rest}"
    match = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name)
    if match:
        place = 1 if match.group(1) == "attentions" else 2 * int(match.group(2))
        return f"middle_block.{place}.{match.group(3) if place == 1 else _resnet(match.group(3))}"
    layer, kind = name.rsplit(".", 1)
    return f"{_ENDS[layer]}.{kind}"


def vae_name(name, levels):
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found.group(1)) + 1}", name)
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda found: f"up.{levels - 1 - int(found.group(1))}.block", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda found: f"up.{levels - 1 - int(found.group(1))}.upsample", name)
    if "mid_block.attentions.0" in name:
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
        for new, old in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            name = name.replace(f".{new}.", f".{old}.")
    return name


def checkpoint(unet, vae, text, unet_config, vae_config):
    """Tensors of the three parts under diffusers' names → those of one file."""
    attention = ["CrossAttn" in kind for kind in unet_config["up_block_types"]]
    result = {f"model.diffusion_model.{unet_name(name, unet_config['layers_per_block'], attention)}": value for name, value in unet.items()}
    for name, value in vae.items():
        new = vae_name(name, len(vae_config["block_out_channels"]))
        if ".attn_1." in new and value.dim() == 2:
            value = value[:, :, None, None]  # Convolutions there.
        result[f"first_stage_model.{new}"] = value
    result.update({f"cond_stage_model.transformer.{name}": value for name, value in text.items()})
    return result
