"""A small ray-caster: rooms of boxes and planes, with the depth that belongs to them."""

import numpy as np

FAR = 10.0  # metres that a depth of 1 stands for


def render_scene(rng, size):
    """A picture with depth, uint8 (height, width, 4): a room with boxes in it, seen from the height of a person.

    Depth is along the optical axis, as a depth camera measures it, 255 being 10 m.

    Args:
        rng: A NumPy generator; the same state gives the same scene.
        size: Height and width.
    """
    height, width = size
    room = np.array([rng.uniform(3, 6), rng.uniform(2.3, 3.2), rng.uniform(3.5, 9)])  # across, up, ahead
    low, high, paint = [np.array([-room[0] / 2, 0, -2.0])], [np.array([room[0] / 2, room[1], room[2]])], []
    for _ in range(rng.integers(4, 10)):
        side = rng.uniform(0.2, 1.4, 3)
        at = np.array([rng.uniform(-room[0] / 2, room[0] / 2), 0, rng.uniform(1.5, room[2])])
        at[1] = 0 if rng.random() < 0.7 else rng.uniform(0, room[1] - side[1])
        low.append(at - side * [0.5, 0, 0.5])
        high.append(at + side * [0.5, 1, 0.5])
    paint = rng.uniform(0.1, 1, (len(low), 3, 3))  # of each box: faces across, up and ahead

    ahead = _rays(rng, height, width)
    eye = np.array([rng.uniform(-0.5, 0.5), rng.uniform(1.0, 1.7), 0.0])
    distance, box, face = _nearest(eye, ahead["rays"], np.array(low), np.array(high))
    point = eye + distance[..., None] * ahead["rays"]
    light = eye + rng.uniform(-1.5, 1.5, 3) * [1, 0.3, 1] + [0, 0.5, 1]
    towards = light - point
    length = np.linalg.norm(towards, axis=-1)
    slant = np.abs(np.take_along_axis(towards, face[..., None], -1)[..., 0]) / np.maximum(length, 1e-6)
    shade = 0.25 + 0.9 * slant / (1 + 0.06 * length**2)
    # Checks on some faces: without any texture depth edges and image edges would be the same thing.
    checks = (np.floor(point / rng.uniform(0.15, 0.6, 3)).sum(-1) % 2) * rng.uniform(0, 0.3, len(low))[box]
    colour = paint[box, face] * (shade * (1 - checks))[..., None] + rng.normal(0, 0.01, (height, width, 3))
    depth = distance * (ahead["rays"] @ ahead["axis"]) / FAR
    picture = np.concatenate([colour, depth[..., None]], -1)
    return np.rint(255 * picture.clip(0, 1)).astype("uint8")


def _rays(rng, height, width):
    """Directions of length 1, one a pixel, of a camera with the Kinect's field of view that is turned a little."""
    turn, nod = rng.uniform(-0.5, 0.5), rng.uniform(-0.25, 0.1)
    half = np.tan(np.radians(28.5))
    across = np.linspace(-half, half, width)
    up = np.linspace(half, -half, height) * height / width
    rays = np.stack([*np.broadcast_arrays(across[None], up[:, None]), np.ones((height, width))], -1)
    nodding = np.array([[1, 0, 0], [0, np.cos(nod), np.sin(nod)], [0, -np.sin(nod), np.cos(nod)]])
    turning = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    camera = turning @ nodding
    rays = rays @ camera.T
    return {"rays": rays / np.linalg.norm(rays, axis=-1, keepdims=True), "axis": camera @ [0.0, 0.0, 1.0]}


def _nearest(eye, rays, low, high):
    """Distance to what each ray meets first, which box that is, and the axis of the face. The first box is the room."""
    with np.errstate(divide="ignore"):
        inverse = 1 / np.where(np.abs(rays) < 1e-9, 1e-9, rays)
    one, other = (low[:, None, None] - eye) * inverse, (high[:, None, None] - eye) * inverse
    entries, exits = np.minimum(one, other), np.maximum(one, other)
    enter, leave = entries.max(-1), exits.min(-1)
    hit = (enter < leave) & (enter > 1e-3)
    # A room is seen from inside: its far side counts.
    distance = np.concatenate([leave[:1], np.where(hit[1:], enter[1:], np.inf)])
    face = np.concatenate([exits[:1].argmin(-1), entries[1:].argmax(-1)])
    box = distance.argmin(0)
    chosen = box[None]
    return np.take_along_axis(distance, chosen, 0)[0], box, np.take_along_axis(face, chosen, 0)[0]
