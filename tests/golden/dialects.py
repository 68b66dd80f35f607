# SPDX-License-Identifier: Apache-2.0
# Makes dialects/: one tiny ViT under everybody's names, by the models of those who gave
# them: each file's own network gives the same outputs as timm's (asserted here), so Thaw has
# to make the same tensors of each. Needs torch, timm, torchvision, transformers, h5py; by hand.
import pathlib, re, tempfile
from functools import partial

import h5py, numpy as np, timm, torch, torchvision, transformers
from safetensors.torch import load_file, save_file
from timm.layers import get_act_layer
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

out = pathlib.Path(__file__).parent / "dialects"
out.mkdir(exist_ok=True)
transformers.logging.set_verbosity_error()
torch.manual_seed(7)
D, HEADS, SIZE, PATCH, MLP, CLASSES = 4, 2, 4, 2, 8, 3
small = dict(img_size=SIZE, patch_size=PATCH, embed_dim=D, depth=2, num_heads=HEADS, mlp_ratio=MLP / D)
theirs = dict(hidden_size=D, num_hidden_layers=2, num_attention_heads=HEADS, image_size=SIZE, patch_size=PATCH)
images = torch.randn(3, 3, SIZE, SIZE)


def norm(eps):
    return partial(torch.nn.LayerNorm, eps=eps)


def shaken(model):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model.eval()


def take(sd, rows):
    """timm's tensors under other names; a name with {} is for query, key, value."""
    made = {}
    for k, v in sd.items():
        for a, b in rows:
            if not re.fullmatch(a, k):
                continue
            names = [re.sub(a, b.replace("{}", p), k) for p in "qkv"] if "{}" in b else [re.sub(a, b, k)]
            for n, part in zip(names, v.chunk(3) if len(names) == 3 else [v]):
                made[n] = part.clone()
            break
        else:
            raise KeyError(k)
    return made


def check(name, ours, other):
    with torch.no_grad():
        diff = float((ours - other).abs().max())
    print(name, diff)
    assert diff < 1e-5, name


def hf(prefix, extra=()):
    b, n = r"blocks\.(\d+)\.", prefix + r"layers.\1."
    e = prefix + "embeddings."
    return list(extra) + [
        ("cls_token", e + "cls_token"), ("dist_token", e + "distillation_token"), ("pos_embed", e + "position_embeddings"),
        (r"patch_embed\.proj\.(\w+)", e + r"patch_embeddings.projection.\1"),
        (b + r"norm1\.(\w+)", n + r"layernorm_before.\2"), (b + r"norm2\.(\w+)", n + r"layernorm_after.\2"),
        (b + r"attn\.qkv\.(\w+)", n + r"attention.{}_proj.\2"), (b + r"attn\.proj\.(\w+)", n + r"attention.o_proj.\2"),
        (b + r"mlp\.(fc.)\.(\w+)", n + r"mlp.\2.\3"), (r"norm\.(\w+)", prefix + r"layernorm.\1")]


def save_transformers(model, name):
    with tempfile.TemporaryDirectory() as t:
        model.save_pretrained(t)
        save_file(load_file(t + "/model.safetensors"), out / f"{name}.safetensors")


def vit():
    m = shaken(VisionTransformer(**small, num_classes=CLASSES, norm_layer=norm(1e-6)))
    sd = m.state_dict()
    save_file(sd, out / "timm.safetensors")
    cfg = transformers.ViTConfig(**theirs, intermediate_size=MLP, num_labels=CLASSES, layer_norm_eps=1e-6)
    t = transformers.ViTForImageClassification(cfg).eval()
    names = take(sd, hf("vit.", [(r"head\.(\w+)", r"classifier.\1")]))
    t.load_state_dict(names, strict=True)
    check("Hugging Face", m(images), t(images).logits)
    save_transformers(t, "hf_vit")
    save_file(names, out / "hf_vit5.safetensors")
    tensorflow(load_file(out / "hf_vit.safetensors"))
    tv = torchvision.models.VisionTransformer(SIZE, PATCH, 2, HEADS, D, MLP, num_classes=CLASSES).eval()
    b, n = r"blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."
    tv.load_state_dict(take(sd, [
        ("cls_token", "class_token"), ("pos_embed", "encoder.pos_embedding"), (r"patch_embed\.proj\.(\w+)", r"conv_proj.\1"),
        (b + r"norm(.)\.(\w+)", n + r"ln_\2.\3"), (b + r"attn\.qkv\.(\w+)", n + r"self_attention.in_proj_\2"),
        (b + r"attn\.proj\.(\w+)", n + r"self_attention.out_proj.\2"), (b + r"mlp\.fc1\.(\w+)", n + r"mlp.0.\2"),
        (b + r"mlp\.fc2\.(\w+)", n + r"mlp.3.\2"), (r"norm\.(\w+)", r"encoder.ln.\1"), (r"head\.(\w+)", r"heads.head.\1")]))
    check("torchvision", m(images), tv(images))
    torch.save(tv.state_dict(), out / "torchvision.pth")
    google(m)


