"""Erasers and probes as estimators of scikit-learn."""

import collections
import contextlib
import pickle
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import erasejax as ej
from erasejax.sklearn import ConceptEraser, Probe
from tests.common import class_means, draw, enable_x64

FROZEN = (
    "the check wants no object as a default that a call might change; this one is frozen, and the "
    "signature says what it is"
)
EXPECTED = {"check_parameters_default_constructible": FROZEN}

CHECKED = {
    "LEACE": ConceptEraser(concept="y"),
    "Logistic": Probe(),
    # Of 15 rows of 30 features, as of one check, these have many optima, and with a penalty one.
    "LDA": Probe(ej.probes.LDA(l2=0.1)),
    "LeastSquares": Probe(ej.probes.LeastSquares(l2=0.1)),
    "LinearSVM": Probe(ej.probes.LinearSVM()),
    "MeanDifferenceProbe": Probe(ej.probes.MeanDifferenceProbe()),
    "MeanDifference": ConceptEraser(ej.MeanDifference(), "y"),
    # One check has labels as floats, which are quantities here; this probe reads both.
    "INLP": ConceptEraser(ej.INLP(rounds=2, probe=ej.probes.LeastSquares(l2=0.1)), "y"),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CHECKED)
def test_the_checks_of_scikit_learn_pass(name):
    found = check_estimator(
        CHECKED[name], on_fail=None, on_skip=None, expected_failed_checks=EXPECTED
    )
    by_status = collections.defaultdict(list)
    for result in found:
        by_status[result["status"]].append(result)
    failed = {one["check_name"]: one["exception"] for one in by_status["failed"]}
    assert not failed
    assert {one["check_name"] for one in by_status["xfail"]} == set(EXPECTED)
    for one in by_status["skipped"]:
        assert "SCIPY_ARRAY_API is not set" in str(one["exception"])
    assert len(by_status["passed"]) >= len(found) - 2 > 45


@contextlib.contextmanager
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def rows(n=200, d=5, seed=0, dtype=np.float64):
    """Rows, a concept in words, and a task that goes with it."""
    x, z = draw(seed, n, d, 2, dtype=dtype)
    task = (np.random.default_rng(seed + 1).uniform(size=n) < 0.3 + 0.4 * z).astype(int)
    return x + task[:, None].astype(dtype), np.array(["f", "m"])[z], task


def gap(erased, labels):
    """The largest difference of class means in standard deviations of the rows."""
    means = class_means(erased, labels)
    spread = erased.astype(np.float64).std(axis=0)
    return float((np.ptp(means, axis=0) / spread).max())


def test_the_concept_is_never_guessed():
    x, z, task = rows()
    with pytest.raises(ValueError, match=r"sensitive_features=\.\.\.[\s\S]*concept='y'"):
        ConceptEraser().fit(x, task)
    with pytest.raises(ValueError, match="leave one of the two out"):
        ConceptEraser(concept="y").fit(x, task, sensitive_features=z)
    with pytest.raises(ValueError, match="the target y is None"):
        ConceptEraser(concept="y").fit(x)
    with pytest.raises(ValueError, match="concept: expected one of sensitive_features, y"):
        ConceptEraser(concept="z").fit(x, task)
    own = ConceptEraser(concept="y").fit(x, z).transform(x)
    assert (own == ConceptEraser().fit(x, task, sensitive_features=z).transform(x)).all()
    assert gap(own, z) < 1e-12 < gap(own, task)


@pytest.mark.slow
def test_a_pipeline_hands_on_what_is_asked_for():
    x, z, task = rows()
    weights = np.random.default_rng(2).uniform(0.5, 2, len(x))
    with routing():
        eraser = ConceptEraser().set_fit_request(sensitive_features=True, sample_weight=True)
        last = LogisticRegression().set_fit_request(sample_weight=False)
        pipe = make_pipeline(eraser, last).fit(x, task, sensitive_features=z, sample_weight=weights)
        alone = ConceptEraser().fit(x, sensitive_features=z, sample_weight=weights)
        unweighted = ConceptEraser().fit(x, sensitive_features=z)
        assert (pipe[0].transform(x) == alone.transform(x)).all()
        assert not np.allclose(alone.transform(x), unweighted.transform(x))
        assert pipe.predict(x).shape == task.shape  # without the concept
        with pytest.raises(ValueError, match="sensitive_features: missing"):
            make_pipeline(ConceptEraser(), LogisticRegression()).fit(x, task)


