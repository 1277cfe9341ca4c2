"""Which bar is drawn where."""

import subprocess
import sys
import textwrap
import warnings

import pytest

from erasejax._core.bars import bar

# A notebook as far as tqdm asks for one; `widgets` as far as it draws.
NOTEBOOK = """
import os, sys, types, warnings
[os.environ.pop(name) for name in [*os.environ] if name.startswith(("QT_API", "SPYDER"))]
warnings.simplefilter("error")
kernel = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = lambda: kernel
for name in ("ipykernel", "ipykernel.zmqshell"):  # one or the other says that it is a notebook
    sys.modules[name] = types.ModuleType(name)
sys.modules["ipywidgets"] = None
if %r:
    import tqdm.notebook
    tqdm.notebook.IProgress = object
    tqdm.notebook.tqdm_notebook.__init__ = lambda self, **options: print("widget", options)
from erasejax._core.bars import bar
print(bar("cli", total=3, desc="rows"))
from erasejax.sweep._progress import Progress
progress = Progress(3, show=True)
progress.say("compiling")
"""


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_has_widgets_or_else_lines_and_no_warning(widgets):
    code = textwrap.dedent(NOTEBOOK % widgets)
    if widgets:
        code = code.rpartition("from erasejax.sweep")[0]
        code = code.replace('print(bar(', '(bar(')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if widgets:
        assert done.stdout.startswith("widget {'total': 3, 'desc': 'rows'}")
    else:
        assert done.stdout == "None\n"
        assert done.stderr == "sweep: compiling\n"


def test_a_terminal_has_a_bar_and_a_file_none(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bar("cli", total=3) is None
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        found = bar("cli", total=3)
    assert found is not None
    found.close()
