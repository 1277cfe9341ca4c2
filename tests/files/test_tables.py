import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import erasejax as ej
from erasejax.cli import _main as cli
from erasejax.files import open_features, open_writer, parse, read_labels, read_task
from erasejax.files._streaming import read_blocks
from erasejax.files._tables import batch_of, schema_of
from tests.command import D, N, bad, ok

X = np.arange(24, dtype=np.float32).reshape(12, 2) / 4 + 0.125
Z = ["no", "yes"] * 6


def table(path, content):
    path.write_text(content) if isinstance(content, str) else path.write_bytes(content)
    return path


def lines(header, label, *, x=X):
    """Rows of two numbers and a label each."""
    rows = [f"{a},{b},{label(i)}" for i, (a, b) in enumerate(x)]
    return "\n".join([header, *rows, ""])


def process(*argv):
    """Runs the command line in a process that has to end."""
    root = os.path.dirname(os.path.dirname(ej.__file__))
    env = os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    argv = [sys.executable, "-m", "erasejax", *argv]
    return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=120)


# Rows of any length


def test_text_with_line_breaks(tmp_path):
    n = 8_000
    entry = "line one\nline, two\r\n\n" * 10
    frame = pd.DataFrame({"prompt": [entry + str(i % 7) for i in range(n)]})
    frame["label"] = ["no", "yes"] * (n // 2)
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert os.path.getsize(tmp_path / "t.csv") > 1 << 20
    labels = read_labels(f"{tmp_path}/t.csv:label")
    assert labels.names == ("no", "yes")
    np.testing.assert_array_equal(labels.values, np.arange(n) % 2)
    assert len(read_labels(f"{tmp_path}/t.csv:prompt").names) == 7


@pytest.mark.parametrize("row", [0, 20, 39])
def test_a_row_longer_than_a_block(row, tmp_path):
    text = ["short, and quoted"] * 40
    text[row] = "long\n" * (1 << 20)
    frame = pd.DataFrame({"a": np.arange(40) / 8, "text": text, "label": ["a", "b"] * 20})
    frame.to_csv(tmp_path / "t.csv", index=False)
    np.testing.assert_array_equal(read_labels(f"{tmp_path}/t.csv:label").values, np.arange(40) % 2)
    np.testing.assert_array_equal(
        open_features(f"{tmp_path}/t.csv:a").array()[:, 0], np.arange(40) / 8
    )


def test_what_is_written_wide_is_read(tmp_path):
    x = np.random.default_rng(0).standard_normal((3, 20_000)).astype(np.float32)
    names = tuple(
        f"a_feature_with_a_name_of_about_sixty_letters_and_digits_{i:05}" for i in range(20_000)
    )
    with open_writer(tmp_path / "y.csv", x.shape, x.dtype, columns=names) as write:
        write(x)
    assert (tmp_path / "y.csv").read_bytes().index(b"\n") > 1 << 20
    features = open_features(tmp_path / "y.csv")
    assert features.columns == names
    np.testing.assert_array_equal(features.array(), x)


@pytest.mark.slow
def test_a_process_that_cannot_read_a_wide_table_ends(tmp_path):
    d = 20_000
    row = ",".join(["0.1234567890123456789012345678901234567890123456789012345678901"] * d)
    head = ",".join(f"x{i}" for i in range(d))
    table(tmp_path / "t.csv", "\n".join([head, row, row, row + ",1", row, ""]))
    np.save(tmp_path / "z.npy", np.arange(4) % 2)
    for _ in range(3):
        run = process(
            "fit", f"{tmp_path}/t.csv", f"{tmp_path}/z.npy", "--out", f"{tmp_path}/e.safetensors"
        )
        assert run.returncode == 2
        assert run.stderr.startswith("erasejax: error: ")
        assert f"Expected {d} columns, got {d + 1}" in run.stderr
        assert run.stderr.count("\n") == 1


def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path):
    path = table(tmp_path / "t.csv", lines("a,b,label", lambda i: '"yes' if i == 4 else "no"))
    with pytest.raises(ValueError, match="quote is never closed, it stands before yes"):
        read_labels(f"{path}:label")
    table(path, lines("a,b,label", lambda i: '"yes\n"' if i == 11 else "no"))
    assert read_labels(f"{path}:label").names == ("no", "yes")