@pytest.mark.slow
def test_a_search_goes_over_fields_of_the_method():
    x, z, task = rows(n=60, d=8)
    grid = {"concepteraser__method__shrinkage": [0.0, 0.5]}
    with routing():
        eraser = ConceptEraser().set_fit_request(sensitive_features=True)
        pipe = make_pipeline(eraser, LogisticRegression())
        search = GridSearchCV(pipe, grid, cv=3).fit(x, task, sensitive_features=z)
        scores = cross_val_score(pipe, x, task, params={"sensitive_features": z}, cv=3)
    assert scores.shape == (3,)
    assert search.cv_results_["split0_test_score"].shape == (2,)
    assert search.best_estimator_[0].method.shrinkage in {0.0, 0.5}
    assert eraser.method.shrinkage == 0.0
    search = GridSearchCV(Probe(), {"probe": [ej.probes.Logistic(), ej.probes.LDA()]}, cv=3)
    assert search.fit(x, task).best_params_["probe"] in (ej.probes.Logistic(), ej.probes.LDA())


def test_fields_are_parameters():
    eraser = ConceptEraser(ej.INLP(rounds=3))
    names = {"method", "concept", "random_state"}
    assert set(eraser.get_params(deep=False)) == names
    inner = {f"method__{name}" for name in ("rounds", "probe", "stop_at", "keep_mean")}
    inner |= {f"method__probe__{name}" for name in ("l2", "max_steps")}
    assert set(eraser.get_params()) == names | inner
    before = eraser.method
    eraser.set_params(method__probe__l2=0.5, method__rounds=2)
    assert eraser.method == ej.INLP(rounds=2, probe=ej.probes.Logistic(l2=0.5))
    assert before == ej.INLP(rounds=3)
    eraser.set_params(method__shrinkage=0.1, method=ej.LEACE())
    assert eraser.method == ej.LEACE(shrinkage=0.1)
    eraser.set_params(method__probe__l2=0.2, method=ej.INLP(), method__probe=ej.probes.LDA())
    assert eraser.method == ej.INLP(probe=ej.probes.LDA(l2=0.2))
    with pytest.raises(ValueError, match="Invalid parameter 'method__rank'.*method__rounds"):
        eraser.set_params(method__rank=1)
    copy = clone(eraser)
    assert copy.method == eraser.method
    assert "INLP" in repr(copy)


def test_frames_keep_their_names():
    x, z, task = rows(d=3)
    frame = pd.DataFrame(x, columns=["a", "b", "c"], index=np.arange(len(x))[::-1])
    series = pd.Series(z, index=frame.index, name="sex")
    eraser = ConceptEraser().set_output(transform="pandas").fit(frame, sensitive_features=series)
    erased = eraser.transform(frame)
    assert list(erased.columns) == list(eraser.feature_names_in_) == ["a", "b", "c"]
    assert eraser.get_feature_names_out().tolist() == ["a", "b", "c"]
    assert eraser.n_features_in_ == 3
    assert eraser.concept_names_.tolist() == ["sex=f", "sex=m"]
    assert (erased.index == frame.index).all()
    assert (erased == ConceptEraser().fit(x, sensitive_features=z).transform(x)).all(axis=None)

    with routing():
        request = ConceptEraser().set_fit_request(sensitive_features=True)
        columns = ColumnTransformer([("e", request, ["a", "c"])], remainder="passthrough")
        found = columns.set_output(transform="pandas").fit_transform(
            frame, task, sensitive_features=z
        )
    assert list(found.columns) == ["e__a", "e__c", "remainder__b"]
    assert gap(found[["e__a", "e__c"]].to_numpy(), z) < 1e-12
    assert (found["remainder__b"] == frame["b"]).all()


