"""The numbers of every public fit, score, dataset, file and sweep, kept and compared.

    python -m tests.golden record FOLDER     # before a change that must not change numbers
    python -m tests.golden compare FOLDER    # after it

Numbers depend on the machine and on jax's version, so both runs belong on one machine. Names of
the package's modules do not appear here: only what users call.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import erasejax as ej
from tests import common, sweeps

N, D = 96, 6
KEY = jax.random.key(11)
SPEC = sweeps.SPEC | {"seeds": 48}
PAIRS_SPEC = {
    "dataset": {"name": "contrast-pairs", "rows": 12, "dims": 6},
    "eraser": ["identity", "mean-difference"],
    "probe": ["crc", {"name": "ccs", "starts": 2, "epochs": 10}, "logistic"],
    "seeds": 8,
    "metrics": ["accuracy", "damage", "majority_rate"],
}
TASK_SPEC = {
    "dataset": {"name": "two-concepts", "rows": 30, "dims": 5},
    "eraser": ["splince", "oracle-leace", {"name": "inlp", "rounds": 2}, "qleace"],
    "probe": ["lda", {"name": "mlp", "width": 4, "steps": 10}],
    "seeds": 6,
    "metrics": ["accuracy", "task_accuracy", "rank", "balanced_accuracy"],
}


def leaves(name, value):
    """The arrays of a pytree, named by their paths."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(value)[0]:
        yield f"{name}{jax.tree_util.keystr(path)}", np.asarray(leaf)


def rows(kind):
    """Rows with a concept of one kind, and a task."""
    x, z = common.draw(3, N, D, 3 if kind == "three" else 2, gap=0.7)
    rng = np.random.default_rng(5)
    if kind == "real":
        z = (x[:, 0] + rng.standard_normal(N)).astype(np.float32)
    if kind == "binaries":
        z = np.stack([z, rng.integers(0, 2, N)], axis=1).astype(np.int32)
    task = (x[:, 1] > 0).astype(np.int32)
    weights = (0.5 + rng.random(N)).astype(np.float32)
    return x, z, task, weights


def fits():
    """Every eraser and probe on every kind of concept that it takes."""
    for kind in ("two", "three", "real", "binaries"):
        x, z, task, weights = rows(kind)
        for name, config in (common.erasers(D) | common.probes()).items():
            more = {"task": task} if isinstance(config, ej.SPLINCE) else {}
            try:
                fitted = config.fit(x, z, weights=weights, key=KEY, **more)
            except (TypeError, ValueError) as error:
                yield f"{kind} {name} refused", np.frombuffer(type(error).__name__.encode(), "u1")
                continue
            yield from leaves(f"{kind} {name}", fitted)
            if name in common.erasers(D):
                yield (
                    f"{kind} {name} rows",
                    np.asarray(fitted(x, z) if fitted.needs_z else fitted(x)),
                )
                continue
            yield f"{kind} {name} scores", np.asarray(fitted.scores(x))
            scores = ["r2"] if kind == "real" else ["accuracy", "balanced_accuracy", "auroc"]
            if hasattr(fitted, "log_proba"):
                scores += ["log_loss", "expected_calibration_error"]
            if kind == "two":
                scores += ["recall_at_fpr"]
            for score in scores:
                try:
                    found = getattr(ej.metrics, score)(fitted, x, z, weights=weights)
                except (TypeError, ValueError, AttributeError):
                    continue
                yield f"{kind} {name} {score}", np.asarray(found)


