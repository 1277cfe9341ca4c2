"""Erasing inside a model for the time of a context, in every kind of model and output."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import erasejax as ej
from erasejax.models import _hooks
from erasejax.models._outputs import hidden_state
from erasejax.models._paths import _modules
from tests.common import gap_in_sd
from tests.models.small import (
    BATCH,
    LABELS,
    LENGTH,
    D,
    Nnx,
    eraser,
    features,
    fitted,
    padded,
    torch_bert,
    torch_gpt2,
    torch_plain,
)

LAYERS = ["encoder.layer.0", "encoder.layer.1"]
LEFT, RIGHT = (padded(left=left)[1] for left in (True, False))


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def seen(model, path, run):
    """What the module at a path returned first, by a hook of torch's own."""
    found = []
    module = model.get_submodule(path)
    handle = module.register_forward_hook(lambda m, a, out: found.append(hidden_state(out)[0]))
    try:
        run()
    finally:
        handle.remove()
    return found[0].detach().numpy()


def fails_inside(model, erasers, run):
    with ej.models.erased(model, erasers):
        run()
        raise KeyError


def bits(model):
    """All that a torch model holds: parameters, hooks and attributes of every module."""
    state = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    return state, hooks, attributes


def test_class_means_are_equal_at_every_layer(torch):
    model = torch_bert()
    tokens, mask = padded()
    batch = {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}
    z, erasers = np.broadcast_to(LABELS[:, None], mask.shape)[mask == 1], {}
    with torch.no_grad():
        for path in LAYERS:
            with ej.models.erased(model, erasers):
                before = seen(model, path, lambda: model(**batch))[mask == 1]
            assert gap_in_sd(before, before, z) > 1e3
            erasers[path] = fitted(before, z)
            with ej.models.erased(model, erasers, mask=mask):
                after = seen(model, path, lambda: model(**batch))
            assert gap_in_sd(before, after[mask == 1], z) <= 1


def test_the_model_is_as_it_was(torch):
    model = torch_bert()
    batch = {"input_ids": torch.from_numpy(padded()[0])}
    before, plain = bits(model), model(**batch).last_hidden_state
    with ej.models.erased(model, dict.fromkeys(LAYERS, eraser())):
        inside = model(**batch).last_hidden_state
    assert not torch.equal(inside, plain)
    with pytest.raises(KeyError):
        fails_inside(model, {LAYERS[0]: eraser()}, lambda: model(**batch))
    with pytest.raises(ValueError, match="fitted|features"):
        with ej.models.erased(
            model, {LAYERS[0]: eraser(), "encoder.layer.1.intermediate": eraser()}
        ):
            model(**batch)
    with pytest.raises(ValueError, match="no such module"):
        ej.models.erased(model, {LAYERS[0]: eraser(), "encoder.layer.9": eraser()}).__enter__()
    assert bits(model) == before
    assert not _hooks._active
    assert torch.equal(model(**batch).last_hidden_state, plain)


def test_what_transformers_records_is_what_goes_on(torch):
    for recorded_before in (False, True):
        model = torch_bert()
        batch = {"input_ids": torch.from_numpy(padded()[0]), "output_hidden_states": True}
        if recorded_before:  # then its own hooks come first
            model(**batch)
        own = eraser()
        with torch.no_grad(), ej.models.erased(model, {LAYERS[0]: own}):
            states = model(**batch).hidden_states
        assert not own(states[2].numpy()) == pytest.approx(states[2].numpy(), abs=1e-3)
        np.testing.assert_allclose(own(states[1].numpy()), states[1].numpy(), rtol=0, atol=1e-4)


@jax.default_matmul_precision("highest")  # a GPU would multiply the model's layers in TF32
def test_models_of_one_set_of_weights_agree(torch):
    ours, theirs = Nnx(), torch_plain()
    for module, layer in ((ours.first, theirs[0]), (ours.rest.layers[1], theirs[2][0])):
        module.kernel[...] = layer.weight.detach().numpy().T
        module.bias[...] = layer.bias.detach().numpy()
    x = features()
    with ej.models.erased(ours, {"first": eraser(0), "rest.layers.1": eraser(1)}):
        a = ours(jnp.asarray(x))
    with torch.no_grad(), ej.models.erased(theirs, {"0": eraser(0), "2.0": eraser(1)}):
        b = theirs(torch.from_numpy(x))
    np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-5)
    assert np.abs(np.asarray(ours(jnp.asarray(x))) - np.asarray(a)).max() > 0.1


def test_gpt2_blocks_and_attention(torch):
    model, own = torch_gpt2(), eraser()
    batch = {"input_ids": torch.from_numpy(padded()[0])}
    for path in ("transformer.h.1", "transformer.h.0.attn", "transformer.h.0.mlp.c_proj"):
        with ej.models.erased(model, {path: own}):
            found = seen(model, path, lambda: model(**batch))
        np.testing.assert_allclose(own(found), found, rtol=0, atol=1e-4)


