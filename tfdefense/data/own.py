"""The user's own images: an .npz file, or a folder with one sub-folder for each class."""

import numpy as np

from tfdefense._files import write_file
from tfdefense._untrusted import MOST_CLASSES, read_arrays, read_image
from tfdefense.data.images import stratified_order

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_SPLIT_FOLDERS = {"train": ("train", "training"), "test": ("test", "testing", "val", "validation")}
_TRAIN_SHARE = 0.8


def read(path, split, labels=True):
    if path.is_dir():
        return _read_folder(path, split, labels)
    if path.suffix != ".npz":
        raise ValueError(f"Expected an .npz file or a folder of images. Received: {path}.")
    return _read_npz(path, split)


def write_attacked(path, images, result):
    """Adversarial samples as a data set, beside the clean ones; pixels in [0, 1] as data sets have them."""
    low, high = images.bounds
    x, x_clean = (np.clip((v - low) / (high - low), 0, 1).astype("float32") for v in (result.x_adv, images.x))
    extra = {"classes": np.array(images.classes)} if images.classes else {}
    found = {"label": result.label, "success": result.success, "distance": result.distance}
    arrays = dict(x=x, y=images.y, x_clean=x_clean, **found, **extra)
    write_file(path, lambda new: np.savez_compressed(new, **arrays))


def _read_npz(path, split):
    arrays, keys = read_arrays(path, ("x", "y", "images", "labels", "x_train", "y_train", "x_test", "y_test", "classes"))
    divided = {"x_train", "y_train", "x_test", "y_test"} <= set(keys)
    pair = next((pair for pair in (("x", "y"), ("images", "labels")) if set(pair) <= set(keys)), None)
    if divided:
        parts = ("train", "test") if split == "all" else (split,)
        x, y = (_joined([arrays[f"{array}_{part}"] for part in parts], array, path) for array in "xy")
        # Class numbers come from both splits, or a class that one of them lacks would shift the others.
        known = _joined([np.ravel(arrays["y_train"]), np.ravel(arrays["y_test"])], "y", path)
    elif pair:
        x, y = (arrays[key] for key in pair)
        known = np.ravel(y)
    else:
        raise ValueError(
            f"{path} must hold the arrays x and y, or images and labels, or x_train, y_train, x_test and y_test. "
            f"Received: {', '.join(sorted(keys)[:10]) or 'no arrays'}."
        )
    x = _check_x(x, path)
    y = _check_y(y, len(x), path)
    y, classes = _number(y, known, arrays.get("classes"), path)
    return (x, y, classes) if divided else (*_divide(x, y, split), classes)


def _joined(parts, name, path):
    if len({(part.dtype.kind in "SU", part.shape[1:], part.ndim) for part in parts}) > 1:
        found = " and ".join(f"{part.dtype} of shape {part.shape}" for part in parts)
        raise ValueError(f"{path} must hold {name}_train and {name}_test of one kind and shape. Received: {found}.")
    if not parts[0].ndim:
        raise ValueError(f"{path} must hold one entry of {name} for each sample. Received a single value.")
    return np.concatenate(parts)


def _check_x(x, path):
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4:
        raise ValueError(f"Images in {path} must have shape (N, H, W) or (N, H, W, C). Received: shape={x.shape}.")
    if not x.size:
        raise ValueError(f"{path} holds no images.")
    if x.dtype.kind not in "iuf":
        raise ValueError(f"Images in {path} must be integers in [0, 255] or floats in [0, 1]. Received: {x.dtype}.")
    low, high = x.min(), x.max()
    if np.issubdtype(x.dtype, np.integer) and 0 <= low and high <= 255:
        return x.astype("uint8")
    if np.issubdtype(x.dtype, np.floating) and 0 <= low and high <= 1:
        return x.astype("float32")
    raise ValueError(
        f"Images in {path} must be integers in [0, 255] or floats in [0, 1], without NaN. "
        f"Received: {x.dtype} in [{low}, {high}]. Save them as uint8, or rescale them."
    )


def _check_y(y, count, path):
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != (count,):
        raise ValueError(
            f"{path} must hold one class for each of its {count} images, shape ({count},). Received: shape={y.shape}. "
            "Save one-hot classes as y.argmax(-1)."
        )
    return y


