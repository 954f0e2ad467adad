"""The examples run, and print what they are about."""

import os
import re
import runpy

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.mark.parametrize("name, expected", [("own_values.py", "[ 11.4639 -13.1802 -11.5934 -17.0439]")])
def test_example(name, expected, capsys, backend):
    runpy.run_path(os.path.join(ROOT, "examples", name), run_name="__main__")
    assert expected in capsys.readouterr().out


def test_the_readme(tmp_path, monkeypatch, capsys, backend):
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        code = re.search(r"```python\n(.*?)```", file.read(), re.DOTALL).group(1)
    monkeypatch.chdir(tmp_path)
    values = {}
    exec(code, values)
    assert capsys.readouterr().out.startswith("hola mundo\n")
    assert values["states"].tolist() == values["model"].encode([0, 2]).tolist()
    assert sorted(os.listdir("my-model")) == ["config.json", "model.safetensors"]
