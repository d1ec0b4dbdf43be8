"""The precisions that a model can run in: what runs them, what they need, and how close to fp32 they must stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Precision:
    """One number format of the computation.

    `min_cosine`: the smallest cosine between a stored vector and its recomputation in fp32. `engines`, `devices`: what
    runs it. `arithmetic`: the floating point format of what is not quantised, fp32 or bf16. `cpu_flags`: a processor
    needs one of these, as Linux lists them (x86: AVX512 or AMX; Arm); empty: any will do.
    `engines_agree`: whether the engines give the same vectors, so that the fingerprint need not tell them apart.
    `calibrated`: whether a model is made on photos, which then are part of its fingerprint. `has_tail`: whether a few
    vectors of a sound model may be far from fp32, so that the check `recomputation` judges them as a sample.
    """

    min_cosine: float
    engines: tuple[str, ...] = ("torch", "openvino")
    devices: tuple[str, ...] = ("cpu", "cuda")
    arithmetic: str = "fp32"
    cpu_flags: tuple[str, ...] = ()
    engines_agree: bool = False
    calibrated: bool = False
    has_tail: bool = False


PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(min_cosine=0.9999, engines_agree=True),  # to 1e-4
    "bf16": Precision(min_cosine=0.999, arithmetic="bf16", cpu_flags=("avx512_bf16", "amx_bf16", "bf16")),
    "int8": Precision(min_cosine=0.99, engines=("openvino",), devices=("cpu",), calibrated=True, has_tail=True),
}
"""What `--precision` takes, from exact to fast."""
