"""Fill a platform's templates with a bundle.

The runners live in `templates/`, as the files they are, in the platform's own language. Beside the bundle's golden
vectors, which prove the network, a package carries checks made here: what the tokenizer and the search give, for
runners that have their own.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from rnn_edge.bundle import MANIFEST, Bundle
from rnn_edge.errors import PackageError, TextError
from rnn_edge.files import replace_directory
from rnn_edge.packaging import triton
from rnn_edge.runtimes import BUILT_IN, GenerateOptions, LanguageModel, StepGraph
from rnn_edge.spec import LanguageModelSpec
from rnn_edge.text import Tokenizer

__all__ = ["LISTING", "ONNXRUNTIME_WEB", "Platform", "package"]

Platform = Literal["web", "python", "android", "ios", "triton"]

LISTING = "files.json"
"""What a package says of all its other files: `bytes` and `sha256`, by name."""

ONNXRUNTIME_WEB = "1.30.0"
"""The version the web runner is tested with."""

_TEMPLATES = Path(__file__).parent / "templates"
_WEB_RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
_MODEL = {  # where the bundle goes
    "web": "model",
    "python": "model",
    "android": "src/main/assets/model",
    "ios": "Sources/RnnEdge/model",
    "triton": "bundle",
}
_CHECKS = {"web": "checks.json", "android": "checks.json", "ios": "Tests/RnnEdgeTests/checks.json"}
_OPTIONS = GenerateOptions(
    num_beams=8, num_return_sequences=3, max_new_tokens=4, length_penalty=0.0, stop_strings=("\n",)
)
_BUILT_IN_TEXTS = ["import nu", "for i in ra", "def __in", "    return self.", "if __name__ == "]
_NEED_QUOTING = set("\"'\\\n\r$`")  # in JavaScript, Python and shells
_ALL_SORTS = "Grüße, 你好 🙂\t12.5 naïve e\u0301\u212b\xc5  x\r\n\u00a0</s> <unk> <s> don't_stop"


def package(
    bundle: str | Path | None,
    output: str | Path,
    platform: Platform,
    *,
    title: str | None = None,
    onnxruntime_web: str | Path | None = None,
) -> Path:
    """Write a package of a bundle, whole or not at all, and return its folder; only a package may be overwritten.

    bundle           none means the built-in one
    title            of the page; none means the bundle's name
    onnxruntime_web  an installed npm package, whose files go into a web package; none leaves that to `npm install`
    """
    if platform not in get_args(Platform):
        raise PackageError(f"platform must be one of {', '.join(get_args(Platform))}, got {platform!r}")
    output, found = Path(output), Bundle.read(BUILT_IN if bundle is None else Path(bundle))
    _check(output, found, platform)
    model = LanguageModel(StepGraph.from_bundle(found), found.tokenizer)
    name = found.path.resolve().stem if bundle else "python-autocomplete"
    texts = [*([] if bundle else _BUILT_IN_TEXTS), *_beginnings(model, found.tokenizer)]
    plain_name = re.sub(r"[^a-z0-9._-]+", "-", name.lower())  # for npm and JavaScript
    words = {**_words(found, texts), "name": plain_name, "title": title or name.replace("-", " ").capitalize()}
    if platform == "triton":
        words |= triton.words(found, name, words["example"])
    try:
        with replace_directory(output) as part:
            _write_templates(_TEMPLATES / platform, part, words)
            _write_bundle(found, part / _MODEL[platform])
            if platform in _CHECKS:  # the others have no tokenizer and no search of their own
                _write_json(part / _CHECKS[platform], _checks(model, found.tokenizer, texts))
            if platform == "ios":
                _write_json(part / "Sources/RnnEdge/vocabulary.json", _vocabulary(found.tokenizer))
            if platform == "triton":
                triton.write_repository(found, part / "model_repository", words["name"])
            if platform == "web" and onnxruntime_web is not None:
                _copy_runtime(Path(onnxruntime_web), part / "onnxruntime")
            _write_json(part / LISTING, dict(_listed(part)))
    except OSError as error:
        raise PackageError(f"cannot write {output}: {error.strerror or error}; nothing there was changed") from error
    return output


def _check(output: Path, bundle: Bundle, platform: Platform) -> None:
    if not isinstance(bundle.manifest.spec, LanguageModelSpec):
        raise PackageError(
            f"packages are made of language models only, and {bundle.path} is to {bundle.manifest.spec.task}: "
            "open it with rnn_edge.load instead"
        )
    form = bundle.manifest.graphs["step"].form
    if form != "scan":
        raise PackageError(f"packages run graphs in scan form, and {bundle.path} is in {form} form: export it for cpu")
    if platform in _CHECKS and bundle.tokenizer.kind == "whitespace":
        raise PackageError(
            f"the words of {bundle.path} stand between white space, which is for labels, not for typing: train it with "
            "another tokenizer, or choose the platform python"
        )
    if platform == "web" and bundle.manifest.precision == "int4":
        raise PackageError(f"{bundle.path} is int4, which browsers compute slowly and differently: export it in int8")
    if not output.parent.is_dir():
        raise PackageError(f"cannot write {output}: there is no directory {output.parent}; create it first")
    is_package = any((output / place / MANIFEST).is_file() for place in _MODEL.values())
    if output.exists() and not is_package and (not output.is_dir() or any(output.iterdir())):
        raise PackageError(f"cannot write {output}: something else is there; name another directory with -o")


def _words(bundle: Bundle, texts: list[str]) -> dict[str, str]:
    """Return what stands for each placeholder of the templates."""
    spec, precision = bundle.manifest.spec, bundle.manifest.precision
    cell = "Elman" if spec.cell == "elman" else spec.cell.upper()
    plain = (text.strip() for text in texts if text.strip() and not set(text) & _NEED_QUOTING)
    return {
        "network": f"{cell}, {spec.num_layers} × {spec.hidden_size} units, {precision}",
        "megabytes": f"{len(bundle.files[bundle.manifest.graphs['step'].file]) / 1e6:.2f}",
        "example": next(plain, "the"),
        "version": version("rnn-edge"),
        "onnxruntime_web": ONNXRUNTIME_WEB,
    }


def _write_templates(source: Path, part: Path, words: dict[str, str]) -> None:
    templates = (path for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc")  # pip leaves those
    for template in sorted(templates):
        text = template.read_text(encoding="utf-8")
        for name, word in words.items():
            text = text.replace(f"{{{{{name}}}}}", escape(word) if template.suffix == ".html" else word)
        target = part / template.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")


def _write_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle without graphs that no runner calls, such as a whole search; if it has none, byte for byte."""
    manifest = json.loads((bundle.path / MANIFEST).read_bytes())
    unused = {graph["file"] for role, graph in manifest["graphs"].items() if role != "step"}
    manifest["graphs"] = {"step": manifest["graphs"]["step"]}
    manifest["files"] = {name: entry for name, entry in manifest["files"].items() if name not in unused}
    path.mkdir(parents=True)
    for name in manifest["files"]:
        (path / name).write_bytes(bundle.files[name])
    _write_json(path / MANIFEST, manifest)


