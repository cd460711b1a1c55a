"""Hold 2 GiB of the visible GPU through the CUDA driver, until killed."""

import ctypes
import time

cuda = ctypes.CDLL("libcuda.so.1")
context, memory = ctypes.c_void_p(), ctypes.c_uint64()
for status in (
    cuda.cuInit(0),
    cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0),
    cuda.cuCtxSetCurrent(context),
    cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(2 << 30)),
):
    assert status == 0, f"the CUDA driver answered {status}"
print("holding", flush=True)
time.sleep(600)
