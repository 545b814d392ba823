"""Files of weights, read without running what they contain."""
import pathlib

import torch


def read(path):
    """name → tensor of a .safetensors file or a pickle of tensors (.pt, .pth, .bin); a "state_dict" inside is unpacked."""
    path = pathlib.Path(path)
    if not path.exists():
        raise SystemExit(f"{path} does not exist")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file
        return load_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise SystemExit(f"{path} is not a file of tensors: {said if ' ' in said else type(error).__name__}") from None
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise SystemExit(f"{path} holds something else than named tensors (a state_dict)")
    return content


def load_into(module, state, path):
    """Loads all of `state` into all of `module`; exits with the first name that does not fit."""
    names = set(module.state_dict())
    missing, unknown = sorted(names - set(state)), sorted(set(state) - names)
    if missing or unknown:
        what = f"it has no {missing[0]} ({len(missing)} are missing)" if missing else f"{unknown[0]} has no place ({len(unknown)} have none)"
        raise SystemExit(f"{path} does not fit {type(module).__name__}: {what}")
    for name, value in module.state_dict().items():
        if value.shape != state[name].shape:
            raise SystemExit(f"{path}: {name} has shape {list(state[name].shape)}, {type(module).__name__} takes {list(value.shape)}")
    module.load_state_dict(state)
    return module.eval()
