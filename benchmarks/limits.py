"""What the project has set itself: each measure, the least it must be and what it aims at. The one place for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """`name`: of the ratio in the report. `lower_is_better`: `at_least` and `aim` are then upper bounds."""

    name: str
    measure: str
    at_least: float
    aim: float
    lower_is_better: bool = False

    def verdict(self, value: float | None) -> str:
        """aim reached, enough, too low (or too high), or not measured."""
        if value is None:
            return "not measured"
        sign = -1 if self.lower_is_better else 1
        if sign * value >= sign * self.aim:
            return "aim reached"
        if sign * value >= sign * self.at_least:
            return "enough"
        return "too high" if self.lower_is_better else "too low"


LIMITS = (
    Limit("fp32_vs_broadcast_udf", "ours fp32 / the broadcast UDF, steady", 2.2, 3.0),
    Limit("bf16_vs_broadcast_udf", "ours bf16 / the same", 4.0, 5.5),
    Limit("int8_vs_broadcast_udf", "ours int8 / the same", 6.0, 9.0),
    Limit("fp32_vs_best_peer", "ours fp32 / the best of Ray Data, Daft, predict_batch_udf", 1.8, 2.5),
    Limit("bf16_vs_best_peer", "ours bf16 / the same", 3.2, 4.5),
    Limit("int8_vs_best_peer", "ours int8 / the same", 5.0, 7.0),
    Limit("same_engine_vs_best_peer", "ours / the best of Ray Data and Daft with our engine inside", 1.0, 1.03),
    Limit("vs_no_spark", "ours / decode and engine without Spark", 0.98, 0.99),
    Limit("fp32_vs_pixels", "ours fp32 / engine on pixels", 0.91, 0.94),
    Limit("bf16_vs_pixels", "ours bf16 / the same", 0.86, 0.90),
    Limit("int8_vs_pixels", "ours int8 / the same", 0.84, 0.88),
    Limit("engine_vs_others", "our engine / the best of ONNX Runtime and torch.compile, on pixels", 1.0, 1.1),
    Limit("wide_vs_narrow", "one wide task on all cores / a narrow one on each", 0.95, 1.0),
    Limit("scaled_decode_12mp", "12 megapixels, scaled decode on / off", 2.5, 4.0),
    Limit("scaled_vs_huffman_12mp", "12 megapixels, scaled decode / Huffman codes and engine alone", 0.9, 1.0),
    Limit("cost_growth", "cost per image, largest day / smallest", 1.1, 1.0, lower_is_better=True),
    Limit("memory_growth", "memory of a worker, largest day / smallest", 1.1, 1.0, lower_is_better=True),
    Limit(
        "first_row_vs_predict_batch_udf",
        "start to first feature row, ours fp32 / predict_batch_udf",
        0.7,
        0.4,
        lower_is_better=True,
    ),
)