@pytest.mark.quick(3)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "method", [ej.LEACE(), ej.ALFQLEACE(), ej.INLP(rounds=2)], ids=lambda m: m.name
)
def test_a_pickle_holds_a_file_of_ours(method, dtype):
    x, z, _ = rows(n=60, dtype=dtype)
    eraser = ConceptEraser(method, concept="y").fit(x, z)
    content = pickle.dumps(eraser)
    assert b'"format":"erasejax"' in content
    assert b"jaxlib" not in content
    assert b"_reconstruct_array" not in content
    again = pickle.loads(content)
    assert (again.transform(x) == eraser.transform(x)).all()
    assert pickle.dumps(again) == content
    assert type(again.eraser_) is type(eraser.eraser_)
    x, z, task = rows(n=60, dtype=dtype)
    probe = Probe().fit(x, z)
    assert (pickle.loads(pickle.dumps(probe)).predict_proba(x) == probe.predict_proba(x)).all()
    assert not hasattr(pickle.loads(pickle.dumps(Probe())), "_fitted")


PEOPLE = pd.DataFrame({
    "sex": ["f", "m", "f", "m", "x", "m"],
    "old": [True, False, False, True, True, False],
    "age": [20.5, 30.0, 40.0, 50.0, 33.0, 41.0],
    "town": pd.Categorical([2.5, 1.0, 2.5, 1.0, 1.0, 2.5]),
    "size": pd.array([3, 1, 2, 2, 1, 1], dtype="Int64"),
})


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("given", "names", "rank"),
    [
        (PEOPLE["sex"], ["sex=f", "sex=m", "sex=x"], 2),
        (PEOPLE["sex"].tolist(), [f"sensitive_features={c}" for c in "fmx"], 2),
        (PEOPLE["old"], ["old=False", "old=True"], 1),
        (PEOPLE["age"], ["age"], 1),
        (PEOPLE["age"].astype(object), ["age"], 1),
        (pd.cut(PEOPLE["age"], [0, 32, 99]), ["age=(0, 32]", "age=(32, 99]"], 1),
        (
            [["f", 20.5], ["m", 30], ["f", 40], ["m", 50], ["m", 33], ["m", 41]],
            ["0=f", "0=m", "1"],
            2,
        ),
        (PEOPLE["town"], ["town=1.0", "town=2.5"], 1),
        (PEOPLE["size"], ["size=1", "size=2", "size=3"], 2),
        (PEOPLE[["age"]], ["age"], 1),
        (PEOPLE[["sex", "old"]], ["sex=f", "sex=m", "sex=x", "old=False", "old=True"], 3),
        (PEOPLE[["old", "age"]], ["old=False", "old=True", "age"], 2),
        (
            PEOPLE[["old", "age"]].to_numpy(),
            ["0=False", "0=True", "1"],
            2,
        ),
        ([[0, 2], [1, 2], [0, 5], [1, 2], [0, 5], [1, 5]], ["0=0", "0=1", "1=2", "1=5"], 2),
    ],
)
def test_what_a_column_is_taken_for(given, names, rank):
    x = np.random.default_rng(0).normal(size=(6, 5))
    eraser = ConceptEraser(ej.MeanDifference()).fit(x, sensitive_features=given)
    found = [re.sub(r"sensitive_features\[(\d)\]", r"\1", one) for one in eraser.concept_names_]
    assert found == names
    assert int(eraser.eraser_.rank) == rank


