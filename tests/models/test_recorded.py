"""What passes through a model, as moments and as rows, with the labels of each."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import erasejax as ej
from erasejax.models import _sinks
from erasejax.statistics import _moments
from tests.common import gap_in_sd
from tests.models.small import (
    BATCH,
    LABELS,
    LENGTH,
    D,
    Nnx,
    eraser,
    features,
    padded,
    torch_bert,
    torch_plain,
)

MASK = padded()[1]
TOKENS = np.broadcast_to(LABELS[:, None], MASK.shape)
EVERY = MASK == 1


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


class Passes(nnx.Module):
    """Returns what it is given."""

    def __call__(self, x):
        return x


MODEL = Passes()


def record(x, model=MODEL, **options):
    """What passes where a model returns x."""
    with ej.models.recorded(model, [""], **options) as acts:
        model(jnp.asarray(x))
    return acts[""]


def assert_moments_of(moments, x, z, **options):
    """That moments are those of rows, but for rounding."""
    expected = ej.Moments.of(ej.rows.as_dataset(x, z, **options))
    assert float(moments.total) == len(x)
    assert moments.one_hot == expected.one_hot
    for name in ("mean", "concept_mean", "correlation", "standard_xz", "zz"):
        found, other = (np.asarray(getattr(one, name)) for one in (moments, expected))
        np.testing.assert_allclose(found, other, rtol=1e-5, atol=2e-5)
    assert int(moments.status) == 0


@pytest.mark.slow
def test_moments_of_padded_batches_of_every_length(torch):
    model, rows, labels = torch_bert(), [], []
    path, counted = "encoder.layer.1", []
    with ej.models.recorded(model, [path, "embeddings"], z=LABELS, mask=MASK) as acts:
        for seed, length in ((0, LENGTH), (1, LENGTH - 2), (2, LENGTH - 1)):
            tokens, mask = (part[:, :length] for part in padded(seed))
            if seed:
                acts.batch(z=torch.from_numpy(LABELS), mask=torch.from_numpy(mask))
            given = {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.tensor(mask)}
            out = model(**given).last_hidden_state.detach().numpy()
            rows.append(out[mask == 1])
            labels.append(np.broadcast_to(LABELS[:, None], mask.shape)[mask == 1])
            counted.append(float(acts["embeddings"].moments.total))  # so far
    assert counted == list(np.cumsum([len(part) for part in rows]))
    x, z = np.concatenate(rows), np.concatenate(labels)
    assert_moments_of(acts[path].moments, x, z)
    assert gap_in_sd(x, ej.LEACE().solve(acts[path].moments)(x), z) <= 1


@pytest.mark.slow
def test_padding_is_never_counted_whatever_it_holds():
    x = features()
    x[~EVERY] = np.nan
    assert_moments_of(record(x, z=LABELS, mask=MASK).moments, x[EVERY], TOKENS[EVERY])
    np.testing.assert_array_equal(record(x, rows=True, mask=MASK).rows(), x[EVERY])


@pytest.mark.slow
def test_many_rows_go_through_blocks(monkeypatch):
    monkeypatch.setattr(_sinks, "_BLOCK_ROWS", 64)
    x = features()
    assert_moments_of(record(x, z=LABELS).moments, x.reshape(-1, D), TOKENS.reshape(-1))
    assert_moments_of(record(x, z=LABELS, mask=MASK).moments, x[EVERY], TOKENS[EVERY])


def test_another_number_of_tokens_compiles_nothing():
    x = features()
    record(x, z=LABELS, mask=MASK).moments  # noqa: B018
    before = _moments._update._cache_size()
    for length in (1, 3, 5):
        kept = record(x[:, :length], z=LABELS, mask=MASK[:, :length])
        assert float(kept.moments.total) == MASK[:, :length].sum()
        record(x[:20, :length], z=LABELS[:20]).moments  # noqa: B018
    assert _moments._update._cache_size() == before


@pytest.mark.parametrize("library", ["jax", "jit", "torch"])
def test_models_of_every_library(library):
    x = features()
    if library == "torch":
        torch = pytest.importorskip("torch")
        model = torch_plain()
        with torch.inference_mode():
            expected = model[0](torch.from_numpy(x)).numpy()
        path, run = "0", lambda: model(torch.from_numpy(x))
    else:
        model = Nnx()
        expected = np.asarray(model.first(jnp.asarray(x)))
        call = nnx.jit(lambda model, x: model(x)) if library == "jit" else lambda model, x: model(x)
        path, run = "first", lambda: call(model, jnp.asarray(x))
        run()
    with ej.models.recorded(model, [path], z=LABELS, mask=MASK) as acts:
        run()
        acts.batch(z=LABELS)
        run()
    twice = np.concatenate([expected[EVERY], expected.reshape(-1, D)])
    z = np.concatenate([TOKENS[EVERY], TOKENS.reshape(-1)])
    assert_moments_of(acts[path].moments, twice, z)
    run()
    assert float(acts[path].moments.total) == len(twice)
    with ej.models.recorded(model, [path], rows=True) as acts:
        run()
        run()
        np.testing.assert_allclose(acts[path].rows()[-1], expected[-1, -1], rtol=0, atol=1e-5)
    assert acts[path].rows().shape == (2 * BATCH * LENGTH, D)
    with pytest.raises(ValueError, match=f"{path}: no labels were recorded; pass z"):
        acts[path].z  # noqa: B018


def test_programs_do_not_keep_what_they_recorded():
    model, x = Nnx(), jnp.asarray(features())
    run = nnx.jit(lambda model, x: model(x))
    with ej.models.recorded(model, ["first"], rows=True) as acts:
        run(model, x)
    assert acts["first"].rows().shape == (BATCH * LENGTH, D)
    gone = weakref.ref(acts)
    del acts
    gc.collect()
    assert gone() is None


def test_programs_that_are_differentiated_record():
    model, x = Nnx(), jnp.asarray(features())
    step = nnx.jit(nnx.value_and_grad(lambda model, x: jnp.sum(model(x) ** 2)))
    with ej.models.recorded(model, ["first"], rows=True) as acts:
        _, gradient = step(model, x)
    np.testing.assert_allclose(
        acts["first"].rows(), model.first(x).reshape(-1, D), rtol=0, atol=1e-5
    )
    assert jax.tree.structure(gradient) == jax.tree.structure(nnx.state(model))


@pytest.mark.slow
def test_what_is_recorded_inside_erased_is_erased(torch):
    model, x, own = torch_plain(), torch.from_numpy(features()), eraser()
    with torch.no_grad():
        plain = model[0](x).reshape(-1, D).numpy()
        with ej.models.recorded(model, ["0"], rows=True) as before:
            with ej.models.erased(model, {"0": own}):
                with ej.models.recorded(model, ["0"], rows=True) as after:
                    model(x)
    np.testing.assert_array_equal(before["0"].rows(), plain)
    np.testing.assert_allclose(after["0"].rows(), own(plain), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_labels_one_a_token_and_of_every_kind():
    x, rng = features(), np.random.default_rng(0)
    values, several = rng.random((BATCH, LENGTH)), rng.random((BATCH, LENGTH, 2))
    binary = rng.integers(0, 2, (BATCH, 4))
    assert_moments_of(record(x, z=TOKENS, mask=MASK).moments, x[EVERY], TOKENS[EVERY])
    assert_moments_of(record(x, z=values, mask=MASK).moments, x[EVERY], values[EVERY])
    assert_moments_of(record(x, z=several, mask=MASK).moments, x[EVERY], several[EVERY])
    each = np.broadcast_to(binary[:, None], (BATCH, LENGTH, 4))[EVERY]
    assert_moments_of(record(x, z=binary, mask=MASK).moments, x[EVERY], each)
    assert_moments_of(record(x, z=TOKENS > 1, mask=MASK).moments, x[EVERY], TOKENS[EVERY] > 1)
    assert_moments_of(record(x[:, 0], z=LABELS).moments, x[:, 0], LABELS)


@pytest.mark.slow
def test_several_concepts_at_once():
    x, values = features(), np.random.default_rng(0).random((BATCH, LENGTH))
    given = {"class": LABELS, "value": values}
    found = record(x, z=given, mask=MASK, num_classes={"class": 5}).moments
    assert set(found) == set(given)
    assert_moments_of(found["class"], x[EVERY], TOKENS[EVERY], num_classes=5)
    assert_moments_of(found["value"], x[EVERY], values[EVERY])
    kept = record(x, z=given, mask=MASK, rows=True)
    np.testing.assert_array_equal(kept.z["class"], TOKENS[EVERY])
    np.testing.assert_array_equal(kept.z["value"], values[EVERY].astype(np.float32))


@pytest.mark.slow
def test_classes_that_come_later():
    x = features()
    first = LABELS < 2
    with ej.models.recorded(MODEL, [""], z=LABELS[first]) as acts:
        MODEL(jnp.asarray(x[first]))
        assert acts[""].moments.xz.shape == (D, 2)
        acts.batch(z=LABELS[~first])
        MODEL(jnp.asarray(x[~first]))
    both = np.concatenate([x[first], x[~first]]).reshape(-1, D)
    z = np.concatenate([TOKENS[first], TOKENS[~first]]).reshape(-1)
    assert_moments_of(acts[""].moments, both, z)
    assert gap_in_sd(both, ej.LEACE().solve(acts[""].moments)(both), z) <= 1


@pytest.mark.slow
def test_moments_by_class():
    x = features()
    found = record(x, z=LABELS, mask=MASK, by_class=True, num_classes=3).moments
    expected = ej.ClassMoments.of(ej.rows.as_dataset(x[EVERY], TOKENS[EVERY]))
    np.testing.assert_allclose(found.covariances, expected.covariances, rtol=0, atol=2e-5)
    np.testing.assert_allclose(found.means, expected.means, rtol=0, atol=1e-5)


@pytest.mark.parametrize("left", [False, True])
def test_positions(left):
    x, mask = features(), padded(left=left)[1]
    mask[5] = 0  # a sequence without tokens has no row
    x[mask == 0] = np.nan
    there = mask.any(axis=1)
    places = [np.nonzero(row)[0] for row in mask[there]]
    expected = {
        "first": np.stack([row[at[0]] for row, at in zip(x[there], places, strict=True)]),
        "last": np.stack([row[at[-1]] for row, at in zip(x[there], places, strict=True)]),
        "mean": np.stack([row[at].mean(0) for row, at in zip(x[there], places, strict=True)]),
    }
    for positions, rows in expected.items():
        kept = record(x, z=LABELS, mask=mask, positions=positions, rows=True)
        np.testing.assert_allclose(kept.rows(), rows, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(kept.z, LABELS[there])
    last = record(x, z=TOKENS + np.arange(LENGTH), mask=mask, positions="last", rows=True)
    np.testing.assert_array_equal(last.z, LABELS[there] + [at[-1] for at in places])
    whole = record(features(), positions="mean", rows=True).rows()
    np.testing.assert_allclose(whole, features().mean(axis=1), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="a mean over tokens has no label of one"):
        record(x, z=TOKENS, mask=mask, positions="mean")


def test_rows_in_files(tmp_path):
    x = features()
    path = tmp_path / "rows.npy"
    kept = record(x, z=LABELS, mask=MASK, rows=path)
    assert isinstance(kept.rows(), np.memmap)
    np.testing.assert_array_equal(kept.rows(), x[EVERY])
    np.testing.assert_array_equal(np.load(path), x[EVERY])
    np.testing.assert_array_equal(kept.z, TOKENS[EVERY])
    model = Nnx()
    with ej.models.recorded(
        model, ["first", "rest.layers.1"], folder=tmp_path, dtype="float16"
    ) as acts:
        for _ in range(20):  # more digits in the header than at first
            model(jnp.asarray(x))
        with pytest.raises(ValueError, match=r"first\.npy: is complete when the context ends"):
            acts["first"].rows()
    assert {file.name for file in tmp_path.iterdir()} == {
        "rows.npy",
        "first.npy",
        "rest.layers.1.npy",
    }
    rows = acts["first"].rows()
    assert (rows.dtype, rows.shape) == (np.float16, (20 * BATCH * LENGTH, D))
    expected = np.asarray(model.first(jnp.asarray(x)), np.float16).reshape(-1, D)
    np.testing.assert_array_equal(rows, np.tile(expected, (20, 1)))


def test_short_floats_are_kept_or_widened(torch, tmp_path):
    x = torch.from_numpy(features()).bfloat16()
    model = torch.nn.Identity()
    for rows, dtype in ((True, "bfloat16"), (tmp_path / "x.npy", "float32")):
        with ej.models.recorded(model, [""], rows=rows) as acts:
            model(x)
        found = acts[""].rows()
        assert found.dtype.name == dtype
        np.testing.assert_array_equal(found.astype(np.float32), x.float().reshape(-1, D))
    with ej.models.recorded(model, [""], z=LABELS) as acts:
        model(x)
    wide = x.float().reshape(-1, D).numpy()
    assert_moments_of(acts[""].moments, wide, TOKENS.reshape(-1))


@pytest.mark.parametrize("offset", [0, 1e6])
def test_doubles_far_from_zero(torch, offset):
    x = features().astype(np.float64) + offset
    model = torch.nn.Identity()
    with ej.models.recorded(model, [""], z=LABELS, mask=MASK) as acts:
        model(torch.from_numpy(x))
    eraser = ej.LEACE().solve(acts[""].moments)
    with ej.models.erased(model, {"": eraser}, mask=MASK):
        found = model(torch.from_numpy(x)).numpy()
    assert found.dtype == np.float64
    # The eraser's centre is rounded to float32, which moves all rows alike.
    assert gap_in_sd(features()[EVERY], found[EVERY], TOKENS[EVERY]) <= 1


def test_files_are_whole_or_not_there(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(3))

    def fails():
        with ej.models.recorded(MODEL, [""], rows=path):
            MODEL(jnp.asarray(features()))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    np.testing.assert_array_equal(np.load(path), np.arange(3))
    assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]
    with pytest.raises(ValueError, match="float16 does not hold numbers of this hidden state"):
        record(features() * 1e5, rows=path, dtype=np.float16)
    np.testing.assert_array_equal(np.load(path), np.arange(3))


def test_rows_are_copied_when_they_pass(torch):
    x = torch.from_numpy(features())
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU(inplace=True))
    expected = x.clone().reshape(-1, D).numpy()
    with ej.models.recorded(model, ["0"], rows=True) as acts:
        with ej.models.recorded(model, ["0"], z=LABELS) as streamed:
            model(x)
    assert (x >= 0).all()
    np.testing.assert_array_equal(acts["0"].rows(), expected)
    assert_moments_of(streamed["0"].moments, expected, TOKENS.reshape(-1))


def test_labels_that_do_not_fit_say_so():
    x = features()
    for z in (LABELS[1:], TOKENS[:, 1:], np.zeros((BATCH + 1, LENGTH)), np.zeros((2, 2, 2), int)):
        with pytest.raises(ValueError, match=r"one a sequence \(24,\) or one a token \(24, 7\)"):
            record(x, z=z)
    with pytest.raises(ValueError, match="got label 2, but num_classes is 2"):
        record(x, z=LABELS, num_classes=2)
    with pytest.raises(ValueError, match="got -1; leave tokens without a label out by mask"):
        record(x, z=LABELS - 1)
    with pytest.raises(TypeError, match="z: missing"):
        record(x)
    with pytest.raises(TypeError, match="z: expected an array of numbers"):
        record(x, z=["a"] * BATCH)
    with pytest.raises(ValueError, match="by_class=True needs class labels, got float"):
        record(x, z=LABELS / 2, by_class=True)
    with pytest.raises(ValueError, match="num_classes needs class labels, got float"):
        record(x, z=LABELS / 2, num_classes=3)


def test_batches_that_were_not_announced_say_so():
    x = jnp.asarray(features())
    again = r"call acts\.batch\(z=\.\.\., mask=\.\.\.\) before each further batch"
    for run in (MODEL, nnx.jit(lambda model, x: model(x))):
        call = run if run is MODEL else lambda x: run(MODEL, x)  # noqa: B023

        def other(z=LABELS, mask=MASK, call=call):
            with ej.models.recorded(MODEL, [""], z=z, mask=mask):
                call(x)
                call(x[:-1, :-1])

        for options in ({}, {"z": None, "mask": MASK}, {"mask": None}):
            with pytest.raises((ValueError, TypeError), match=f"{again}|z: missing"):
                other(**options)
    with ej.models.recorded(MODEL, [""], z=LABELS) as acts:
        MODEL(x)
        with pytest.raises(ValueError, match=f"with the labels of the last; {again}"):
            MODEL(x)
        acts.batch(z=LABELS)
        MODEL(x)
        with pytest.raises(ValueError, match="expected one concept as in the first batch"):
            acts.batch()
        acts.batch(z=LABELS / 2)
        with pytest.raises(ValueError, match="expected labels as in the batches before, got float"):
            MODEL(x)
    assert float(acts[""].moments.total) == 2 * BATCH * LENGTH


def test_what_is_not_there_says_so():
    with ej.models.recorded(MODEL, [""], z=LABELS) as acts:
        with pytest.raises(ValueError, match="nothing was recorded here; was the module called"):
            acts[""].moments  # noqa: B018
        MODEL(jnp.asarray(features()))
    assert list(acts) == [""]
    with pytest.raises(ValueError, match="only moments are kept; pass rows=True or folder"):
        acts[""].rows()
    with pytest.raises(ValueError, match="rows are kept, and no moments"):
        record(features(), rows=True).moments  # noqa: B018
    with pytest.raises(ValueError, match=r"rows: expected a \.npy file, and one path"):
        record(features(), rows="x.csv")
    with pytest.raises(ValueError, match="no such module; did you mean 'first'"):
        ej.models.recorded(Nnx(), ["frist"], rows=True).__enter__()
    with pytest.raises(
        ValueError, match=r"expected a hidden state \(\.\.\., d\), got shape \(32,\)"
    ):
        record(features()[0, 0], rows=True)