def test_escapes_in_a_damaged_file_are_not_sent_to_the_terminal(tmp_path):
    with pytest.raises(ValueError, match=r"Expected 2 columns, got 1: \\x1b\[31m") as caught:
        open_features(table(tmp_path / "t.csv", "a,b\n1,2\n\x1b[31mred\n"))
    assert str(caught.value).isprintable()


# An index of pandas


@pytest.mark.parametrize("index", [["prompt"], ["prompt", "part"], [None, "part"], [None]])
def test_an_index_of_pandas_is_no_feature(index, tmp_path):
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(label=Z)
    levels = [np.arange(12) + 1000, np.arange(12) % 3][: len(index)]
    frame.index = pd.MultiIndex.from_arrays(levels, names=index) if index[1:] else levels[0]
    frame.index.names = index
    frame.to_parquet(path)
    features = open_features(path, labels=f"{path}:label")
    assert features.columns == ("a", "b")
    np.testing.assert_array_equal(features.array(), X)
    name = index[-1] or "__index_level_0__"
    np.testing.assert_array_equal(open_features(f"{path}:{name}").array()[:, 0], levels[-1])
    assert open_features(f"{path}:*,{name}", labels=f"{path}:label").columns == ("a", "b", name)
    if index[1:]:
        assert read_labels(f"{path}:{name}").names == ("0", "1", "2")
        with pytest.raises(ValueError, match="holds the labels"):
            open_features(f"{path}:a,{name}", labels=f"{path}:{name}")


@pytest.mark.parametrize(
    "index",
    [
        np.arange(12),
        np.arange(12)[::-1] * 7,
        [f"row {i}" for i in range(12)],
        pd.date_range("2024-01-01", periods=12),
    ],
)
@pytest.mark.parametrize("again", [False, True])
def test_a_first_column_without_a_name_is_an_index(index, again, tmp_path, capsys):
    path = tmp_path / "t.csv"
    frame = pd.DataFrame(X, columns=["a", "b"], index=index).assign(label=Z)
    frame.to_csv(path)
    if again:  # read without index_col and written: "Unnamed: 0"
        pd.read_csv(path).to_csv(path, index=False)
    for part in ("", ":a,b", ":*"):
        features = open_features(f"{path}{part}", labels=f"{path}:label")
        assert features.columns == ("a", "b")
        np.testing.assert_allclose(features.array(), X, rtol=1e-6)
    assert read_labels(f"{path}:label").names == ("no", "yes")
    frame["label"].to_csv(tmp_path / "y.csv")
    assert read_labels(tmp_path / "y.csv").names == ("no", "yes")
    assert "__index_level_0__, of pandas; no feature" in ok(capsys, "info", path)


@pytest.mark.parametrize("index", [np.arange(12) % 6, np.arange(12) + 0.5, ["r"] * 12, [None] * 12])
def test_what_is_no_index_is_not_left_out_in_silence(index, tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame(X, columns=["a", "b"], index=index).assign(label=Z).to_csv(path)
    with pytest.raises(ValueError, match=r"column 0 has no name, and is no index .* index=False"):
        open_features(path, labels=f"{path}:label")
    for part in (":a,b", ":*"):
        assert open_features(f"{path}{part}", labels=f"{path}:label").columns == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",1.5,2.5\n0,1,2\n", "the first line holds numbers"),
        (",,a\n0,0,2\n0,1,3\n", "column 1 has no name"),
        ("a,,b\n0,0,2\n0,1,3\n", "column 1 has no name"),
        ('""\n1\n2\n', "column 0 has no name"),
    ],
)
def test_other_columns_need_names(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    for part in ("", ":a"):
        with pytest.raises(ValueError, match=message):
            open_features(f"{tmp_path / 't.csv'}{part}")


def test_an_index_is_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(label=Z)
    frame.set_index("label").to_parquet("t.parquet")
    out = ok(capsys, "info", "t.parquet")
    assert "12 rows, 2 columns" in out
    assert "label, of pandas; no feature unless it is named" in out
    assert open_features("t.parquet", labels="t.parquet:label").columns == ("a", "b")
    assert read_labels("t.parquet:label").names == ("no", "yes")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"index_columns": 3}', '{"index_columns": [{}]}', "\xff"]
)
def test_metadata_that_make_no_sense_are_passed_over(text, tmp_path):
    data = pa.table({"a": X[:, 0], "b": X[:, 1]}).replace_schema_metadata({"pandas": text})
    pq.write_table(data, tmp_path / "t.parquet")
    assert open_features(tmp_path / "t.parquet").columns == ("a", "b")


