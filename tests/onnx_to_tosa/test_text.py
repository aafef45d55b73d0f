"""TfIdfVectorizer against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

WORDS = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], np.int64)
POOL = {
    "ngram_counts": [0, 4],
    "ngram_indexes": [6, 5, 4, 3, 2, 1, 0],
    "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
    "weights": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
}


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skips", [0, 1, 5])
def test_modes_and_skips(skips: int, mode: str) -> None:
    lengths = {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": skips}
    check("TfIdfVectorizer", {"x": WORDS}, mode=mode, **lengths, **POOL)


@pytest.mark.parametrize("length", [1, 2])
def test_one_length_only(length: int) -> None:
    lengths = {"min_gram_length": length, "max_gram_length": length, "max_skip_count": 0}
    check("TfIdfVectorizer", {"x": WORDS[1].astype(np.int32)}, mode="TF", **lengths, **POOL)
