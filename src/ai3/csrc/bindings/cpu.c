// Tells which copies of the core this processor can run, before any of them is loaded.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject* levels(PyObject* self, PyObject* unused) {
    (void)self, (void)unused;
    PyObject* names = PyList_New(0);
    if (!names) return NULL;
#define ADD(name)                                    \
    do {                                             \
        PyObject* text = PyUnicode_FromString(name); \
        if (!text || PyList_Append(names, text)) {   \
            Py_XDECREF(text);                        \
            Py_DECREF(names);                        \
            return NULL;                             \
        }                                            \
        Py_DECREF(text);                             \
    } while (0)
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                     __builtin_cpu_supports("bmi2");
    const int avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
    if (avx512) ADD("avx512");
    if (avx2) ADD("avx2");
#endif
    ADD("baseline");
    return names;
}

static PyMethodDef methods[] = {{"levels", levels, METH_NOARGS,
                                 "levels() -> list[str]\n\nThe instruction set levels that this "
                                 "processor has, best first."},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "cpu", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_cpu(void) { return PyModule_Create(&module); }