# Text, numbers, and what is missing


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "N/A", "NULL"])
def test_quoted_text_is_a_class(word, tmp_path):
    path = table(tmp_path / "t.csv", lines("a,b,label", lambda i: f'"{word}"' if i % 2 else '"EU"'))
    labels = read_labels(f"{path}:label")
    assert sorted(labels.names) == sorted(["EU", word])
    assert labels.counts == (6, 6)


@pytest.mark.parametrize("word", ["NA", "null", "nan", "", '""', " NA", "   "])
def test_missing_labels_are_spoken_of(word, tmp_path):
    path = table(tmp_path / "t.csv", lines("a,b,label", lambda i: word if i % 3 == 2 else '"EU"'))
    with pytest.raises(ValueError, match=r"4 of 12 labels are missing.*in quotes.*row 2") as caught:
        read_labels(f"{path}:label")
    assert "\n" not in str(caught.value)


def test_missing_numbers_stay_missing_in_quotes(tmp_path):
    frame = pd.DataFrame({"a": [1.5, np.nan, 2.5], "b": [1.5, 2, 3]})
    frame.to_csv(tmp_path / "t.csv", index=False, quoting=1)
    with pytest.raises(ValueError, match=r"1 of 6 values.*\(nan\) in row 1, column 0 \(a\)"):
        open_features(tmp_path / "t.csv").array()


def test_spaces_after_commas(tmp_path):
    rows = [f"{a}, {b} , {z}" for (a, b), z in zip(X, Z, strict=True)]
    rows[3] = f"{X[3, 0]},{X[3, 1]},{Z[3]} "
    path = table(tmp_path / "t.csv", "\n".join(["a, b , label", *rows, ""]))
    assert read_labels(f"{path}:label").names == ("no", "yes")
    features = open_features(path, labels=f"{path}: label")
    assert features.columns == ("a", "b")
    np.testing.assert_array_equal(features.array(), X)
    np.testing.assert_array_equal(open_features(f"{path}:b, a").array(), X[:, ::-1])
    with pytest.raises(ValueError, match="no column 'lable'; it has a, b, label"):
        read_labels(f"{path}:lable")
    integers = table(tmp_path / "i.csv", "a, b\n1.5, 2\n3, NA\n 4, 5.5\n")
    with pytest.raises(ValueError, match=r"1 of 6 values.*row 1, column 1 \(b\)"):
        open_features(integers).array()


def test_names_that_differ_in_spaces_alone(tmp_path):
    path = table(tmp_path / "t.csv", lines("a, a,label", lambda i: Z[i]))
    np.testing.assert_array_equal(open_features(f"{path}: a").array()[:, 0], X[:, 1])
    with pytest.raises(ValueError, match="it has a, ' a', label"):
        open_features(f"{path}:b")
    table(path, lines("a, b, b", lambda i: Z[i]))
    with pytest.raises(ValueError, match="two columns are named 'b'"):
        open_features(path)


def test_text_among_numbers_is_shown(tmp_path):
    path = table(tmp_path / "t.csv", "a,b\n1,2\n3,None\n")
    with pytest.raises(
        ValueError, match="column 'b' holds text, such as 'None' in row 1, features"
    ):
        open_features(path)
    table(path, "a,b\n1,2\n3,\x1b[31m" + "long " * 1000 + "\n")
    with pytest.raises(ValueError, match=r"such as '\\x1b\[31mlong") as caught:
        open_features(path)
    assert len(str(caught.value)) < 400


