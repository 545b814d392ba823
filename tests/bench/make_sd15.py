"""Stable Diffusion 1.5 at its true size for images of 256 px, with random weights (4 GB): python make_sd15.py FOLDER

What a pass costs does not depend on the weights. The tokenizer is the tests' own; the text encoder has the
true number of tokens.
"""
import pathlib
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "parity"))
import reference_pipeline  # noqa: E402

SD15 = dict(
    unet=dict(reference_pipeline.unet((320, 640, 1280, 1280), layers_per_block=2, attention_head_dim=8),
              sample_size=32, cross_attention_dim=768, norm_num_groups=32),
    vae=dict(reference_pipeline.vae((128, 256, 512, 512), layers_per_block=2), sample_size=256, norm_num_groups=32),
    text=dict(reference_pipeline.text(hidden_act="quick_gelu"), vocab_size=49408, hidden_size=768, intermediate_size=3072,
              num_hidden_layers=12, num_attention_heads=12),
    scheduler=reference_pipeline.NOISE_SCHEDULE)

folder = pathlib.Path(sys.argv[1])
partial = folder.with_name(folder.name + ".partial")
shutil.rmtree(partial, ignore_errors=True)
reference_pipeline.MODELS["sd15-true-size"] = SD15
reference_pipeline.make_model("sd15-true-size", partial, seed=0)
partial.rename(folder)