def test_contexts_are_nested_in_the_order_of_opening():
    model, x = Nnx(), jnp.asarray(features())
    a, b = eraser(0), eraser(1)
    plain = model.first(x)
    with ej.models.erased(model, {"first": a}):
        with ej.models.erased(model, {"first": b}):
            np.testing.assert_allclose(model.first(x), b(a(plain)), rtol=0, atol=1e-5)
        np.testing.assert_allclose(model.first(x), a(plain), rtol=0, atol=1e-5)
    assert (model.first(x) == plain).all()


def test_contexts_of_torch_are_nested_in_the_order_of_opening(torch):
    model, x = torch_plain(), torch.from_numpy(features())
    a, b = eraser(0), eraser(1)
    with torch.no_grad():
        plain = model[0](x)
        outer, inner = (ej.models.erased(model, {"0": one}) for one in (a, b))
        outer.__enter__()
        inner.__enter__()
        found = ej.models.applied(b)(ej.models.applied(a)(plain))
        assert torch.equal(model[0](x), found)
        outer.__exit__(None, None, None)  # not the last that was opened
        assert torch.equal(model[0](x), ej.models.applied(b)(plain))
        inner.__exit__(None, None, None)
        assert torch.equal(model[0](x), plain)
    assert not model[0]._forward_hooks


def test_nnx_modules_are_as_they_were():
    model, x = Nnx(), jnp.asarray(features())
    before = {path: type(module) for path, module in _modules(model).items()}
    attributes = {path: dict(vars(module)) for path, module in _modules(model).items()}
    plain = model(x)

    def changed():
        assert isinstance(model.first, nnx.Linear)
        assert not (model(x) == plain).all()

    with pytest.raises(KeyError):
        fails_inside(model, {"first": eraser(), "": eraser(1)}, changed)
    assert {path: type(module) for path, module in _modules(model).items()} == before
    for path, module in _modules(model).items():
        assert vars(module).keys() == attributes[path].keys()
        assert all(vars(module)[name] is value for name, value in attributes[path].items())
    assert (model(x) == plain).all()


def test_programs_of_nnx_are_traced_anew_in_every_context():
    model, x, own = Nnx(), jnp.asarray(features()), eraser()
    run = nnx.jit(lambda model, x: model.first(x))
    plain = run(model, x)
    for one in (own, eraser(1)):
        with ej.models.erased(model, {"first": one}):
            for _ in range(2):
                np.testing.assert_allclose(run(model, x), one(plain), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(run(model, x), plain)


def test_gradients_flow_in_nnx():
    model, x, own = Nnx(), jnp.asarray(features()), eraser()

    def loss(model):
        return jnp.sum(model.first(x) ** 2)

    def by_hand(model):
        return jnp.sum(own(model.first(x)) ** 2)

    expected = nnx.grad(by_hand)(model)
    with ej.models.erased(model, {"first": own}):
        found = nnx.grad(loss)(model)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-2)


def test_a_module_that_is_not_called_warns():
    model, x = Nnx(), jnp.asarray(features())
    closed = jax.jit(lambda x: model.first(x))
    closed(x)
    with pytest.warns(UserWarning, match="first: not called inside the context, or in a program"):
        with ej.models.erased(model, {"first": eraser()}):
            closed(x)


Pair = collections.namedtuple("Pair", ["state", "other"])


@dataclasses.dataclass(frozen=True)
class Output:
    loss: object
    weights: object
    state: object
    states: tuple


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_outputs_of_every_kind(library):
    make = jnp.asarray
    if library == "torch":
        make = pytest.importorskip("torch").from_numpy
    hidden, new = make(features()), make(features(1))
    scalar, square = make(np.ones((), np.float32)), make(np.ones((2, 5, 5), np.float32))

    def replaced(output, width=D):
        found, put = hidden_state(output, width)
        assert found is hidden
        return put(new)

    assert replaced(hidden) is new
    assert replaced((hidden, square)) == (new, square)
    assert replaced([hidden, None]) == [new, None]
    pair = replaced(Pair(hidden, square))
    assert isinstance(pair, Pair)
    assert (pair.state is new, pair.other is square) == (True, True)
    assert replaced(((hidden, 1), 2)) == ((new, 1), 2)
    output = Output(scalar, square, hidden, (hidden,))
    found = replaced(output)
    assert dataclasses.asdict(found).keys() == dataclasses.asdict(output).keys()
    assert (found.state is new, found.loss is scalar, found.weights is square) == (True,) * 3
    assert found.states[0] is hidden
    assert replaced({"loss": scalar, "state": hidden}) == {"loss": scalar, "state": new}
    with pytest.raises(ValueError, match="of 31 features, got shape"):
        hidden_state((hidden, square), 31)
    with pytest.raises(ValueError, match="hidden state of 31 features among its fields loss"):
        hidden_state(output, 31)
    for wrong in (None, "text", (), (None, hidden), make(np.ones((2, D), np.int32))):
        with pytest.raises(TypeError, match="expected a tensor, or a tuple, dataclass"):
            hidden_state(wrong)


