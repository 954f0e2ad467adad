"""Matrices on a terminal: aligned, cut where they are too wide, side by side where they are not."""

import os
import sys

import numpy as np

from rtfast import show


def test_matrices_are_aligned():
    assert show.matrix("X", [[1, -2.5], [10.25, 0.000012]], ["a", "long"], ["x", "y"], precision=4) == [
        "X (2, 2)", "          x         y", "a      1.00     -2.50", "long  10.25  1.20e-05"]
    assert show.matrix("v", np.array([1, 2])) == ["v (2,)", "1  2"]
    assert show.matrix("n", [[np.nan, np.inf, -np.inf, -0.0]]) == ["n (1, 4)", "NaN  inf  -inf  0"]
    assert show.matrix("m", [[1, 2]], hidden=[[False, True]]) == ["m (1, 2)", "1  -"]


def test_wide_matrices_are_cut():
    lines = show.matrix("W", np.full((2, 20), 1 / 3), ["a", "b"], precision=8)
    assert max(map(len, lines)) <= show.WIDTH
    assert len(lines) == 1 + 2 * 4 and all(line[0] in "ab" for line in lines[1:])


def test_blocks_stand_side_by_side():
    assert show.beside([["a", "bb"], ["c"]]) == ["a    c", "bb"]
    assert show.beside([["a" * 40], ["b" * 40]]) == ["a" * 40, "", "b" * 40]


def test_bars():
    assert [show.bar(share, 10) for share in (0, 0.001, 0.5, 1, np.nan)] == ["", ".", "#####", "#" * 10, ""]


def test_bold_only_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(os, "name", "posix")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert show.bold("x") == "\x1b[1mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert show.bold("x") == "x"
