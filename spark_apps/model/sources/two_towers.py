"""Makes the text side of an open_clip model, as `model.words` opens it: tower, tokenizer, and how texts are cleaned."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spark_apps.model import cache, words
from spark_apps.model.sources import package

TOLERANCE = 1e-3
"""Share of the largest value that the exported tower may differ from open_clip's."""
EXAMPLES = ("a red bicycle", "a", "two cats that sleep on a pink couch, with a remote control beside each of them")


def keep(model: Any, name: str, folder: Path, stem: str) -> Mapping[str, Any]:
    """Writes the files of the text side of `model`, which open_clip calls `name`, into `folder`.

    Returns what `ModelInfo.text` holds: their sha256 by name, or why there is none.
    """
    names = words.Names(stem)
    try:
        tokenizer = package("open_clip", "open_clip").get_tokenizer(name)
        document, side = _described(tokenizer)
        document.save(str(folder / names.tokenizer))
        described = {"clean": side.clean, "replaced": list(side.replaced), "templates": dict(side.templates)}
        (folder / names.description).write_text(json.dumps(described))
        _export(model, tokenizer, folder / names.tower)
    except Exception as error:  # of transformers, the hub, torch's tracer: the photos' side is there all the same
        for path in folder.glob(f"{stem}.*words*"):
            path.unlink()
        (folder / names.tokenizer).unlink(missing_ok=True)
        return {
            "missing": f"Its text side could not be made: {' '.join(str(error).split())[:300] or type(error).__name__}"
        }
    made = [names.tower, names.tower.replace(".xml", ".bin"), names.tokenizer, names.description]
    return {"files": {one: cache.sha256(folder / one) for one in made}}


def _export(model: Any, tokenizer: Any, path: Path) -> None:
    """Raises ValueError: what comes out is not what open_clip computes."""
    import openvino as ov
    import torch

    from spark_apps.model.network import Text

    tokens = tokenizer(list(EXAMPLES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        graph = ov.convert_model(Text(model).eval(), example_input=(tokens[:1],))
    graph.inputs[0].get_node().set_element_type(ov.Type.i64)
    graph.reshape({0: [-1, tokens.shape[1]]})
    found = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([tokens.numpy()])[0]
    with torch.inference_mode():
        expected = model.encode_text(tokens, normalize=False).numpy()
    if found.shape != expected.shape or not abs(found - expected).max() <= TOLERANCE * abs(expected).max():
        raise ValueError("OpenVINO gives other vectors of a text than open_clip")
    ov.save_model(graph, path, compress_to_fp16=False)


def _described(tokenizer: Any) -> tuple[Any, words.TextSide]:
    """A tokenizer of open_clip as a document of the package tokenizers, and what it does besides."""
    library = package("open_clip", "open_clip")
    cleanings = {library.tokenizer.get_clean_fn(name): name for name in words.CLEANINGS}
    templates = {
        "simple": [template("{}") for template in library.SIMPLE_IMAGENET_TEMPLATES],
        "openai": [template("{}") for template in library.OPENAI_IMAGENET_TEMPLATES],
    }
    if isinstance(tokenizer, library.SimpleTokenizer):
        if tokenizer.reduction_fn is not None:
            raise ValueError("its tokenizer leaves out words by chance")
        clean = cleanings[tokenizer.clean_fn]
        return _byte_pairs(tokenizer), words.TextSide(clean, (), templates)
    clean = (
        "canonicalize" if isinstance(tokenizer, library.tokenizer.SigLipTokenizer) else cleanings[tokenizer.clean_fn]
    )
    if getattr(tokenizer, "tokenizer_mode", ""):
        raise ValueError(f"its tokenizer has a mode of its own, {tokenizer.tokenizer_mode}")
    fast = tokenizer.tokenizer
    document = type(fast.backend_tokenizer).from_str(fast.backend_tokenizer.to_str())
    document.enable_truncation(tokenizer.context_length)
    document.enable_padding(length=tokenizer.context_length, pad_id=fast.pad_token_id, pad_token=fast.pad_token)
    replaced = (fast.sep_token_id,) if getattr(tokenizer, "strip_sep_token", False) else ()
    return document, words.TextSide(clean, replaced, templates)


def _byte_pairs(simple: Any) -> Any:
    """CLIP's own byte pair encoding: open_clip/tokenizer.py, `SimpleTokenizer`.

    The tokens are the same but for some ten characters that two libraries of regular expressions class differently:
    U+0345, and letters that are new in Unicode.
    """
    tokenizers = package("tokenizers", "words")
    begin, end = (simple.decoder[token] for token in simple.all_special_ids[:2])
    merges = [tuple(pair) for pair in simple.bpe_ranks if len(pair) == 2]
    document = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=dict(simple.encoder), merges=merges, end_of_word_suffix="</w>")
    )
    pieces = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pieces), "removed", invert=True)
    to_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    document.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, to_bytes])
    document.add_special_tokens([begin, end])
    document.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, simple.sot_token_id), (end, simple.eot_token_id)]
    )
    document.enable_truncation(simple.context_length)
    document.enable_padding(length=simple.context_length, pad_id=0, pad_token=simple.decoder[0])
    return document
