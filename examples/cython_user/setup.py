import os

from Cython.Build import cythonize
from setuptools import Extension, setup

import rtfast

# include_dirs: for rtfast.h. include_path: where Cython looks for rtfast/kernels.pxd (it finds an installed rtfast
# without, but not one installed with `pip install -e`).
setup(ext_modules=cythonize(
    [Extension("attend", ["attend.pyx"], include_dirs=[rtfast.get_include()])],
    include_path=[os.path.dirname(os.path.dirname(rtfast.__file__))]))
