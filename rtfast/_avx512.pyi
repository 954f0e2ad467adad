from rtfast._core import *  # noqa: F403  all of them: one source, built once per instruction set
