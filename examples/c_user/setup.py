from setuptools import Extension, setup

import rtfast

setup(ext_modules=[Extension("rows", ["rows.c"], include_dirs=[rtfast.get_include()])])