def test_names_with_escapes_are_quoted(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({
        "a\x1b[31m\nb": X[:, 0],
        "n": X[:, 1],
        "label": ["x\x1b[31m", "y" * 90] * 6,
    })
    for name in ("t.csv", "t.parquet"):
        frame.to_csv(name, index=False) if name == "t.csv" else frame.to_parquet(name)
        assert r"has no column 'b'; it has 'a\x1b[31m\nb', n" in bad(capsys, "info", f"{name}:b")
        for out in (
            ok(capsys, "info", name),
            str(read_labels(f"{name}:label")),
        ):
            assert "\x1b" not in out
            assert r"'x\x1b[31m' (6), " + "y" * 60 + "... (6)" in out


# Lists


def test_lists_as_text(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [json.dumps(row) for row in X.tolist()]
    frame = pd.DataFrame({"emb": cells, "n": np.arange(12.0), "label": Z})
    frame.to_csv("t.csv", index=False)
    frame.to_parquet("t.parquet")
    frame[["emb", "label"]].to_csv("two.csv", index=False)
    for spec in ("t.csv:emb", "t.parquet:emb", "t.csv:e*", "two.csv"):
        features = open_features(spec, labels=f"{spec.split(':')[0]}:label")
        assert (features.shape, features.columns) == ((12, 2), None)
        np.testing.assert_array_equal(np.concatenate(list(features.blocks(5))), X)
    for spec in ("t.csv", "t.parquet"):
        err = bad(capsys, "fit", spec, f"{spec}:label", "--out", "e.safetensors")
        assert "'emb' holds lists written as text; to use a column of lists as features" in err
        assert f"name it alone: {spec}:emb" in err


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("[1, 2", "row 1: expected a list of numbers such as"),
        ("[1, 2]]", "row 1: expected a list of numbers"),
        ('[1, "2"]', "row 1: expected a list of numbers"),
        ("[1, null]", "row 1: expected a list of numbers"),
        ("[1, true]", "row 1: expected a list of numbers"),
        ("[[1, 2]]", "row 1: expected a list of numbers"),
        ("[1. 2.]", "row 1: expected a list of numbers"),
        ("[" * 100_000, "row 1: expected a list of numbers"),
        ("text", "row 1: expected a list of numbers"),
        ("7", "row 1: expected a list of numbers"),
        ("[1, 2, 3]", "2 numbers in row 0 and 3 in row 1"),
        ("[]", "2 numbers in row 0 and 0 in row 1"),
        ("", "2 numbers in row 0 and 0 in row 1"),
        ("[1, NaN]", r"1 of 6 values.*\(nan\) in row 1, column 1"),
        (f"[1, 1{'0' * 400}]", r"1 of 6 values.*\(inf\) in row 1"),
    ],
)
def test_lists_as_text_that_are_none(cell, message, tmp_path):
    pd.DataFrame({"e": ["[1, 2]", cell, "[3, 4]"], "n": 1.5}).to_csv(
        tmp_path / "t.csv", index=False
    )
    with pytest.raises(ValueError, match=message) as caught:
        open_features(f"{tmp_path}/t.csv:e").array()
    assert len(str(caught.value)) < 400


KINDS = {
    "list": pa.list_(pa.float32()),
    "large_list": pa.large_list(pa.float32()),
    "fixed_size_list": pa.list_(pa.float32(), 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_every_kind_are_read_alone_and_hinted_at(kind, tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"l": pa.array(X.tolist(), KINDS[kind]), "n": X[:, 0]}), path)
    np.testing.assert_array_equal(open_features(f"{path}:l").array(), X)
    with pytest.raises(ValueError, match=f"holds {kind}<.*name it alone: .*t.parquet:l"):
        open_features(path)
    deep = pa.table({"l": pa.array([[[1.0]]] * 3, pa.list_(KINDS["large_list"]))})
    pq.write_table(deep, path)
    with pytest.raises(
        ValueError, match="holds lists of lists; expected one list of numbers a row"
    ):
        open_features(path)


def test_a_task_of_categories_is_classes(tmp_path):
    pq.write_table(pa.table({"c": pa.array(Z).dictionary_encode()}), tmp_path / "t.parquet")
    assert read_task(f"{tmp_path}/t.parquet:c").names == ("no", "yes")


# Encodings


FRENCH = ["thé", "café"]


@pytest.mark.parametrize(
    "encoding", ["cp1252", "utf-16", "utf-16-be", "utf-8-sig", "shift-jis", None]
)
def test_encodings(encoding, tmp_path):
    words = ["茶", "珈琲"] if encoding == "shift-jis" else FRENCH
    content = lines("ä,b,étiquette".replace("ä", "a").replace("é", "e"), lambda i: words[i % 2])
    path = table(tmp_path / "t.csv", content.encode(encoding or "utf-8"))
    labels = read_labels(parse(f"{path}:etiquette", encoding))
    assert sorted(labels.names) == sorted(words)
    (block,) = read_blocks(path, f"{path}:etiquette", encoding=encoding)
    np.testing.assert_array_equal(block.x, X)
    moments = ej.stream_moments(path, f"{path}:etiquette", encoding=encoding)
    np.testing.assert_allclose(moments.mean, X.mean(axis=0), rtol=1e-6)


