"""Scrubbing: every layer guarded at once, by whichever way there is memory for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import erasejax as ej
from erasejax.models import _scrub

WIDTH, LENGTH = 8, 5
LAYERS = ("layer.0", "layer.1", "layer.2")


class Block(nnx.Module):
    def __init__(self, seed):
        self.dense = nnx.Linear(WIDTH, WIDTH, rngs=nnx.Rngs(seed))

    def __call__(self, hidden, mask):
        mean = (hidden * mask[..., None]).sum(1, keepdims=True) / mask.sum(1)[:, None, None]
        return hidden + jnp.tanh(self.dense(hidden + mean)), {"aside": mean}


class Tanh(nnx.Module):
    def __call__(self, hidden):
        return jnp.tanh(hidden)


class Tower(nnx.Module):
    """Tokens that mix, each layer in a tuple with something else."""

    def __init__(self, layers=3, looks_back=False):
        blocks = [Block(seed) for seed in range(layers)]
        self.layer = nnx.List(blocks) if hasattr(nnx, "List") else blocks
        self.looks_back = looks_back
        self.calls = 0

    def __call__(self, tokens, attention_mask):
        first = hidden = tokens
        for block in self.layer:
            hidden, _ = block(hidden + (first if self.looks_back else 0), attention_mask)
            first = hidden if first is tokens else first
        return hidden


@pytest.fixture
def batches():
    random = np.random.default_rng(0)
    found = []
    for _ in range(4):
        z = random.integers(0, 2, 30)
        x = random.standard_normal((30, LENGTH, WIDTH)) + z[:, None, None] * np.linspace(
            0, 1, WIDTH
        )
        mask = np.ones((30, LENGTH), np.int32)
        mask[::3, 3:] = 0
        inputs = {"tokens": jnp.asarray(x, jnp.float32), "attention_mask": jnp.asarray(mask)}
        found.append((inputs, z))
    return found


def states(model, erasers, batches):
    """Returns hidden states and labels of the tokens at each layer of a model with erasers."""
    found = {path: [] for path in LAYERS}
    labels = []
    for inputs, z in batches:
        there = np.asarray(inputs["attention_mask"]) > 0
        labels.append(np.repeat(z, there.sum(1)))
        with (
            ej.models.erased(model, erasers, mask=inputs["attention_mask"]),
            ej.models.recorded(model, LAYERS, mask=inputs["attention_mask"], rows=True) as acts,
        ):
            model(**inputs)
        for path in LAYERS:
            found[path].append(acts[path].rows())
    return {path: np.concatenate(rows) for path, rows in found.items()}, np.concatenate(labels)


@pytest.mark.slow
def test_every_layer_is_guarded_at_once(batches):
    model = Tower()
    found = ej.models.scrub(model, batches, LAYERS)
    rows, z = states(model, found.erasers, batches)
    for path in LAYERS:
        assert float(ej.metrics.linear_r2(rows[path], z)) < 1e-9
        gap = np.abs(rows[path][z == 1].mean(0) - rows[path][z == 0].mean(0))
        assert (gap <= 1e-5 * rows[path].std(0)).all()
        layer = found.layers[path]
        assert layer.original > 0.1
        assert layer.after == 0
        assert 0 < layer.damage < 1
    # Erased one by one the later layers would bring the concept back.
    alone, _ = states(model, {LAYERS[0]: found.erasers[LAYERS[0]]}, batches)
    assert float(ej.metrics.linear_r2(alone[LAYERS[2]], z)) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("looks_back", [False, True])
def test_kept_states_and_whole_passes_agree(batches, looks_back):
    model = Tower(looks_back=looks_back)
    kept, streamed = (
        ej.models.scrub(model, batches, LAYERS, memory=memory) for memory in (1 << 30, 0)
    )
    x = batches[0][0]["tokens"].reshape(-1, WIDTH)
    for path in LAYERS:
        np.testing.assert_allclose(kept.layers[path], streamed.layers[path], rtol=1e-3, atol=1e-6)
        a, b = kept.erasers[path](x), streamed.erasers[path](x)
        np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.std(x)))


def test_a_layer_costs_a_pass_through_itself(batches, monkeypatch):
    ran = []
    whole = Block.__call__

    def counted(self, hidden, mask):
        ran.append(self)
        return whole(self, hidden, mask)

    monkeypatch.setattr(Block, "__call__", counted)
    model = Tower()
    ej.models.scrub(model, batches, LAYERS)
    # Two whole passes that measure; one layer by layer; and of the first batch what a check reads.
    assert len(ran) == 2 * 3 * 4 + 3 * 4 + 2 + 3


def test_the_model_is_as_it_was(batches):
    model = Tower()
    before = model(**batches[0][0])
    with pytest.raises(ej.FailedLanesError):
        ej.models.scrub(model, [(inputs, 0 * z) for inputs, z in batches], LAYERS)
    ej.models.scrub(model, batches, LAYERS)
    assert [type(block) for block in model.layer] == [Block] * 3
    np.testing.assert_array_equal(model(**batches[0][0]), before)


def test_the_loss_is_of_the_scrubbed_model(batches):
    model = Tower()

    def loss(output, inputs):
        return jnp.mean((output - inputs["tokens"]) ** 2)

    found = ej.models.scrub(model, batches, LAYERS, loss=loss)
    assert found.loss_before == pytest.approx(
        np.mean([loss(model(**inputs), inputs) for inputs, _ in batches])
    )
    after = []
    for inputs, _ in batches:
        with ej.models.erased(model, found.erasers, mask=inputs["attention_mask"]):
            after.append(loss(model(**inputs), inputs))
    assert found.loss_after == pytest.approx(np.mean(after), rel=1e-5)


def test_bad_batches_say_what_was_expected(batches):
    model = Tower()
    with pytest.raises(ValueError, match="read several times"):
        ej.models.scrub(model, iter(batches), LAYERS)
    with pytest.raises(ValueError, match="pairs"):
        ej.models.scrub(model, [inputs for inputs, _ in batches], LAYERS)
    with pytest.raises(ValueError, match="at least one"):
        ej.models.scrub(model, [], LAYERS)
    with pytest.raises(ValueError, match="did you mean"):
        ej.models.scrub(model, batches, ["layers.0"])


def test_a_bar_shows_every_pass(batches, capsys):
    pytest.importorskip("tqdm")
    ej.models.scrub(Tower(), batches, LAYERS, progress=True)
    assert "5 of 5 passes" in capsys.readouterr().err


@pytest.mark.slow
def test_a_torch_model_gives_the_same():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    layers = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(2)]
    model = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh())
    data = ej.datasets.GaussianClasses(rows=50, dims=WIDTH).sample(jax.random.key(0))
    x, z = torch.tensor(np.asarray(data.x)), np.asarray(data.z)
    with pytest.raises(ValueError, match="eval"):
        ej.models.scrub(model, [(x, z)], ["1"])
    model.eval()
    found = ej.models.scrub(model, [(x[:60], z[:60]), (x[60:], z[60:])], ["1", "3"])
    own = [nnx.Linear(WIDTH, WIDTH, rngs=nnx.Rngs(0)) for _ in layers]
    twin = nnx.Sequential(own[0], Tanh(), own[1], Tanh())
    for mine, its in zip(own, layers, strict=True):
        mine.kernel = nnx.Param(jnp.asarray(its.weight.detach().numpy().T))
        mine.bias = nnx.Param(jnp.asarray(its.bias.detach().numpy()))
    rows = jnp.asarray(data.x)
    batches = [(rows[:60], z[:60]), (rows[60:], z[60:])]
    same = ej.models.scrub(twin, batches, ["layers.1", "layers.3"])
    for path, layer in found.layers.items():
        np.testing.assert_allclose(layer, same.layers[f"layers.{path}"], rtol=1e-3, atol=1e-6)
    assert found.layers["3"].before > 1e-4
    assert _scrub.sys.modules["torch"].is_grad_enabled()


def test_a_layer_may_write_over_what_it_is_given():
    torch = pytest.importorskip("torch")

    class InPlace(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = torch.nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            x += torch.tanh(self.dense(x))
            return x

    class Copied(torch.nn.Sequential):
        def forward(self, x):
            return super().forward(x.clone())

    torch.manual_seed(0)
    model = Copied(*(InPlace() for _ in range(3))).eval()
    data = ej.datasets.GaussianClasses(rows=50, dims=WIDTH).sample(jax.random.key(0))
    x, z = torch.tensor(np.asarray(data.x)), np.asarray(data.z)
    batches = [(x[::2], z[::2]), (x[1::2], z[1::2])]
    kept, streamed = (
        ej.models.scrub(model, batches, ["0", "1", "2"], memory=memory) for memory in (1 << 30, 0)
    )
    for path, layer in kept.layers.items():
        np.testing.assert_allclose(layer, streamed.layers[path], rtol=1e-3, atol=1e-6)
    assert kept.layers["2"].before > 1e-4
