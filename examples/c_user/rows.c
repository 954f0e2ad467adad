/* A Python extension in C that calls rtfast's kernels: rows.softmax(x, out) and rows.layer_norm(x, eps, out). */
#include <Python.h>
#include <rtfast.h>

/* Views of x and out, both (rows, n) and of one type, float or double. 0, or -1 with an exception set. */
static int take(PyObject *x, PyObject *out, Py_buffer *views) {
    if (PyObject_GetBuffer(x, &views[0], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) return -1;
    if (PyObject_GetBuffer(out, &views[1], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&views[0]);
        return -1;
    }
    if (views[0].ndim == 2 && views[1].ndim == 2 && views[0].shape[0] == views[1].shape[0] &&
        views[0].shape[1] == views[1].shape[1] && strcmp(views[0].format, views[1].format) == 0 &&
        (strcmp(views[0].format, "f") == 0 || strcmp(views[0].format, "d") == 0))
        return 0;
    PyBuffer_Release(&views[0]);
    PyBuffer_Release(&views[1]);
    PyErr_SetString(PyExc_ValueError, "x and out must have one shape (rows, n) and one type, float or double");
    return -1;
}

static PyObject *finish(Py_buffer *views, int code) {
    PyBuffer_Release(&views[0]);
    PyBuffer_Release(&views[1]);
    if (code == RTFAST_NO_MEMORY) return PyErr_NoMemory();
    if (code < 0) return PyErr_Format(PyExc_ValueError, "rows: %s", rtfast_message(code));
    Py_RETURN_NONE;
}

static PyObject *softmax(PyObject *self, PyObject *args) {
    PyObject *x, *out;
    Py_buffer views[2];
    int code;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO", &x, &out) || take(x, out, views) < 0) return NULL;
    Py_BEGIN_ALLOW_THREADS
    if (views[0].itemsize == sizeof(float))
        code = rtfast_api->softmax_f(views[0].buf, views[0].shape[0], views[0].shape[1], views[1].buf);
    else
        code = rtfast_api->softmax_d(views[0].buf, views[0].shape[0], views[0].shape[1], views[1].buf);
    Py_END_ALLOW_THREADS
    return finish(views, code);
}

static PyObject *layer_norm(PyObject *self, PyObject *args) {
    PyObject *x, *out;
    Py_buffer views[2];
    double eps;
    int code;
    (void)self;
    if (!PyArg_ParseTuple(args, "OdO", &x, &eps, &out) || take(x, out, views) < 0) return NULL;
    Py_BEGIN_ALLOW_THREADS
    if (views[0].itemsize == sizeof(float))
        code = rtfast_api->layer_norm_f(views[0].buf, NULL, NULL, views[0].shape[0], views[0].shape[1], eps, 0,
                                        views[1].buf);
    else
        code = rtfast_api->layer_norm_d(views[0].buf, NULL, NULL, views[0].shape[0], views[0].shape[1], eps, 0,
                                        views[1].buf);
    Py_END_ALLOW_THREADS
    return finish(views, code);
}

static PyMethodDef methods[] = {
    {"softmax", softmax, METH_VARARGS, "softmax(x, out): out (rows, n) = softmax of each row of x (rows, n)"},
    {"layer_norm", layer_norm, METH_VARARGS, "layer_norm(x, eps, out): out (rows, n) = layer norm of each row of x"},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "rows", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_rows(void) {
    PyObject *made;
    if (rtfast_import() < 0) return NULL;
    made = PyModule_Create(&module);
#ifdef Py_GIL_DISABLED /* free-threaded Python: nothing here needs the GIL */
    if (made) PyUnstable_Module_SetGIL(made, Py_MOD_GIL_NOT_USED);
#endif
    return made;
}