def test_encodings_that_say_so_themselves(tmp_path):
    for encoding in ("utf-16", "utf-8-sig"):
        path = table(
            tmp_path / "t.csv", lines("é,b,label", lambda i: FRENCH[i % 2]).encode(encoding)
        )
        assert open_features(path, labels=f"{path}:label").columns == ("é", "b")
    table(path, lines("a,b,label", lambda i: FRENCH[i % 2]).encode("utf-16-le"))
    with pytest.raises(ValueError, match="--encoding utf-16-le"):
        open_features(path)


def test_encodings_of_the_command_line(here, data, capsys):
    words = [*FRENCH, "crème"]
    frame = pd.DataFrame(np.asarray(data.x), columns=[f"f{i}" for i in range(D)])
    text = frame.assign(label=[words[z] for z in data.z]).to_csv(index=False)
    table(here / "t.csv", text.encode("cp1252"))
    fit = ["fit", "t.csv", "t.csv:label", "--method", "oracle-leace", "--out", "e.safetensors"]
    apply = ["apply", "e.safetensors", "t.csv", "--labels", "t.csv:label", "--out", "y.npy"]
    probe = ["probe", "t.csv", "t.csv:label", "--probes", "zero-one"]
    french = ["--encoding", "cp1252"]
    message = "t.csv: column 'label' is not UTF-8; say how the text is encoded, for example --enc"
    assert message in bad(capsys, *fit)
    assert message in bad(capsys, *probe)
    assert "café (20), crème (20), thé (20)" in ok(capsys, *fit, "--no-certificate", *french)
    assert message in bad(capsys, *apply)
    ok(capsys, *apply, *french)
    assert "separates 2 classes, got 3" in bad(capsys, *probe, *french)
    assert "café (20), crème (20), thé (20)" in ok(capsys, "info", "t.csv", *french)
    assert r"b'caf\xe9' (20)" in ok(capsys, "info", "t.csv")
    for name in ("klingon", "rot13", "base64"):
        assert f"no encoding '{name}'" in bad(capsys, "info", "t.csv", "--encoding", name)
    assert "t.csv: is not ascii" in bad(capsys, "info", "t.csv", "--encoding", "ascii")
    table(here / "t.csv", text.replace("label", "é").encode("cp1252"))
    assert "t.csv: the line of column names is not UTF-8" in bad(capsys, "info", "t.csv")


def test_text_that_is_not_read_need_not_be_understood(tmp_path):
    text = lines("a,b,label", lambda i: FRENCH[i % 2])
    path = table(tmp_path / "t.csv", text.encode("cp1252"))
    np.testing.assert_array_equal(open_features(f"{path}:a,b").array(), X)


def test_bytes_have_an_encoding_too(tmp_path):
    words = [word.encode("cp1252") for word in FRENCH * 6]
    np.save(tmp_path / "z.npy", np.array(words))
    pq.write_table(pa.table({"z": words}), tmp_path / "z.parquet")
    for name in ("z.npy", "z.parquet"):
        assert read_labels(parse(tmp_path / name, "cp1252")).names == ("café", "thé")
    with pytest.raises(ValueError, match="z.parquet: column 'z' is not UTF-8; .*--encoding cp1252"):
        read_labels(tmp_path / "z.parquet")


# Which columns


