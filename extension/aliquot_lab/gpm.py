"""GPM: how busy a GPU, or one MIG slice of it, was between two readings.

NVML's GPU Performance Monitoring (Hopper and newer) takes opaque samples and computes
metrics from a pair of them. The sample of the reading before is kept, so a reading costs
one sample. Each metric has its own return code, and NaN means missing, as DCGM has it.

A slice is read through its parent with the GPU instance's number (`nvmlGpmMigSampleGet`):
giving GPM a MIG handle broke later memory readings on driver 535.

Permission can be withdrawn while running (DCGM issue 214), so a denial is asked again,
each time after a longer while.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress

import pynvml

from aliquot_lab.nvml_faults import LASTING, code_of, is_gone, reason_of
from aliquot_lab.wording import Sentence, say

# The driver asks for 100 ms between two samples; over a long gap the mean says nothing of now.
_SHORTEST_SECONDS = 0.1
_LONGEST_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 5.0
_LONGEST_RETRY_SECONDS = 600.0


class GpmMeter:
    """The SM utilisation (metric 2) of one card or one GPU instance.

    `read` returns percent (0–100) or the reason why there is none; it raises NVMLError only
    when the driver is gone. A card without GPM is asked once.
    """

    def __init__(
        self,
        card: object,
        gpu_instance: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._card = card
        self._gpu_instance = gpu_instance
        self._clock = clock
        self._query = pynvml.c_nvmlGpmMetricsGet_t()
        self._query.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        self._query.numMetrics = 1
        self._query.metrics[0].metricId = pynvml.NVML_GPM_METRIC_SM_UTIL
        self._before: object | None = None
        self._spare: object | None = None
        self._taken_at = -math.inf
        self._last: float | Sentence = say("warming_up")
        self._retry_at = -math.inf
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self.is_absent = False
        """True once it is certain that this card or driver has no GPM."""
        self._find()

    def _find(self) -> None:
        try:
            support = pynvml.nvmlGpmQueryDeviceSupport(self._card)
            if not support.isSupportedDevice:
                self._give_up(reason_of(pynvml.NVML_ERROR_NOT_SUPPORTED))
        except pynvml.NVMLError as error:
            self._handle(error)

    def read(self) -> float | Sentence:
        now = self._clock()
        if self.is_absent or now < self._retry_at:
            return self._last
        gap = now - self._taken_at
        if gap < _SHORTEST_SECONDS:
            return self._last
        try:
            self._last = self._measure(gap)
            self._retry_seconds = _FIRST_RETRY_SECONDS
        except pynvml.NVMLError as error:
            self._handle(error)
        return self._last

    def _measure(self, gap_seconds: float) -> float | Sentence:
        sample = self._spare or pynvml.nvmlGpmSampleAlloc()
        self._spare = sample
        if self._gpu_instance is None:
            pynvml.nvmlGpmSampleGet(self._card, sample)
        else:
            pynvml.nvmlGpmMigSampleGet(self._card, self._gpu_instance, sample)
        before, self._before, self._spare = self._before, sample, self._before
        self._taken_at = self._clock()
        if before is None or gap_seconds > _LONGEST_SECONDS:
            return say("warming_up")
        self._query.sample1 = before
        self._query.sample2 = sample
        pynvml.nvmlGpmMetricsGet(self._query)
        metric = self._query.metrics[0]
        if metric.nvmlReturn != pynvml.NVML_SUCCESS:
            return reason_of(metric.nvmlReturn)
        if not math.isfinite(metric.value):
            return say("busy_no_value")
        return min(100.0, max(0.0, metric.value))

    def _handle(self, error: pynvml.NVMLError) -> None:
        if is_gone(error):
            raise error
        code = code_of(error)
        if code in LASTING:
            self._give_up(reason_of(code))
            return
        self._last = reason_of(code)
        self._retry_at = self._clock() + self._retry_seconds
        self._retry_seconds = min(_LONGEST_RETRY_SECONDS, 2 * self._retry_seconds)

    def _give_up(self, reason: Sentence) -> None:
        self.is_absent = True
        self._last = reason

    def close(self) -> None:
        for sample in (self._before, self._spare):
            if sample is not None:
                # If the driver is gone, so is the sample.
                with suppress(pynvml.NVMLError):
                    pynvml.nvmlGpmSampleFree(sample)
        self._before = self._spare = None
