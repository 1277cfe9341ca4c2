"""Adapters in PEFT's format: PEFT loads them, and they are what the hook is."""

import json
import warnings

import numpy as np
import pytest
import safetensors.numpy

import erasejax as ej
from tests.common import draw
from tests.models.test_fold import PATHS, hook, logits, models

__all__ = ["models"]

peft = pytest.importorskip("peft")
torch = pytest.importorskip("torch")


def fitted(model, name, side="writes", **options):
    """An eraser for each path, of one and of two directions."""
    found = {}
    for i, path in enumerate(PATHS[name]):
        module = model.get_submodule(path)
        width = module.weight.shape[0 if (name == "llama") == (side == "writes") else 1]
        found[path] = ej.LEACE(**options).fit(*draw(i, 200, width, 2 + i))
    return found


def loaded(model, folder):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*|.*has no bias.*")
        return peft.PeftModel.from_pretrained(model, folder).eval()


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("side", ["writes", "reads"])
def test_peft_loads_what_the_hook_does(models, name, side, tmp_path):
    model = models(name)
    erasers = fitted(model, name, side)
    plain = logits(torch, model)
    handles = [hook(torch, model.get_submodule(p), e, side) for p, e in erasers.items()]
    expected = logits(torch, model)
    for handle in handles:
        handle.remove()
    ej.models.save_lora(erasers, model, tmp_path / "adapter", side=side)
    np.testing.assert_array_equal(logits(torch, model), plain)
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    adapted = loaded(model, tmp_path / "adapter")
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits(torch, adapted), expected, atol=1e-5 * scale)
    assert np.abs(expected - plain).max() > 100e-5 * scale
    with adapted.disable_adapter():
        np.testing.assert_allclose(logits(torch, adapted), plain, atol=1e-6 * scale)
    folded = models(name)
    ej.models.fold_into(folded, erasers, side=side)
    np.testing.assert_allclose(logits(torch, folded), expected, atol=1e-5 * scale)


def test_it_merges_where_layers_have_a_bias(models, tmp_path):
    model = models("gpt2")
    erasers = fitted(model, "gpt2")
    ej.models.save_lora(erasers, model, tmp_path)
    adapted = loaded(model, tmp_path)
    expected = logits(torch, adapted)
    np.testing.assert_allclose(logits(torch, adapted.merge_and_unload()), expected, atol=1e-4)


@pytest.mark.slow
def test_about_the_origin_without_a_bias_it_is_lora_alone(models, tmp_path):
    model = models("llama")
    erasers = fitted(model, "llama", keep_mean=False)
    ej.models.save_lora(erasers, model, tmp_path)
    content = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    assert not [name for name in content if name.endswith("bias")]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert not config["lora_bias"]
    assert config["r"] == config["lora_alpha"] == 2
    assert list(config["rank_pattern"].values()) == [1] == list(config["alpha_pattern"].values())
    handles = [hook(torch, model.get_submodule(p), e) for p, e in erasers.items()]
    expected = logits(torch, model)
    for handle in handles:
        handle.remove()
    merged = loaded(model, tmp_path).merge_and_unload()
    np.testing.assert_allclose(logits(torch, merged), expected, atol=1e-5 * np.abs(expected).max())


def test_an_eraser_that_erases_nothing_changes_nothing(models, tmp_path):
    model = models("llama")
    path = PATHS["llama"][0]
    before = logits(torch, model)
    ej.models.save_lora({path: ej.Identity().fit(*draw(0, 50, 12, 2))}, model, tmp_path)
    np.testing.assert_allclose(logits(torch, loaded(model, tmp_path)), before, atol=1e-6)


def test_nothing_is_replaced_unless_asked_for(models, tmp_path):
    model = models("llama")
    first, second = fitted(model, "llama"), fitted(model, "llama", keep_mean=False)
    ej.models.save_lora(first, model, tmp_path)
    held = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        ej.models.save_lora(second, model, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == held
    ej.models.save_lora(second, model, tmp_path, overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == set(held)
    assert all((tmp_path / name).read_bytes() != content for name, content in held.items())


@pytest.mark.quick(11)
@pytest.mark.parametrize("step", range(12))
def test_a_kill_leaves_one_adapter_or_none(models, tmp_path, step, monkeypatch):
    from tests.models.test_checkpoint import Killed, killed_at

    model = models("llama")
    first, second = fitted(model, "llama"), fitted(model, "llama", keep_mean=False)
    ej.models.save_lora(first, model, tmp_path / "old")
    ej.models.save_lora(second, model, tmp_path / "new")
    ej.models.save_lora(first, model, tmp_path / "a")
    killed = False
    with killed_at(monkeypatch, step):
        try:
            ej.models.save_lora(second, model, tmp_path / "a", overwrite=True)
        except Killed:
            killed = True
    names = ("adapter_config.json", "adapter_model.safetensors")
    if (tmp_path / "a" / names[0]).exists():
        whole = [
            [(tmp_path / which / name).read_bytes() for name in names]
            for which in ("a", "old", "new")
        ]
        assert whole[0] in whole[1:]
    assert killed or whole[0] == whole[2]
    ej.models.save_lora(second, model, tmp_path / "a", overwrite=True)
    assert (tmp_path / "a" / names[0]).read_bytes() == (tmp_path / "new" / names[0]).read_bytes()


def test_what_has_no_adapter_is_refused(models, tmp_path):
    model = models("llama")
    eraser = ej.LEACE().fit(*draw(0, 200, 12, 2))
    for path, message in (
        ("model.embed_tokens", "LoRA is for layers of a model, this is an embedding"),
        ("model.norm", "expected a Linear"),
        ("model.layers.0.mlp.up_proj", "returns 14 features"),
    ):
        with pytest.raises(ValueError, match=message):
            ej.models.save_lora({path: eraser}, model, tmp_path / "a")
    with pytest.raises(ValueError, match="at least one"):
        ej.models.save_lora({}, model, tmp_path / "a")
    with pytest.raises(TypeError, match="torch module"):
        ej.models.save_lora({"a": eraser}, object(), tmp_path / "a")
    assert not (tmp_path / "a").exists()