@pytest.fixture
def ids(here, data):
    """Files with a column of ids beside the features of `data`."""
    x = np.asarray(data.x)
    columns = {"id": np.arange(N)} | {f"f{i}": x[:, i] for i in range(x.shape[1])}
    columns |= {"flag": np.load("z.npy")}
    pq.write_table(pa.table(columns), "t.parquet")
    pyarrow.csv.write_csv(pa.table(columns), "t.csv")
    return here


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_integer_among_floats_is_named(kind, ids, capsys):
    t = f"t.{kind}"
    method = ["--method", "identity", "--no-certificate"]
    argv = [f"{t}:flag", "--force", "--out", "e.safetensors", *method]
    assert cli.main(["fit", t, *argv]) == 0
    out, err = capsys.readouterr()
    assert "of 6 dimensions" in out
    assert err.startswith(f"erasejax: warning: {t}: integers among columns of floats")
    assert ": id; " in err
    assert err.endswith("--drop id\n")
    assert err.count("\n") == 1
    for x, *drop in [
        (t, "--drop", "id"),
        (f"{t}:f*",),
        (f"{t}:f0,f?",),
        (f"{t}:f[0-3],f4",),
        (f"{t}:*", "--drop", "i?"),
        (f"{t}:f*,id", "--drop", "id,flag"),
    ]:
        assert "of 5 dimensions" in ok(capsys, "fit", x, *argv, *drop)
        assert ej.load("e.safetensors").dims == 5
    ok(capsys, "apply", "e.safetensors", t, "--out", "y.csv")
    assert open_features("y.csv").columns == tuple(f"f{i}" for i in range(5))
    ok(capsys, "fit", "x.npy", f"{t}:flag", "--out", "x.safetensors", *method)
    ok(capsys, "apply", "x.safetensors", t, "--drop", "id,flag", "--out", "w.csv")
    assert "of 6 dimensions" in ok(capsys, "fit", f"{t}:id,f*", *argv)
    ok(capsys, "apply", "e.safetensors", t, "--out", "v.npy")
    probe = ["probe", t, f"{t}:flag", "--eraser", "x.safetensors"]
    assert "fitted on 5 features, got 6 in" in bad(capsys, *probe)
    assert "fitted on 5 features, got 4 in" in bad(capsys, *probe, "--drop", "id,f0")
    info = ok(capsys, "info", t, "--drop", "f?")
    assert "2 columns" in info
    assert "f0" not in info


def test_counts_are_not_warned_of(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for columns in ({"a": [1, 2], "b": [3, 4]}, {"a": [0.5, 1], "b": [True, False]}):
            pq.write_table(pa.table(columns), tmp_path / "t.parquet")
            open_features(tmp_path / "t.parquet").array()
    pq.write_table(pa.table({"a": [0.5, 1], "b": [3, 4]}), tmp_path / "t.parquet")
    np.save(tmp_path / "z.npy", [0, 1])
    with pytest.warns(UserWarning, match="integers among columns of floats.*: b; .*--drop b"):
        ej.stream_moments(tmp_path / "t.parquet", tmp_path / "z.npy")
    moments = ej.stream_moments(tmp_path / "t.parquet", tmp_path / "z.npy", drop="b")
    assert moments.mean.shape == (1,)


def test_columns_that_are_not_there(ids, capsys):
    fit = ["--out", "e.safetensors"]
    for argv, message in [
        (["t.csv:g*", "t.csv:flag"], "has no column that 'g*' matches; it has id, f0"),
        (["t.csv", "t.csv:flag", "--drop", "idd"], "has no column 'idd'; it has id, f0"),
        (["t.csv", "t.csv:flag", "--drop", "*"], "has no columns left for features"),
        (["t.csv:f0,f1,f0", "t.csv:flag"], "a column is named twice"),
        (["t.csv:f*,flag", "t.csv:flag"], "'flag' holds the labels"),
        (["x.npy", "t.csv:flag", "--drop", "id"], "x.npy: has no columns with names"),
        (["x.npy", "t.csv:f*"], "has 6 columns; name the labels'"),
    ]:
        assert message in bad(capsys, "fit", *argv, *fit)
    assert "leave out --drop" in bad(capsys, "info", "x.npy", "--drop", "id")


def test_names_come_before_patterns(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x[0]": X[:, 0], "x0": X[:, 1], "x*": X[:, 1], "a,b": X[:, 0]}), path)
    for part, columns in [
        ("x[0]", ("x[0]",)),
        ("x*", ("x*",)),
        ("x*,x0", ("x*", "x0")),
        ("a,b", ("a,b",)),
        ("x?", ("x0", "x*")),
        ("X?,a*", None),
    ]:
        if columns is None:
            with pytest.raises(ValueError, match="matches"):
                open_features(f"{path}:{part}")
        else:
            assert open_features(f"{path}:{part}").columns == columns


def test_rows_of_another_dtype_are_cast_to_that_of_the_schema():
    block = np.arange(6, dtype=">f8").reshape(3, 2) / 3
    written = batch_of(block, schema_of(("a", "b"), np.dtype(np.float32)))
    np.testing.assert_array_equal(written.column(1).to_pylist(), block[:, 1].astype(np.float32))