@pytest.mark.slow
def test_each_of_several_columns_is_erased():
    x, z, task = rows(n=300)
    age = np.random.default_rng(5).uniform(20, 60, len(x)) + 3 * x[:, 0]
    people = pd.DataFrame({"sex": z, "task": task, "age": age})
    erased = ConceptEraser().fit(x, sensitive_features=people).transform(x)
    assert gap(erased, z) < 1e-12
    assert gap(erased, task) < 1e-12
    assert abs(np.corrcoef(erased.T, age)[-1, :-1]).max() < 1e-12
    coded = np.column_stack([z == "f", z == "m", task == 0, task == 1, age]).astype(float)
    with enable_x64():
        own = np.asarray(ej.LEACE().fit(x, coded)(x))
    np.testing.assert_allclose(erased, own, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (["f", None, "m", "f"], ValueError, "1 of 4 values are missing, the first in row 1"),
        (np.array(["f", np.nan, "m", "f"], object), ValueError, "missing, the first in row 1"),
        ([1.5, 2.5, np.nan, np.nan], ValueError, "2 of 4 values are missing, the first in row 2"),
        (pd.Series([1, 2, pd.NA, 1], dtype="Int64", name="k"), ValueError, "k: 1 of 4 values"),
        (pd.Series(["f", pd.NA, "m", "f"], dtype="string"), ValueError, "1 of 4 values"),
        (pd.Series(pd.Categorical(["f", None, "m", "f"])), ValueError, "1 of 4 values"),
        (pd.DataFrame({"a": [0, 1, 0, 1], "b": [0.5, 1, np.nan, 2]}), ValueError, "b: 1 of 4"),
        (np.ma.array([0, 1, 0, 1], mask=[0, 0, 0, 1]), ValueError, "first in row 3"),
        ([1.5, np.inf, 0.5, 2.5], ValueError, "expected finite numbers"),
        (["f", np.nan, "m", "f"], ValueError, "1 of 4 values are missing, the first in row 1"),
        (["f", 1, "m", "f"], TypeError, "one kind, got int, str"),
        ([[0], [1], [0, 1], [1]], TypeError, "one kind, got list"),
        (np.array(["2020-01-01"] * 4, "M8[D]"), TypeError, "expected labels or numbers"),
        ([0, 1, 0], ValueError, "inconsistent numbers of samples"),
        (["f", "f", "f", "f"], ValueError, "one class only"),
        ("ffmm", ValueError, r"got shape \(\)"),
    ],
)
def test_a_wrong_concept_is_said_in_words(given, error, words):
    x = np.random.default_rng(0).normal(size=(4, 2))
    with pytest.raises(error, match=words):
        ConceptEraser().fit(x, sensitive_features=given)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_float64_tables_keep_their_digits(offset):
    x, z, _ = rows(n=400)
    scale = np.array([1e-6, 1e-3, 1.0, 1e3, 1e6])
    far = (x + offset) * scale
    eraser = ConceptEraser().fit(far, sensitive_features=z)
    erased = eraser.transform(far)
    assert erased.dtype == np.float64
    assert erased.flags.writeable
    digits = np.finfo(np.float64).eps * max(offset, 1)
    assert gap(erased, z) < 100 * digits
    # The same as near zero, but for what adding the offset has rounded.
    near = ConceptEraser().fit(x, sensitive_features=z).transform(x)
    np.testing.assert_allclose(erased / scale - offset, near, atol=100 * digits)
    assert eraser.eraser_.kernel.dtype == np.float32  # as JAX has it here
    fresh = far[:1]
    np.testing.assert_allclose(eraser.transform(fresh), erased[:1], rtol=1e-12)
    probe, close = Probe(ej.probes.LDA()).fit(far, z), Probe(ej.probes.LDA()).fit(x, z)
    scores = probe.decision_function(far)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, close.decision_function(x), atol=1e4 * digits)


def test_float32_rows_stay_float32():
    x, z, _ = rows(dtype=np.float32)
    eraser = ConceptEraser().fit(x, sensitive_features=z)
    assert eraser.transform(x).dtype == np.float32
    assert gap(eraser.transform(x), z) < 1e-5
    assert (eraser.transform(x) == np.asarray(ej.LEACE().fit(x, z == "m")(x))).all()
    assert eraser.transform(x.astype(np.float64)).dtype == np.float64
    assert (
        ConceptEraser(concept="y")
        .fit([[1, 2], [3, 5], [4, 4]], [0, 1, 0])
        .transform([[1, 2]])
        .dtype
        == np.float64
    )
    assert jax.numpy.zeros(1).dtype == np.float32  # nothing is left switched


