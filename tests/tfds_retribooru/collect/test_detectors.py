"""Face boxes and figure masks by small ONNX models whose answer is known."""

import numpy as np
import pytest
from PIL import Image

from tfds_retribooru.collect import detectors

onnx = pytest.importorskip("onnx", reason="the models are made with onnx, extra [test]")
helper = onnx.helper


def save(path, nodes, shape_in, shape_out, constants=()):
    """Writes a model image -> out and opens it."""
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", float32, shape_in)],
        [helper.make_tensor_value_info("out", float32, shape_out)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, path)
    return detectors.load(path)


def yolo(path, rows, transposed=False):
    """A detector that always gives these rows (x, y, width, height, score) in a 64 x 96 input."""
    table = np.array(rows, np.float32)[None]
    if not transposed:
        table = table.transpose(0, 2, 1)
    nothing = ("nothing", np.zeros(1, np.float32))
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nothing"], ["zero"]),
        helper.make_node("Add", ["table", "zero"], ["out"]),
    ]
    return save(path, nodes, [1, 3, 64, 96], list(table.shape), [("table", table), nothing])


def isnet(path, height, width):
    """A segmentation whose mask is the image's green channel."""
    bounds = [(name, np.array([v], np.int64)) for name, v in (("a", 1), ("b", 2))]
    nodes = [helper.make_node("Slice", ["image", "a", "b", "a"], ["out"])]
    return save(path, nodes, [1, 3, height, width], [1, 1, height, width], bounds)


FILLER = [[0, 0, 1, 1, 0.01]] * 9


@pytest.mark.parametrize("transposed", [False, True])
def test_a_face_is_in_shares_of_the_image(tmp_path, transposed):
    # A 200 x 100 image in a 96 x 64 input: scale 0.48, 8 grey rows above and below.
    session = yolo(tmp_path / "f.onnx", [[48, 20, 24, 12, 0.9], *FILLER], transposed)
    box = detectors.face_box(session, Image.new("RGB", (200, 100)))
    assert box == pytest.approx((0.5, 0.25, 0.25, 0.25), abs=2e-6)


def test_the_face_of_the_highest_score_is_taken_and_none_below_the_least(tmp_path):
    rows = [[10, 20, 4, 4, 0.6], [30, 30, 4, 4, 0.8], *FILLER]
    session = yolo(tmp_path / "f.onnx", rows)
    image = Image.new("RGB", (96, 64))
    assert detectors.face_box(session, image)[0] == pytest.approx(30 / 96, abs=1e-6)
    assert detectors.face_box(session, image, min_score=0.85) is None


def test_a_face_is_cut_at_the_edges(tmp_path):
    image = Image.new("RGB", (96, 64))
    session = yolo(tmp_path / "f.onnx", [[0, 0, 48, 32, 0.9], *FILLER])
    assert detectors.face_box(session, image) == (0.125, 0.125, 0.25, 0.25)
    outside = yolo(tmp_path / "g.onnx", [[-60, 0, 48, 32, 0.9], *FILLER])
    assert detectors.face_box(outside, image) is None


@pytest.mark.parametrize("size", [(64, 64), (61, 33), (40, 150)])
def test_a_mask_lies_where_the_figure_is(tmp_path, size):
    session = isnet(tmp_path / "m.onnx", 64, 64)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[size[1] // 4 : size[1] // 2, size[0] // 3 :, 1] = 255
    mask = detectors.figure_mask(session, Image.fromarray(pixels))
    assert mask.size == size and mask.mode == "L"
    wrong = np.abs(np.asarray(mask).astype(int) - pixels[..., 1]) > 127
    assert wrong.mean() < 0.03
    if size == (64, 64):
        np.testing.assert_array_equal(np.asarray(mask), pixels[..., 1])


def test_a_model_that_is_of_another_kind_is_an_error(tmp_path):
    image = Image.new("RGB", (50, 50))
    mask, face = isnet(tmp_path / "m.onnx", 64, 96), yolo(tmp_path / "f.onnx", FILLER)
    with pytest.raises(ValueError, match=r"a face detector gives .* this one \(1, 1, 64, 96\)"):
        detectors.face_box(mask, image)
    with pytest.raises(ValueError, match=r"a figure detector gives .* this one \(1, 5, 9\)"):
        detectors.figure_mask(face, image)


def test_a_file_that_is_no_model_is_an_error(tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="text.onnx cannot be opened as an ONNX model"):
        detectors.load(tmp_path / "text.onnx")
