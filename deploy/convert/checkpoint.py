"""Weight files read without running anything that is in them.

A .ckpt or .bin is a pickle, which may name any function to be called while it is read. torch.load(weights_only=True)
refuses a file that names anything but tensors; older checkpoints (Stable Diffusion 1.4's among them) carry objects of
the trainer beside the weights and would be refused, too. Here only what rebuilds tensors is looked up. Every other
name becomes an empty class that does nothing, so that such a file can be read and its foreign objects are ignored.
"""
import collections
import pathlib
import pickle
import types
import zipfile

# What a tensor is pickled as: module → names. Storages (torch.FloatStorage, …) and dtypes come on top.
TENSOR_NAMES = {
    "collections": ("OrderedDict",),
    "torch._utils": ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"),
    "torch": ("Size",),
    "torch.nn.parameter": ("Parameter",),
    "torch.storage": ("UntypedStorage", "TypedStorage"),
}


def _lookup(module, name):
    """The object of that name where it is part of a tensor, else None."""
    known = name in TENSOR_NAMES.get(module, ())
    if not known and module not in ("torch", "torch.cuda"):
        return None
    if module == "collections":
        return collections.OrderedDict
    import torch
    if known:
        scope = torch
        for part in module.split(".")[1:]:
            scope = getattr(scope, part)
        return getattr(scope, name, None)
    found = getattr(torch, name, None)
    is_storage = name.endswith("Storage") and isinstance(found, type)
    return found if is_storage or isinstance(found, torch.dtype) else None


def placeholder(module, name):
    """A class that takes whatever a pickle does to its objects, and keeps none of it."""

    def ignore(self, *_, **__):
        return None

    methods = dict.fromkeys(("__init__", "__setstate__", "__setitem__", "append", "extend", "add", "update"), ignore)
    return type(name.rpartition(".")[2] or "Foreign", (), {
        "__new__": lambda cls, *_, **__: object.__new__(cls), "__module__": "foreign", "foreign_name": f"{module}.{name}",
        "__setattr__": ignore, "__call__": ignore, **methods})


class TensorUnpickler(pickle.Unpickler):
    """Finds nothing but tensors' parts; `foreign`, a list of the subclass, collects the names of the rest."""

    def find_class(self, module, name):
        found = _lookup(module, name)
        if found is None:
            self.foreign.append(f"{module}.{name}")
            found = placeholder(module, name)
        return found


def pickle_module():
    """A module for torch.load(pickle_module=…), and a function that tells which foreign names it has met."""
    unpickler = type("Unpickler", (TensorUnpickler,), {"foreign": []})  # torch.load makes a subclass, which shares the list.
    module = types.ModuleType("tensors_only")
    module.Unpickler = unpickler
    module.load = lambda file, **options: unpickler(file, **options).load()
    module.UnpicklingError = pickle.UnpicklingError
    return module, lambda: sorted(set(unpickler.foreign))


def tensors_of(content, path):
    """name → tensor of what a checkpoint holds: a state_dict, alone or under that name."""
    import torch
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise SystemExit(f"{path} holds a {type(content).__name__}, not named tensors")
    found = {name: value for name, value in content.items() if isinstance(value, torch.Tensor) and isinstance(name, str)}
    if not found:
        raise SystemExit(f"{path} holds no tensor under a name")
    return found


def read(path):
    """name → tensor of a .safetensors, .ckpt, .pt or .bin file. Exits with one line where it cannot be read."""
    import torch
    path = pathlib.Path(path)
    if not path.is_file():
        raise SystemExit(f"{path} does not exist, or is no file")
    if path.stat().st_size < 1000:
        start = path.read_bytes()[:60]
        if start.startswith(b"version https://git-lfs"):
            raise SystemExit(f"{path} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file
        try:
            return load_file(path)
        except Exception as error:
            raise SystemExit(f"{path} is no safetensors file, or is cut off: {error}") from None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise SystemExit(f"{path} is a TorchScript program, not a checkpoint")
    module, foreign = pickle_module()
    try:
        content = torch.load(path, map_location="cpu", pickle_module=module, weights_only=False)
    except Exception as error:
        said = str(error).strip().splitlines()
        raise SystemExit(f"{path} is no file of tensors that torch can read, or is cut off: {said[0] if said else type(error).__name__}") from None
    if foreign():
        print(f"{path}: beside tensors it names {', '.join(foreign()[:5])}{' …' if len(foreign()) > 5 else ''}; ignored, nothing of it was run")
    return tensors_of(content, path)


def write(tensors, path):
    """Writes a safetensors file as diffusers does: contiguous, no two names on one memory."""
    from safetensors.torch import save_file
    save_file({name: value.detach().clone().contiguous() for name, value in tensors.items()}, str(path), metadata={"format": "pt"})