def statistics():
    """Moments, certificates, intervals, selections, recursions, transport."""
    for kind in ("two", "three", "real"):
        x, z, task, weights = rows(kind)
        classes = int(z.max()) + 1 if kind != "real" else None
        data = ej.Dataset(x=x, z=z, num_classes=classes, weights=weights)
        moments = ej.Moments.of(data)
        yield from leaves(f"{kind} moments", moments)
        yield from leaves(f"{kind} merged", ej.merge(moments, moments.update(x[:40], z[:40])))
        yield from leaves(f"{kind} solved", ej.LEACE().solve(moments))
        yield f"{kind} linear_r2", np.asarray(ej.metrics.linear_r2(x, z, weights=weights))
        found = ej.metrics.canonical_correlations(x, z, weights=weights)
        yield f"{kind} correlations", np.asarray(found)
        groups = np.arange(N) // 3
        yield from leaves(f"{kind} test", ej.metrics.guardedness_test(x, z, key=KEY))
        if kind != "real":
            yield from leaves(f"{kind} classes", ej.ClassMoments.of(data))
            grouped = ej.metrics.guardedness_test(x, z, key=KEY, groups=groups)
            yield from leaves(f"{kind} grouped", grouped)
            yield f"{kind} majority", np.asarray(ej.metrics.majority_rate(z))
            probe = ej.probes.LDA().fit(x, z)
            interval = ej.metrics.bootstrap(ej.metrics.accuracy, probe, x, z, key=KEY)
            yield from leaves(f"{kind} interval", interval)
            for name in ("codelength", "learning_curve", "selectivity", "v_information"):
                found = getattr(ej.metrics, name)(ej.probes.LDA(), x, z, key=KEY, groups=groups)
                yield from leaves(f"{kind} {name}", found)
            yield from leaves(
                f"{kind} selection",
                ej.probes.select_l2(ej.probes.Logistic(), x, z, l2=[0.01, 1.0], key=KEY),
            )
            yield from leaves(
                f"{kind} recursion", ej.probes.recursive(ej.probes.LDA(), x, z, rounds=3)
            )
        yield f"{kind} damage", np.asarray(ej.metrics.damage(x, ej.LEACE().fit(x, z)(x)))
    a, b = np.cov(rows("two")[0].T), np.cov(rows("three")[0].T)
    yield "map", np.asarray(ej.transport.ot_map(a, b))
    yield "distance", np.asarray(ej.transport.distance(a, b))
    yield "barycenter", np.asarray(ej.transport.barycenter(np.stack([a, b]), np.array([0.3, 0.7])))


def draws():
    """Every dataset, two parts of it."""
    for name in sorted(set(ej.datasets.__all__) - {"Generator", "OwnRows", "Rows", "FileRows"}):
        small = {"rows": 20, "dims": 5} if name != "DiscreteFeatures" else {"rows": 20}
        try:
            dataset = getattr(ej.datasets, name)(**small)
        except TypeError:
            dataset = getattr(ej.datasets, name)(rows=20)
        for part in (0, 1):
            yield from leaves(f"{name} {part}", dataset.sample(KEY, part=part))


def contrast():
    """Contrast pairs: every probe of them, and both ablations."""
    dataset = ej.datasets.ContrastPairs(rows=12, dims=5, templates=2)
    sets = [dataset.sample(KEY, part=part) for part in (0, 1)]
    for name, config in common.contrast_probes().items():
        found = config.fit(sets[0], key=KEY)
        yield from leaves(name, found)
        yield f"{name} scores", np.asarray(found.scores(sets[1]))
        yield f"{name} accuracy", np.asarray(found.accuracy(sets[1]))
    yield from leaves(
        "recursive_ccs",
        ej.probes.recursive_ccs(common.contrast_probes()["CCS"], sets[0], rounds=2, key=KEY),
    )
    for mode in ("oracle", "honest"):
        yield from leaves(mode, ej.ablate_pairs(*sets, mode=mode))