def _number(y, known, classes, path):
    """Classes as 0, 1, ... and their names."""
    names = None if classes is None else _names(classes, path)
    if y.dtype.kind in "SU":
        y, known = _decoded(y, path), _decoded(known, path)
        names, y = np.unique(known), np.searchsorted(np.unique(known), y)
    elif not np.issubdtype(y.dtype, np.integer) or known.min() < 0:
        raise ValueError(f"Classes in {path} must be integers from 0 or names. Received: {y.dtype} from {known.min()}.")
    elif known.max() >= MOST_CLASSES:
        raise ValueError(f"Classes in {path} must be numbers below {MOST_CLASSES:,}. Received: a class {known.max()}.")
    elif names is None:
        names = range(int(known.max()) + 1)
    elif len(names) <= known.max():
        raise ValueError(f"{path} names {len(names)} classes. Received: a class {known.max()}, counted from 0.")
    return y, tuple(str(name) for name in names)


def _names(classes, path):
    if classes.ndim != 1 or len(classes) > MOST_CLASSES:
        raise ValueError(f"`classes` in {path} must be a list of names. Received shape {classes.shape}.")
    return _decoded(classes, path)


def _decoded(names, path):
    if names.dtype.kind != "S":
        return names
    try:
        return np.char.decode(names, "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"Names of classes in {path} must be UTF-8. Received: {error.object!r}.") from error


def _divide(x, y, split):
    if split == "all":
        return x, y
    order, count = stratified_order(y, seed=0), round(_TRAIN_SHARE * len(y))
    chosen = np.sort(order[:count] if split == "train" else order[count:])
    if not len(chosen):
        raise ValueError(f"{len(y)} images are too few for a {split!r} split. Pass split='all'.")
    return x[chosen], y[chosen]


def has_splits(path):
    """Whether somebody's own file or folder says itself which of its images are for training."""
    if path.is_dir():
        return all(_existing(path, names) for names in _SPLIT_FOLDERS.values())
    return path.suffix == ".npz" and "x_test" in read_arrays(path, ())[1]


def _read_folder(path, split, labels):
    flat = None if labels or has_splits(path) else sorted(file for file in path.glob("*") if file.suffix.lower() in _SUFFIXES)
    if flat and not any(file.is_dir() for file in path.glob("[!.]*")):
        places = _divide(np.arange(len(flat)), np.zeros(len(flat), int), split)[0]
        return _read_images([flat[place] for place in places]), places, ()
    files, y, classes = labelled(path, split)
    return _read_images(files), y, classes


def labelled(path, split="all"):
    """The pictures of a folder with one sub-folder for each class, as paths, and their classes; none of them is opened."""
    folders = {part: _existing(path, names) for part, names in _SPLIT_FOLDERS.items()}
    divided = all(folders.values())
    roots = list(folders.values()) if divided else [path]
    classes = tuple(sorted({folder.name for root in roots for folder in root.glob("[!.]*") if folder.is_dir()}))
    if divided and split != "all":
        roots = [folders[split]]
    files = [
        (file, label)
        for root in roots
        for label, name in enumerate(classes)
        for file in sorted((root / name).glob("*"))
        if file.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise ValueError(
            f"No images in {path}. Expected one sub-folder for each class, as {path.name}/cat/1.png, "
            "or such folders within train/ and test/. Pictures that lie in the folder itself have no classes: they do where "
            "none are needed, as out-of-distribution images and for a rejection rate."
        )
    y = np.array([label for _, label in files])
    if not divided:
        chosen, y = _divide(np.arange(len(files)), y, split)
        files = [files[index] for index in chosen]
    return [file for file, _ in files], y, classes


def _existing(path, names):
    return next((path / name for name in names if (path / name).is_dir()), None)


def _read_images(files):
    images = []
    for file in files:
        image = read_image(file)
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"Images must have 8 bits a channel. Received: {file} of mode {image.mode}. Convert it first.")
        images.append(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        if images[-1].size != images[0].size:
            raise ValueError(
                f"All images must have one size. Received: {images[0].size} in {files[0]} and {images[-1].size} in "
                f"{file}. Resize them, e.g. with PIL.Image.resize."
            )
    # One coloured image makes the whole set coloured.
    if len({image.mode for image in images}) > 1:
        images = [image.convert("RGB") for image in images]
    x = np.stack([np.asarray(image) for image in images])
    return x[..., None] if x.ndim == 3 else x
