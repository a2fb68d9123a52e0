"""Boxes relative to an image."""

Box = tuple[float, float, float, float]  # centre x, centre y, width, height, in [0, 1]

EDGE = 0.01  # how far a box may stick out of the image and is cut, instead of being refused


def cut_box(box: Box) -> Box | None:
    """Returns the box without what sticks out by up to EDGE; None if it is not inside, or empty."""
    x, y, w, h = box
    if not all(0 <= v <= 1 for v in box):  # false for NaN, too
        return None
    edges = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if min(edges) < -EDGE or max(edges) > 1 + EDGE:
        return None
    left, top, right, bottom = (min(max(float(v), 0.0), 1.0) for v in edges)
    if right <= left or bottom <= top:
        return None
    if (left, top, right, bottom) == edges:
        return float(x), float(y), float(w), float(h)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