def tensorflow(sd):
    """tf_model.h5 as TFViTForImageClassification.save_pretrained wrote it: transformers 5 has no TensorFlow."""
    with h5py.File(out / "tf_model.h5", "w") as f:
        for k, v in sd.items():
            v = v.numpy()
            top = "classifier" if k.startswith("classifier") else "vit"
            stem, last = k.rsplit(".", 1)
            if v.ndim in (2, 4) and last == "weight":
                v, last = (v.T if v.ndim == 2 else v.transpose(2, 3, 1, 0)), "kernel"
            elif "layernorm" in stem:
                last = {"weight": "gamma", "bias": "beta"}[last]
            stem = re.sub(r"layer\.(\d+)", r"layer_._\1", stem)
            f.create_dataset(f"{top}/tf_vi_t_for_image_classification/{stem.replace('.', '/')}/{last}:0", data=v)


def google(m):
    n = lambda t: t.detach().numpy()
    g = {"cls": n(m.cls_token), "Transformer/posembed_input/pos_embedding": n(m.pos_embed),
         "embedding/kernel": n(m.patch_embed.proj.weight).transpose(2, 3, 1, 0), "embedding/bias": n(m.patch_embed.proj.bias),
         "head/kernel": n(m.head.weight).T, "head/bias": n(m.head.bias),
         "Transformer/encoder_norm/scale": n(m.norm.weight), "Transformer/encoder_norm/bias": n(m.norm.bias)}
    for i, b in enumerate(m.blocks):
        p = f"Transformer/encoderblock_{i}/"
        a = p + "MultiHeadDotProductAttention_1/"
        q, qb = n(b.attn.qkv.weight).reshape(3, D, D), n(b.attn.qkv.bias).reshape(3, D)
        for j, w in enumerate(["query", "key", "value"]):
            g[a + w + "/kernel"], g[a + w + "/bias"] = q[j].T.reshape(D, HEADS, -1), qb[j].reshape(HEADS, -1)
        g[a + "out/kernel"], g[a + "out/bias"] = n(b.attn.proj.weight).T.reshape(HEADS, -1, D), n(b.attn.proj.bias)
        for w, l in [("LayerNorm_0", b.norm1), ("LayerNorm_2", b.norm2)]:
            g[p + w + "/scale"], g[p + w + "/bias"] = n(l.weight), n(l.bias)
        for w, l in [("Dense_0", b.mlp.fc1), ("Dense_1", b.mlp.fc2)]:
            g[p + f"MlpBlock_3/{w}/kernel"], g[p + f"MlpBlock_3/{w}/bias"] = n(l.weight).T, n(l.bias)
    np.savez(out / "google.npz", **g)
    again = VisionTransformer(**small, num_classes=CLASSES).eval()
    again.load_pretrained(str(out / "google.npz")) # timm's own reader of these files
    check("Google", m(images), again(images))


def deit():
    m = shaken(VisionTransformerDistilled(**small, num_classes=CLASSES, norm_layer=norm(1e-6)))
    cfg = transformers.DeiTConfig(**theirs, intermediate_size=MLP, num_labels=CLASSES, layer_norm_eps=1e-6)
    t = transformers.DeiTForImageClassificationWithTeacher(cfg).eval()
    t.load_state_dict(take(m.state_dict(), hf("deit.", [(r"head\.(\w+)", r"cls_classifier.\1"),
                                                        (r"head_dist\.(\w+)", r"distillation_classifier.\1")])))
    check("DeiT", m(images), t(images).logits)
    save_file(m.state_dict(), out / "timm_deit.safetensors")
    save_transformers(t, "hf_deit")