def test_outputs_of_transformers(torch):
    outputs = pytest.importorskip("transformers.modeling_outputs")
    hidden, other = torch.from_numpy(features()), torch.ones(2, 3)
    output = outputs.BaseModelOutputWithPast(
        last_hidden_state=hidden, hidden_states=(hidden, other)
    )
    found = hidden_state(output, D)[1](other)
    assert type(found) is type(output)
    assert found.last_hidden_state is found[0] is found["last_hidden_state"] is other
    assert found.hidden_states[0] is hidden
    assert list(found) == list(output)
    assert output.last_hidden_state is hidden


class Passes(nnx.Module):
    """Returns what it is given."""

    def __call__(self, x):
        return x


@pytest.mark.parametrize("library", ["jax", "torch"])
@pytest.mark.parametrize("positions", ["all", "first", "last", "mean"])
@pytest.mark.parametrize("mask", [None, LEFT, RIGHT], ids=["none", "left", "right"])
def test_positions(library, positions, mask):
    own, x = eraser(), features()
    model, given = Passes(), jnp.asarray(x)
    if library == "torch":
        torch = pytest.importorskip("torch")
        model, given = torch.nn.Identity(), torch.from_numpy(x)
    with ej.models.erased(model, {"": own}, mask=mask, positions=positions):
        found = np.asarray(model(given))
    tokens = np.ones((BATCH, LENGTH)) if mask is None else mask
    for row, counts, was in zip(found, tokens == 1, x, strict=True):
        (places,) = np.nonzero(counts)
        expected = was.copy()
        if positions == "mean":
            mean = was[places].mean(axis=0)
            expected[places] += np.asarray(own(mean)) - mean
            np.testing.assert_allclose(row[places].mean(0), own(mean), rtol=0, atol=1e-5)
        else:
            picked = {"all": places, "first": places[:1], "last": places[-1:]}[positions]
            expected[picked] = own(was[picked])
        np.testing.assert_allclose(row, expected, rtol=0, atol=2e-5)
        np.testing.assert_array_equal(row[~counts], was[~counts])


def test_paths_that_do_not_exist(torch):
    model = torch_bert()
    for path, words in {
        "encoder.layers.0": "did you mean 'encoder.layer.0'",
        "layer.1": "did you mean 'encoder.layer.1'",
        "zzz": "it has 'embeddings'",
    }.items():
        with pytest.raises(ValueError, match=words):
            ej.models.erased(model, {path: eraser()}).__enter__()
    with pytest.raises(ValueError, match="only holds modules; name what is in it, such as 'enc"):
        ej.models.erased(model, {"encoder.layer": eraser()}).__enter__()


def test_paths_of_nnx_that_do_not_exist():
    model = Nnx()
    with pytest.raises(ValueError, match=r"did you mean 'rest\.layers\.1'"):
        ej.models.erased(model, {"layers.1": eraser()}).__enter__()
    with pytest.raises(ValueError, match=r"rest\.layer\.1: Nnx has no such module; did you mean"):
        ej.models.erased(model, {"rest.layer.1": eraser()}).__enter__()
    with pytest.raises(TypeError, match="expected a torch module or a flax nnx Module, got dict"):
        ej.models.erased({}, {"": eraser()}).__enter__()


def test_arguments_that_make_no_sense():
    model, x = Passes(), jnp.asarray(features())
    with pytest.raises(TypeError, match="erasers: expected a dict of erasers by path, got Proj"):
        ej.models.erased(model, eraser()).__enter__()
    with pytest.raises(ValueError, match="positions: expected"):
        ej.models.erased(model, {"": eraser()}, positions="middle").__enter__()
    with pytest.raises(ValueError, match=r"mask: expected \(batch, length\)"):
        ej.models.erased(model, {"": eraser()}, mask=np.ones(3)).__enter__()
    with pytest.raises(ValueError, match="mask: expected 1 for a token and 0 for padding"):
        ej.models.erased(model, {"": eraser()}, mask=np.full((2, 3), -1e9)).__enter__()
    for options in ({"mask": LEFT[:, 1:]}, {"mask": LEFT[1:]}):
        with ej.models.erased(model, {"": eraser()}, **options):
            with pytest.raises(ValueError, match="expected a hidden state"):
                model(x)
    with ej.models.erased(model, {"": eraser()}, positions="last"):
        with pytest.raises(ValueError, match=r"\(batch, length, d\) .*'last'"):
            model(x[0])