def test_a_feature_that_is_the_concept_becomes_constant():
    x, z, _ = rows()
    x[:, 2] = 1e6 + (z == "m")
    erased = ConceptEraser().fit(x, sensitive_features=z).transform(x)
    assert np.ptp(erased[:, 2]) == 0


@pytest.mark.slow
def test_methods_that_a_pipeline_cannot_hold_are_refused():
    x, z, task = rows()
    for method in (ej.OracleLEACE(), ej.QLEACE()):
        with pytest.raises(ValueError, match="reads the concept of the rows that it transforms"):
            ConceptEraser(method).fit(x, sensitive_features=z)
    with pytest.raises(TypeError, match="method: expected an eraser"):
        ConceptEraser(ej.probes.LDA()).fit(x, sensitive_features=z)
    with pytest.raises(TypeError, match="probe: expected a probe"):
        Probe(ej.LEACE()).fit(x, z)
    with pytest.raises(TypeError, match="probe: expected a probe"):
        Probe(ej.probes.CCS()).fit(x, z)
    with pytest.raises(NotFittedError):
        ConceptEraser().transform(x)
    assert not hasattr(ConceptEraser(), "eraser_")


@pytest.mark.slow
def test_a_task_to_keep_is_y():
    x, z, task = rows()
    names = np.array(["no", "yes"])[task]
    erased = ConceptEraser(ej.SPLINCE()).fit(x, names, sensitive_features=z).transform(x)
    assert gap(erased, z) < 1e-12
    apart = np.diff(class_means(x, task), axis=0)
    np.testing.assert_allclose(np.diff(class_means(erased, task), axis=0), apart, atol=1e-12)
    for eraser, y in ((ConceptEraser(ej.SPLINCE()), None), (ConceptEraser(ej.SPLINCE(), "y"), z)):
        with pytest.raises(ValueError, match="SPLINCE reads a task"):
            eraser.fit(x, y, sensitive_features=z if y is None else None)


def test_what_draws_draws_from_random_state():
    x, z, task = rows(n=40, dtype=np.float32)
    method = ej.RandomDirections(rank=2)
    own = method.fit(x, task, key=jax.random.key(7))(x)
    found = ConceptEraser(method, "y", random_state=7).fit(x, task).transform(x)
    assert (found == np.asarray(own)).all()
    states = [np.random.RandomState(3), np.random.RandomState(3), np.random.RandomState(4)]
    first, second, third = (
        ConceptEraser(method, "y", random_state=state).fit(x, task).transform(x) for state in states
    )
    assert (first == second).all()
    assert not np.allclose(first, third)


@pytest.mark.slow
def test_what_the_status_warns_of_is_said():
    x, z, task = rows(n=40)
    with pytest.warns(UserWarning, match="nothing was removed"):
        ConceptEraser(concept="y").fit(np.ones((4, 2)), [0, 1, 0, 1])
    with pytest.warns(ConvergenceWarning, match="before it converged"):
        Probe(ej.probes.Logistic(l2=0.0, max_steps=1)).fit(x, z)


@pytest.mark.slow
def test_a_probe_is_a_classifier():
    x, z, task = rows(dtype=np.float64)
    names = np.array(["no", "yes"])[task]
    probe = Probe().fit(x, names)
    assert probe.classes_.tolist() == ["no", "yes"]
    scores = probe.decision_function(x)
    assert scores.shape == (len(x),)
    assert (probe.predict(x) == probe.classes_[(scores > 0).astype(int)]).all()
    np.testing.assert_allclose(probe.predict_proba(x)[:, 1], 1 / (1 + np.exp(-scores)), rtol=1e-12)
    reference = LogisticRegression(C=1 / (1e-3 * len(x)), tol=1e-12, max_iter=1000).fit(x, names)
    np.testing.assert_allclose(scores, reference.decision_function(x), atol=1e-6)
    assert probe.score(x, names) == np.mean(probe.predict(x) == names)
    both = Probe().fit(x, np.char.add(z, names))
    assert both.decision_function(x).shape == both.predict_proba(x).shape == (len(x), 4)
    assert set(both.predict(x)) <= set(both.classes_)
    twice = Probe().fit(np.concatenate([x, x[:50]]), np.concatenate([names, names[:50]]))
    weighed = Probe().fit(x, names, sample_weight=1.0 + (np.arange(len(x)) < 50))
    np.testing.assert_allclose(twice.decision_function(x), weighed.decision_function(x), atol=1e-8)
    assert cross_val_score(Probe(), x, names, scoring="neg_log_loss").shape == (5,)