def files(folder):
    """Saved objects, byte for byte, and what the command line prints and writes."""
    x, z, task, _ = rows("two")
    os.chdir(folder)
    np.save("x.npy", x)
    np.save("z.npy", z)
    np.save("task.npy", task)
    for name, config in (common.erasers(D) | common.probes()).items():
        more = {"task": task} if isinstance(config, ej.SPLINCE) else {}
        fitted = config.fit(x, z, key=KEY, **more)
        ej.save(fitted, "fitted.safetensors")
        yield f"saved {name}", np.fromfile("fitted.safetensors", "u1")
        yield from leaves(f"loaded {name}", ej.load("fitted.safetensors"))
    yield from leaves("streamed", ej.stream_moments("x.npy", "z.npy"))
    commands = [
        *(
            f"fit x.npy z.npy --out {name}.safetensors --method {name} {more}"
            for name, more in {
                "mean-difference": "",
                "leace": "--shrinkage 0.1",
                "splince": "--task task.npy",
                "oracle-leace": "",
                "inlp": "--rounds 2 --probe lda",
                "random-directions": "--rank 2",
                "alf-qleace": "",
            }.items()
        ),
        "apply leace.safetensors x.npy --out y.npy",
        "apply leace.safetensors x.npy --out y.csv",
        "info leace.safetensors",
        "info y.csv",
        "probe x.npy z.npy --method leace --probes lda,qda,mean-difference",
    ]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "erasejax", *command.split()],
            capture_output=True,
            timeout=300,
            env={**os.environ, "COLUMNS": "110"},
        )
        assert done.returncode == 0, done.stderr.decode()
        yield f"$ {command}", np.frombuffer(done.stdout, "u1")
        for written in ("y.npy", "y.csv"):
            if f"--out {written}" in command:
                yield f"$ {command} wrote", np.fromfile(written, "u1")


def blocks(folder):
    """Stored blocks, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("blocks/*.parquet")}


def swept(folder):
    """Three small sweeps, in a folder that is kept: stored blocks must stay readable."""
    for name, spec in {"plain": SPEC, "pairs": PAIRS_SPEC, "task": TASK_SPEC}.items():
        out = Path(folder) / name
        before = blocks(out)
        ej.sweep.run(spec, out=out, progress=False)
        assert not before or before == blocks(out), f"{name}: stored blocks were not taken as done"
        frame = sweeps.sorted_frame(ej.sweep.open(out))
        for column in frame.columns:
            values = frame[column].to_numpy()
            yield f"{name} {column}", values.astype("U") if values.dtype == object else values


def numbers(stored, fresh):
    """All of it, by name."""
    home = os.getcwd()
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for part in (fits(), statistics(), draws(), contrast(), files(scratch)):
            found |= dict(part)
        os.chdir(home)
        found |= {f"stored {k}": v for k, v in swept(stored)}
        found |= {f"fresh {k}": v for k, v in swept(fresh)}
    return found


def differences(before, after):
    """Yields what is not the same: names, kinds, or numbers beyond 1e-6 of the largest."""
    yield from (f"missing: {name}" for name in before if name not in after)
    for name, one in before.items():
        other = after.get(name)
        if other is None:
            continue
        if one.dtype != other.dtype or one.shape != other.shape:
            yield f"{name}: {one.dtype}{one.shape} became {other.dtype}{other.shape}"
        elif one.dtype.kind == "f":
            both = np.isnan(one) & np.isnan(other)
            gap = np.abs(np.where(both, 0, one.astype(float) - other.astype(float)))
            size = np.abs(np.where(np.isfinite(one), one, 0)).max(initial=0.0)
            if not (gap <= 1e-6 * max(size, 1e-30)).all():
                yield f"{name}: by {gap.max():.3g} of {size:.3g}"
        elif not np.array_equal(one, other):
            yield f"{name}: {text(one)} became {text(other)}"


def text(values):
    """What bytes say, or how many values there are."""
    return bytes(values).decode(errors="replace") if values.dtype == np.uint8 else values


def main():
    """Records or compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as fresh:
        found = numbers(folder, fresh)
    if given.what == "record":
        np.savez(folder / "numbers.npz", **{str(i): v for i, v in enumerate(found.values())})
        (folder / "names.json").write_text(json.dumps(list(found)))
        print(f"{len(found)} arrays recorded")
        return
    names = json.loads((folder / "names.json").read_text())
    with np.load(folder / "numbers.npz") as stored:
        before = {name: stored[str(i)] for i, name in enumerate(names)}
    same = sum(
        np.array_equal(v, found.get(k), equal_nan=v.dtype.kind == "f") for k, v in before.items()
    )
    wrong = list(differences(before, found))
    print(f"{len(before)} arrays: {same} bit for bit, {len(wrong)} differ", *wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