def dinov2():
    m = shaken(VisionTransformer(**small, num_classes=0, init_values=1.0, reg_tokens=2, no_embed_class=True))
    cfg = transformers.Dinov2WithRegistersConfig(**theirs, mlp_ratio=MLP // D, num_register_tokens=2)
    t = transformers.Dinov2WithRegistersModel(cfg).eval()
    b, n, e = r"blocks\.(\d+)\.", r"encoder.layer.\1.", "embeddings."
    sd = take(m.state_dict(), [
        ("cls_token", e + "cls_token"), ("reg_token", e + "register_tokens"), ("pos_embed", e + "position_embeddings"),
        (r"patch_embed\.proj\.(\w+)", e + r"patch_embeddings.projection.\1"), (b + r"(norm.\.\w+)", n + r"\2"),
        (b + r"attn\.qkv\.(\w+)", n + r"attention.{}_proj.\2"), (b + r"attn\.proj\.(\w+)", n + r"attention.o_proj.\2"),
        (b + r"ls(.)\.gamma", n + r"layer_scale\2.lambda1"), (b + r"(mlp\..*)", n + r"\2"), (r"norm\.(\w+)", r"layernorm.\1")])
    p = sd[e + "position_embeddings"] # theirs has a place for the class token: half of what ours is, exactly
    half = sd[e + "cls_token"] * 0.5
    sd[e + "cls_token"], sd[e + "position_embeddings"] = half, torch.cat([half, p], 1)
    sd[e + "mask_token"] = torch.zeros(1, D)
    t.load_state_dict(sd)
    check("DINOv2", m(images), t(images).last_hidden_state[:, 0])
    save_file(m.state_dict(), out / "timm_dinov2.safetensors")
    save_transformers(t, "hf_dinov2")
    meta = {k.replace("reg_token", "register_tokens"): v for k, v in m.state_dict().items()}
    meta |= {"cls_token": half, "pos_embed": torch.cat([half, p], 1), "mask_token": torch.zeros(1, D)}
    torch.save(meta, out / "dinov2.pth")


def clip():
    m = shaken(VisionTransformer(**small, num_classes=0, pre_norm=True, norm_layer=norm(1e-5),
                                 act_layer=get_act_layer("quick_gelu")))
    sd = m.state_dict()
    cv = transformers.CLIPVisionConfig(**theirs, intermediate_size=MLP, projection_dim=5)
    ct = transformers.CLIPTextConfig(hidden_size=D, num_hidden_layers=1, num_attention_heads=HEADS, intermediate_size=MLP,
                                     vocab_size=9, max_position_embeddings=7, bos_token_id=0, eos_token_id=1)
    t = transformers.CLIPModel(transformers.CLIPConfig(vision_config=cv.to_dict(), text_config=ct.to_dict(), projection_dim=5))
    b, n = r"blocks\.(\d+)\.", r"encoder.layers.\1."
    t.vision_model.load_state_dict({k: v.reshape(-1) if "class_embedding" in k else v.reshape(-1, D) if "position" in k else v
                                    for k, v in take(sd, [
        ("cls_token", "embeddings.class_embedding"), ("pos_embed", "embeddings.position_embedding.weight"),
        (r"patch_embed\.proj\.weight", "embeddings.patch_embedding.weight"), (r"norm_pre\.(\w+)", r"pre_layrnorm.\1"),
        (b + r"norm(.)\.(\w+)", n + r"layer_norm\2.\3"), (b + r"attn\.qkv\.(\w+)", n + r"self_attn.{}_proj.\2"),
        (b + r"attn\.proj\.(\w+)", n + r"self_attn.out_proj.\2"), (b + r"(mlp\..*)", n + r"\2"),
        (r"norm\.(\w+)", r"post_layernorm.\1")]).items()})
    check("CLIP", m(images), t.eval().vision_model(images).pooler_output)
    save_file(sd, out / "timm_clip.safetensors")
    save_transformers(t, "hf_clip")
    n = r"visual.transformer.resblocks.\1."
    oc = take(sd, [("cls_token", "visual.class_embedding"), ("pos_embed", "visual.positional_embedding"),
                   (r"patch_embed\.proj\.weight", "visual.conv1.weight"), (r"norm_pre\.(\w+)", r"visual.ln_pre.\1"),
                   (b + r"norm(.)\.(\w+)", n + r"ln_\2.\3"), (b + r"attn\.qkv\.(\w+)", n + r"attn.in_proj_\2"),
                   (b + r"attn\.proj\.(\w+)", n + r"attn.out_proj.\2"), (b + r"mlp\.fc1\.(\w+)", n + r"mlp.c_fc.\2"),
                   (b + r"mlp\.fc2\.(\w+)", n + r"mlp.c_proj.\2"), (r"norm\.(\w+)", r"visual.ln_post.\1")])
    oc["visual.class_embedding"] = oc["visual.class_embedding"].reshape(-1)
    oc["visual.positional_embedding"] = oc["visual.positional_embedding"].reshape(-1, D)
    oc |= {"visual.proj": torch.ones(D, 5), "positional_embedding": torch.ones(7, D), "text_projection": torch.ones(D, 5),
           "transformer.resblocks.0.attn.in_proj_weight": torch.ones(3 * D, D), "logit_scale": torch.tensor(1.0)}
    torch.save(oc, out / "openclip.pt")


vit()
deit()
dinov2()
clip()
print(sum(f.stat().st_size for f in out.iterdir()), "bytes")