@pytest.mark.quick(2)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("probe", "has"),
    [
        (ej.probes.Logistic(), True),
        (ej.probes.QDA(l2=0.1), True),
        (ej.probes.MLP(width=2, steps=10, batch=8), True),
        (ej.probes.LinearSVM(), False),
        (ej.probes.LeastSquares(), False),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_probabilities_are_there_where_there_is_a_likelihood(probe, has):
    x, z, _ = rows(n=40, dtype=np.float32)
    estimator = Probe(probe, random_state=0)
    assert hasattr(estimator, "predict_proba") == has
    estimator.fit(x, z)
    assert hasattr(estimator, "predict_proba") == hasattr(estimator, "predict_log_proba") == has
    assert estimator.decision_function(x).dtype == np.float32
    if has:
        assert (estimator.predict_proba(x).argmax(axis=1) == (estimator.predict(x) == "m")).all()
        np.testing.assert_allclose(estimator.predict_proba(x).sum(axis=1), 1, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [["sex", "age"], ["sex", "task", "age"]])
def test_correlation_remover_is_oracle_leace(columns):
    fairlearn = pytest.importorskip("fairlearn.preprocessing")
    x, z, task = rows(n=300)
    age = np.random.default_rng(5).uniform(20, 60, len(x)) + 3 * x[:, 0]
    people = pd.DataFrame({"sex": (z == "m").astype(float), "task": task * 1.0, "age": age})
    people = people[columns]
    frame = pd.DataFrame(x, columns=list("abcde")).join(people)
    remover = fairlearn.CorrelationRemover(sensitive_feature_ids=columns, alpha=1)
    theirs = remover.fit_transform(frame)
    with enable_x64():
        oracle = ej.OracleLEACE().fit(x, people)
        np.testing.assert_allclose(oracle(x, people), theirs, atol=1e-12)
    single = ej.OracleLEACE().fit(x.astype(np.float32), people)
    np.testing.assert_allclose(single(x.astype(np.float32), people), theirs, atol=2e-5)

    # It reads the sensitive columns when applied, and drops them; LEACE does not read them.
    assert theirs.shape == x.shape
    other = frame.assign(sex=1 - frame["sex"])
    assert not np.allclose(remover.transform(other), theirs)
    eraser = ConceptEraser().fit(x, sensitive_features=people)
    erased = eraser.transform(x)
    assert abs(np.corrcoef(erased.T, people.T)[:5, 5:]).max() < 1e-12
    np.testing.assert_allclose(eraser.transform(erased), erased, atol=1e-12)
    assert ((theirs - x) ** 2).sum() < ((erased - x) ** 2).sum()


def test_without_scikit_learn_the_message_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; import erasejax; import erasejax.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("pip install 'erasejax[sklearn]'")


@pytest.mark.slow
def test_the_example_of_the_page_runs(capsys):
    page = (Path(__file__).parent.parent / "docs" / "pipelines.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with sklearn.config_context():  # the page switches routing on
        names: dict = {}
        exec(compile(code, "pipelines.md", "exec"), names)
    before, after = (float(one) for one in capsys.readouterr().out.splitlines()[1].split())
    majority = max(names["male"].mean(), 1 - names["male"].mean())
    assert before > 0.7 > majority + 0.05 > after
