"""Erasers folded into weights: what the layer returns is what the eraser would make of it."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

import erasejax as ej
from erasejax.models._edit import edit, rounded
from tests.common import draw, seeds

D, H = 6, 9


def erasers(d=D, seed=0):
    """Erasers of every shape: of several directions, a strength, a point, and set features."""
    x, z = draw(seed, 200, d, 3)
    whole = ej.LEACE().fit(x, z)
    constant = np.concatenate([x[:, 1:], np.full((200, 1), 3, np.float32)], axis=1)
    return {
        "whole": whole,
        "origin": ej.LEACE(keep_mean=False).fit(x, z),
        "part": whole.with_strength(0.3),
        "towards": whole.towards(x[0]),
        "flat": ej.LEACE().fit(x[:, :1] * np.ones((1, d), np.float32), x[:, 0]),
        "constant": ej.SAL().fit(constant, z),
        "nothing": ej.Identity().fit(x, z),
        "account": ej.INLP(rounds=2).fit(x, z, throw=False),
    }


ERASERS = erasers()


def layer(seed=0, out=D, into=H):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((out, into)).astype(np.float32)
    return weight, rng.standard_normal(out).astype(np.float32)


def apply(eraser, x):
    return np.asarray(eraser(np.asarray(x, np.float32)), np.float64)


@pytest.mark.parametrize("name", ERASERS)
@pytest.mark.parametrize("layout", ["out,in", "in,out"])
@pytest.mark.parametrize("biased", [True, False])
def test_what_is_written_is_erased(name, layout, biased):
    eraser, (weight, bias) = ERASERS[name], layer()
    given = weight if layout == "out,in" else np.ascontiguousarray(weight.T)
    own, shift = ej.models.fold(eraser, given, bias if biased else None, layout=layout)
    assert own.dtype == np.float32
    assert own.shape == given.shape
    h = np.random.default_rng(1).standard_normal((50, H))
    x = h @ weight.T.astype(float) + (bias if biased else 0)
    found = h @ (own.T if layout == "out,in" else own) + (0 if shift is None else shift)
    np.testing.assert_allclose(found, apply(eraser, x), atol=2e-5)


@pytest.mark.parametrize("name", ERASERS)
@pytest.mark.parametrize("biased", [True, False])
def test_what_is_read_is_erased(name, biased):
    eraser, (weight, bias) = ERASERS[name], layer(out=H, into=D)
    own, shift = ej.models.fold(eraser, weight, bias if biased else None, side="reads")
    x = np.random.default_rng(1).standard_normal((50, D))
    expected = apply(eraser, x) @ weight.T + (bias if biased else 0)
    found = x @ own.T.astype(float) + (0 if shift is None else shift)
    np.testing.assert_allclose(found, expected, atol=5e-5)


def test_several_writers_take_the_constant_once():
    eraser = ERASERS["whole"]
    (a, b), (c, d) = layer(0), layer(1)
    h = np.random.default_rng(2).standard_normal((50, H)).astype(np.float32)
    x = h @ a.T + b + h @ c.T + d
    one = ej.models.fold(eraser, a, b)
    two = ej.models.fold(eraser, c, d, constant=False)
    found = h @ one[0].T + one[1] + h @ two[0].T + two[1]
    np.testing.assert_allclose(found, eraser(x), atol=5e-5)
    twice = h @ one[0].T + one[1] + h @ ej.models.fold(eraser, c, d)[0].T
    assert np.abs(twice + ej.models.fold(eraser, c, d)[1] - eraser(x)).max() > 0.1


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_kind_dtype_and_place_are_kept(dtype):
    torch = pytest.importorskip("torch")
    eraser, (weight, bias) = ERASERS["whole"], layer()
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    weight, bias = weight.astype(kind), bias.astype(kind)
    found = ej.models.fold(eraser, weight, bias)
    assert {part.dtype for part in found} == {kind}
    tensors = [torch.tensor(v.astype("f8")).to(getattr(torch, dtype)) for v in (weight, bias)]
    tensors[0] = torch.nn.Parameter(tensors[0])
    others = ej.models.fold(eraser, *tensors)
    assert {part.dtype for part in others} == {getattr(torch, dtype)}
    for own, other in zip(found, others, strict=True):
        np.testing.assert_array_equal(own.astype("f8"), other.double().numpy())
    if dtype != "float64":
        device = jax.devices()[0]
        arrays = [jax.device_put(v, device) for v in (weight, bias)]
        for own, other in zip(found, ej.models.fold(eraser, *arrays), strict=True):
            assert isinstance(other, jax.Array)
            assert other.devices() == {device}
            np.testing.assert_array_equal(own, other)


@given(seeds, st.sampled_from([ml_dtypes.bfloat16, np.float16]))
def test_numbers_are_rounded_once(seed, dtype):
    rng = np.random.default_rng(seed)
    grid = np.abs(rng.standard_normal(200)).astype(dtype)
    after = np.nextafter(grid, np.array(np.inf, dtype))
    low, high = grid.astype(float), after.astype(float)
    sign = rng.choice([-1, 1], 200)
    middle = (low + high) / 2
    for value, expected in ((middle * (1 + 2**-45), high), (middle * (1 - 2**-45), low)):
        np.testing.assert_array_equal(rounded(sign * value, np.dtype(dtype)), sign * expected)
    special = np.array([np.nan, np.inf, -np.inf, 1e300, 0.0, -0.0])
    found = np.float64(rounded(special, np.dtype(dtype)))
    np.testing.assert_array_equal(found, [np.nan, np.inf, -np.inf, np.inf, 0, 0])
    assert np.signbit(found[-1])


def test_what_does_not_fit_is_refused():
    eraser, (weight, bias) = ERASERS["whole"], layer()
    fold = ej.models.fold
    for call, message in (
        (lambda: fold(eraser, weight.T, bias), "returns 9 features, and .* fitted on 6"),
        (lambda: fold(eraser, weight, bias, side="reads"), "is given 9 features, and"),
        (lambda: fold(eraser, weight, bias[:2]), r"bias: expected shape \(6,\), got \(2,\)"),
        (lambda: fold(eraser, weight[0]), "expected 2 axes"),
        (lambda: fold(eraser, weight, side="both"), "side: expected"),
        (lambda: fold(eraser, weight, layout="io"), "layout: expected"),
        (lambda: fold(eraser.replace(status=jnp.uint32(1)), weight), "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="float"):
        fold(eraser, weight.astype(int))
    x, z = draw(0, 60, D, 2)
    with pytest.raises(TypeError, match="expected a Projection, .* got OracleProjection"):
        fold(ej.OracleLEACE().fit(x, z), weight)


def test_an_edit_has_no_more_columns_than_it_needs():
    assert edit("e", ERASERS["nothing"]).kernel.shape == (D, 0)
    assert edit("e", ERASERS["whole"]).kernel.shape == (D, 2)


# Models


def hook(torch, module, eraser, side="writes"):
    """Applies an eraser by a plain hook."""

    def erased(x):
        return torch.tensor(np.array(eraser(x.detach().numpy())))

    if side == "reads":
        return module.register_forward_pre_hook(lambda m, args: (erased(args[0]),))
    return module.register_forward_hook(lambda m, args, out: erased(out))


@pytest.fixture(scope="module")
def models():
    """Small models of transformers: layers with (out, in) and with (in, out), with bias or not."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    def make(name):
        torch.manual_seed(0)
        if name == "gpt2":
            config = transformers.GPT2Config(
                n_layer=2, n_head=2, n_embd=D * 2, vocab_size=20, n_positions=16
            )
            model = transformers.GPT2LMHeadModel(config)
        else:
            config = transformers.LlamaConfig(
                num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, hidden_size=12,
                intermediate_size=14, vocab_size=20, max_position_embeddings=16,
                tie_word_embeddings=False,
            )  # fmt: skip
            model = transformers.LlamaForCausalLM(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return model.eval()

    return make


PATHS = {
    "gpt2": ("transformer.h.0.mlp.c_proj", "transformer.h.1.attn.c_proj"),
    "llama": ("model.layers.0.mlp.down_proj", "model.layers.1.self_attn.o_proj"),
}


def logits(torch, model):
    with torch.no_grad():
        return model(input_ids=torch.arange(12).reshape(2, 6)).logits.numpy()


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("side", ["writes", "reads"])
def test_a_folded_model_is_one_with_hooks(models, name, side):
    torch = pytest.importorskip("torch")
    model = models(name)
    before = logits(torch, model)
    found = {}
    for i, path in enumerate(PATHS[name]):
        module = model.get_submodule(path)
        width = module.weight.shape[0 if (name == "llama") == (side == "writes") else 1]
        found[path] = ej.LEACE().fit(*draw(i, 200, width, 2 + i))
    handles = [hook(torch, model.get_submodule(p), e, side) for p, e in found.items()]
    expected = logits(torch, model)
    for handle in handles:
        handle.remove()
    np.testing.assert_array_equal(logits(torch, model), before)
    ej.models.fold_into(model, found, side=side)
    np.testing.assert_allclose(logits(torch, model), expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected - before).max() > 0.01
    assert all(p.requires_grad for p in model.parameters())


def test_embeddings_are_rows(models):
    torch = pytest.importorskip("torch")
    model = models("llama")
    eraser = ej.LEACE().fit(*draw(0, 200, 12, 3))
    handle = hook(torch, model.model.embed_tokens, eraser)
    expected = logits(torch, model)
    handle.remove()
    ej.models.fold_into(model, {"model.embed_tokens": eraser})
    np.testing.assert_allclose(logits(torch, model), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_what_cannot_be_folded_is_refused_before_anything_changes(models):
    torch = pytest.importorskip("torch")
    model = models("gpt2")
    before = logits(torch, model)
    eraser = ej.LEACE().fit(*draw(0, 200, 12, 2))
    good = {"transformer.h.0.mlp.c_proj": eraser}
    for path, message in (
        ("transformer.h.0", "expected a Linear, Conv1D or Embedding layer, got GPT2Block"),
        ("transformer.ln_f", "got LayerNorm"),
        ("transformer.h.0.mlp.c_fc", "returns 48 features, and the eraser was fitted on 12"),
        ("transformer.wte", "its weights are those of 'lm_head' too"),
        ("transformer.h.7", "has no such module"),
    ):
        with pytest.raises(ValueError, match=message):
            ej.models.fold_into(model, {**good, path: eraser})
    with pytest.raises(ValueError, match="an embedding reads no rows"):
        ej.models.fold_into(model, {"transformer.wpe": eraser}, side="reads")
    with pytest.raises(TypeError, match="expected a Projection"):
        ej.models.fold_into(model, {**good, "transformer.h.1.mlp.c_proj": "eraser"})

    class Own(torch.nn.Linear):
        pass

    with pytest.raises(ValueError, match="got Own"):
        ej.models.fold_into(Own(3, 12), {"": eraser})
    odd = torch.nn.Linear(3, 12)
    odd.weight = torch.nn.Parameter(odd.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match="got int8; dequantise"):
        ej.models.fold_into(odd, {"": eraser})
    np.testing.assert_array_equal(logits(torch, model), before)


def test_a_model_of_half_precision_stays_one(models):
    torch = pytest.importorskip("torch")
    model = models("llama").to(torch.bfloat16)
    eraser = ej.LEACE().fit(*draw(0, 200, 12, 2))
    ej.models.fold_into(model, {"model.layers.0.mlp.down_proj": eraser})
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.model.layers[0].mlp.down_proj.bias is not None


class Tower(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(20, D, rngs=rngs)
        self.up = nnx.Linear(D, H, rngs=rngs)
        self.down = nnx.Linear(H, D, use_bias=False, rngs=rngs)

    def __call__(self, tokens, erase=lambda x: x, at="down"):
        x = self.embed(tokens)
        x = erase(x) if at in {"embed", "up"} else x
        x = self.down(jax.nn.gelu(self.up(x)))
        return erase(x) if at == "down" else x


@pytest.mark.quick(2)
@pytest.mark.parametrize("at", ["embed", "up", "down"])
@jax.default_matmul_precision("highest")  # a GPU would multiply the model's layers in TF32
def test_modules_of_nnx(at):
    model, tokens = Tower(nnx.Rngs(0)), jnp.arange(12)
    model.up.bias[...] = jnp.arange(H) * 0.1
    eraser = ERASERS["towards"]
    expected = model(tokens, eraser, at)
    assert np.abs(expected - model(tokens)).max() > 0.01
    ej.models.fold_into(model, {at: eraser}, side="reads" if at == "up" else "writes")
    np.testing.assert_allclose(model(tokens), expected, atol=2e-5)
    np.testing.assert_allclose(nnx.jit(lambda m, t: m(t))(model, tokens), expected, atol=2e-5)
    if at == "down":
        assert isinstance(model.down.bias, nnx.Param)
