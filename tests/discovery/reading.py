"""What the discovery tests run in a child process, beside the stand-in for NVML."""

READ = """
import time
from dataclasses import asdict

from aliquot.discovery import GpuStateUnreadable, source_for
from aliquot.discovery.nvml import NvmlSource


def read(mps="/nowhere", **options):
    inventory = NvmlSource(mps_pipe_directory=mps, **options).read()
    return {**asdict(inventory), "read_at": inventory.read_at.isoformat()}


def told(source):
    try:
        return len(source.read().gpus)
    except GpuStateUnreadable as error:
        return f"{type(error).__name__}: {error}"
"""
