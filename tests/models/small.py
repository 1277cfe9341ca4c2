"""Small models of each library, and batches for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import erasejax as ej

D, BATCH, LENGTH = 32, 24, 7
LABELS = np.arange(BATCH) % 3


def padded(seed=0, *, left=False):
    """Token numbers (batch, length) that tell the label, and an attention mask."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(4, 20, (BATCH, LENGTH)) + 20 * (rng.random((BATCH, LENGTH)) < 0.3)
    tokens += 3 * LABELS[:, None]
    lengths = rng.integers(2, LENGTH + 1, BATCH)
    mask = (np.arange(LENGTH) < lengths[:, None]).astype(np.int64)
    return tokens, mask[:, ::-1].copy() if left else mask


def torch_bert(layers=2):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import torch

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=D,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=16,
    )
    return transformers.BertModel(config).eval()


def torch_gpt2():
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import torch

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=64, n_embd=D, n_layer=2, n_head=4, n_positions=16)
    return transformers.GPT2LMHeadModel(config).eval()


def torch_plain():
    """Layers of torch alone: features to features."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(D, D), torch.nn.Tanh(), torch.nn.Sequential(torch.nn.Linear(D, D))
    )


class Nnx(nnx.Module):
    """The same layers of flax nnx."""

    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.first = nnx.Linear(D, D, rngs=rngs)
        self.rest = nnx.Sequential(jnp.tanh, nnx.Linear(D, D, rngs=rngs))

    def __call__(self, x):
        return self.rest(self.first(x))


def features(seed=0, *, shape=(BATCH, LENGTH)):
    """Hidden states (batch, length, d) in which the labels of the sequences show."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*shape, D)) + rng.standard_normal((3, D))[LABELS][:, None]
    return x.astype(np.float32)


def fitted(rows, z):
    return ej.LEACE().fit(np.asarray(rows), np.asarray(z))


def eraser(seed=0):
    """One of features that has nothing to do with a model."""
    data = ej.datasets.GaussianClasses(rows=60, dims=D, num_classes=3).sample(jax.random.key(seed))
    return ej.LEACE().fit(data)