def _listed(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each file's name, its size and its hash."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        yield path.relative_to(folder).as_posix(), entry


def _copy_runtime(installed: Path, path: Path) -> None:
    """Copy the two files of onnxruntime-web that run on the processor."""
    path.mkdir()
    for name in _WEB_RUNTIME:
        source = installed / "dist" / name
        if not source.is_file():
            raise PackageError(
                f"{installed} is not an installed onnxruntime-web: {source} is missing; npm install "
                f"onnxruntime-web@{ONNXRUNTIME_WEB}, and name node_modules/onnxruntime-web"
            )
        (path / name).write_bytes(source.read_bytes())


def _beginnings(model: LanguageModel, tokenizer: Tokenizer) -> list[str]:
    """Return beginnings of texts as the model itself writes them, some cut within a word."""
    start = "" if tokenizer.end_id is not None else tokenizer.decode([0, 1])
    longest = GenerateOptions(max_new_tokens=24)
    text = start + model.complete(start, longest)[0].text
    return [text[:length] for length in (2, 3, 5, 8, 13, 21, 34) if text[:length].strip()]


def _checks(model: LanguageModel, tokenizer: Tokenizer, texts: list[str]) -> dict[str, Any]:
    suggestions = [
        {
            "text": text,
            "completions": [
                {"text": completion.text, "tokens": completion.tokens, "log_prob": completion.log_prob}
                for completion in model.complete(text, _OPTIONS)
            ],
        }
        for text in texts
    ]
    return {"texts": list(_encoded(tokenizer, [*texts, _ALL_SORTS])), "suggestions": suggestions}


def _encoded(tokenizer: Tokenizer, texts: list[str]) -> Iterator[dict[str, Any]]:
    for text in texts:
        try:
            settled, pending = tokenizer.encode_typing(text)
            tokens = tokenizer.encode(text)
        except TextError:  # some models do not know all characters
            continue
        yield {
            "text": text,
            "tokens": tokens,
            "settled": settled,
            "pending": pending,
            "decoded": tokenizer.decode(tokens),
        }


def _vocabulary(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return a tokenizer as lists, since in Swift two spellings of é are one key of an object.

    What tokens say is in base64; a merge is two tokens, and the one that they become.
    """
    description = json.loads(tokenizer.to_json())
    pre = description["pre_tokenizer"] or {}
    pattern = pre.get("pretokenizers", [pre])[0].get("pattern", {}).get("Regex")
    white_space = {r"\s": r"\p{White_Space}", r"\S": r"\P{White_Space}"}  # NSRegularExpression's \s lacks some
    for ours, theirs in white_space.items():
        pattern = pattern and pattern.replace(ours, theirs)
    ids = description["model"]["vocab"]
    return {
        "kind": tokenizer.kind,
        "end_id": tokenizer.end_id,
        "unknown_id": tokenizer.unknown_id,
        "pattern": pattern,
        "tokens": [b64encode(said).decode() for said in tokenizer.token_bytes],
        "merges": [[ids[one], ids[other], ids[one + other]] for one, other in description["model"].get("merges", ())],
    }


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
