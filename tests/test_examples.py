"""The examples run, and print what they are about."""

import os
import runpy

import pytest

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples")


@pytest.mark.parametrize("name, expected", [("own_values.py", "[ 11.4639 -13.1802 -11.5934 -17.0439]")])
def test_example(name, expected, capsys, backend):
    runpy.run_path(os.path.join(EXAMPLES, name), run_name="__main__")
    assert expected in capsys.readouterr().out
