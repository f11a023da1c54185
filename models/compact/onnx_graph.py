"""The bundle's graphs in ONNX Runtime, one thread a call; imported only when they are asked for."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from models.compact.bundle import BundleError

Float32 = npt.NDArray[np.float32]

EXACT_PRODUCTS = "session.x64quantprecision"
_ERRORS = (
    failures.Fail, failures.InvalidArgument, failures.InvalidGraph, failures.InvalidProtobuf, failures.NotImplemented,
    failures.RuntimeException,
)  # fmt: skip

if os.environ["ORT_DISABLE_TELEMETRY"] != "0":
    onnxruntime.disable_telemetry_events()  # where it was imported before models.compact could say so


class OnnxGraph:
    """One graph; safe to call from several threads.

    Raises:
        BundleError: ONNX Runtime cannot load the file here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._session = session(str(path))
        except _ERRORS as error:
            raise BundleError(f"{path} cannot be run: {error}") from None

    def __call__(self, x: npt.NDArray[Any], last: Float32) -> Float32:
        """window: (B, 64, Fb) and (B, F) -> (B, H, 4); panel: x in the file's layout -> (N, T - 63, H, 4).

        Raises:
            BundleError: the graph does not take these inputs.
        """
        return self.run(x=x, last=last)

    def run(self, **inputs: npt.NDArray[Any]) -> Float32:
        """The graph's first output, of inputs by name.

        Raises:
            BundleError: the graph does not take these inputs.
        """
        given = {name: np.ascontiguousarray(each) for name, each in inputs.items()}
        try:
            return np.asarray(self._session.run(None, given)[0])
        except _ERRORS as error:
            raise BundleError(f"{self._path} cannot be run: {error}") from None


def session(model: str | bytes) -> Any:
    """ONNX Runtime's session of a file's path or its content, on one thread of the CPU."""
    return onnxruntime.InferenceSession(model, options(), providers=["CPUExecutionProvider"])


def options(exact_products: bool | None = None) -> Any:
    """Session options: one thread, and exact u8 x s8 products on every CPU.

    An x86 CPU without VNNI adds pairs of u8 x s8 products in 16 bits, where they saturate. ONNX Runtime can be told to
    compute with u8 weights instead, which gives the same integers as VNNI does, at about half the speed of VNNI in
    panel mode; it would do so on CPUs with VNNI too, so it is told only where that is missing or not known.

    Args:
        exact_products: tell it so; None for what this machine needs.
    """
    wanted = onnxruntime.SessionOptions()
    wanted.intra_op_num_threads = wanted.inter_op_num_threads = 1
    if saturates() if exact_products is None else exact_products:
        wanted.add_session_config_entry(EXACT_PRODUCTS, "1")
    return wanted


def saturates(machine: str = "", cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether u8 x s8 products may saturate on this CPU: x86 that does not say that it has VNNI."""
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    try:
        with cpu_info.open() as lines:
            flags = next(line for line in lines if line.startswith("flags")).split()
    except (OSError, StopIteration):
        return True
    return not {"avx512_vnni", "avx_vnni"} & set(flags)
