"""The requests of docs/serving.md fit the signatures, by the rules of the REST API of TensorFlow Serving."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfdefense as td

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()


@pytest.fixture(scope="module")
def loaded(defended, tmp_path_factory):
    return tf.saved_model.load(str(td.export.export(defended, tmp_path_factory.mktemp("served") / "1", decode=True)))


@pytest.fixture(scope="module")
def served(loaded):

    def ask(request):
        """Rows become a tensor an input, of the type of the signature; {"b64": ...} is a string of bytes."""
        request = json.loads(request)
        signature = loaded.signatures[request.get("signature_name", "serving_default")]
        specs = signature.structured_input_signature[1]
        rows = request["instances"]
        assert all(set(row) == set(specs) for row in rows)

        def value(found):
            return base64.b64decode(found["b64"]) if isinstance(found, dict) else found

        inputs = {name: tf.constant([value(row[name]) for row in rows], spec.dtype) for name, spec in specs.items()}
        return {name: output.numpy() for name, output in signature(**inputs).items()}

    return ask


@pytest.mark.slow
def test_requests_are_answered(served, defended, held_out, tmp_path):
    made = {}
    exec(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0], made)
    pixels = (held_out.x[:5] * 255).round().astype("uint8")
    x = pixels / np.float32(255)
    expected = defended(x)["label"].numpy()
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, image in zip(paths, pixels[..., 0], strict=True):
        Image.fromarray(image).save(path)
    for request in (made["rows"](x), made["moved"](x, float("nan")), made["files"](paths)):
        np.testing.assert_array_equal(served(request)["label"], expected)
    assert (served(made["moved"](x, -1e6))["reason"] == 1).all()


@pytest.mark.slow
def test_the_page_names_every_signature_and_output(loaded):
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    outputs = set(loaded.signatures["serving_default"].structured_outputs)
    assert named == outputs | set(loaded.signatures) - {"serve"}
