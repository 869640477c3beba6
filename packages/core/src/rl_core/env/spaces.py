"""What the library needs to know of gymnasium's spaces: JSON form, description, comparison and flattening.

Supported are Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of these, nested as wished. The keys of a
Dict keep the order they have in the space, everywhere.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_core.errors import UnsupportedSpaceError

Tree = Any
Space = spaces.Space[Any]

SUPPORTED = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these"
_LARGEST_SPACE = 2**28
"""Elements of one leaf that a JSON description may ask for; 1 GiB of float32 bounds is a mistake or an attack."""


def leaf_spaces(space: Space, path: str = "") -> Iterator[tuple[str, Space]]:
    """Yield `(path, leaf)` in order, e.g. `("['image']", Box(...))`; the path of a space that is a leaf is empty."""
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            yield from leaf_spaces(child, f"{path}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        for index, child in enumerate(space.spaces):
            yield from leaf_spaces(child, f"{path}[{index}]")
    else:
        yield path, space


def check_supported(space: object, what: str) -> None:
    """Refuse a space that cannot be batched into arrays.

    Raises:
        UnsupportedSpaceError: Naming the leaf at fault and what is supported.
    """
    if not isinstance(space, spaces.Space):
        raise UnsupportedSpaceError(f"{what} is {space!r}, expected a gymnasium space ({SUPPORTED}).")
    for path, leaf in leaf_spaces(space):
        if not isinstance(leaf, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            raise UnsupportedSpaceError(
                f"{what}{path} is a {type(leaf).__name__} space; supported are {SUPPORTED}. Drop or encode it with a "
                "gymnasium wrapper before the env reaches the runner."
            )


# JSON -----------------------------------------------------------------------------------------------------------------


def space_to_json(space: Space) -> dict[str, Any]:
    """The space as data that strict JSON can hold; bounds that are constant take one number.

    Raises:
        UnsupportedSpaceError: If the space or a part of it is of another kind.
    """
    check_supported(space, "The space")
    if isinstance(space, spaces.Dict):
        # Pairs, not an object: whoever sorts the keys of the JSON must not reorder the space.
        return {"type": "Dict", "spaces": [[key, space_to_json(child)] for key, child in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"type": "Tuple", "spaces": [space_to_json(child) for child in space.spaces]}
    if isinstance(space, spaces.Box):
        return _box_to_json(space)
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)} | _dtype_unless_int64(space)
    if isinstance(space, spaces.MultiDiscrete):
        start = space.start.tolist() if space.start.any() else 0
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": start} | _dtype_unless_int64(space)
    assert isinstance(space, spaces.MultiBinary)
    return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}


def _dtype_unless_int64(space: Space) -> dict[str, Any]:
    return {} if space.dtype == np.int64 else {"dtype": str(space.dtype)}


def _box_to_json(space: spaces.Box) -> dict[str, Any]:
    data: dict[str, Any] = {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape)}
    data |= {"low": _bounds_to_json(space.low), "high": _bounds_to_json(space.high)}
    if space.low.dtype.kind != "f":  # an integer bound can be "none" and yet a number
        for name, bounded in (("unbounded_below", space.bounded_below), ("unbounded_above", space.bounded_above)):
            if not bounded.all():
                data[name] = np.flatnonzero(~bounded).tolist()
    return data


def _bounds_to_json(bounds: np.ndarray[Any, Any]) -> Any:
    values = bounds.ravel()
    if values.size and (values == values[0]).all():
        return _number_to_json(values[0].item())
    return [_number_to_json(value) for value in values.tolist()]


def _number_to_json(value: float | int) -> float | int | str:
    return repr(value) if isinstance(value, float) and math.isinf(value) else value


def space_from_json(data: Any, path: str = "space") -> Space:
    """The space that `space_to_json` described.

    Args:
        data: Parsed JSON, from anywhere.
        path: Where `data` stood, for messages.

    Raises:
        ValueError: If `data` is malformed; the message names the place.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{path} is {data!r}, expected an object with the key 'type'.")
    kind = data.get("type")
    builder = _BUILDERS.get(kind) if isinstance(kind, str) else None
    if builder is None:
        raise ValueError(f"{path}.type is {kind!r}, expected one of {', '.join(_BUILDERS)}.")
    try:
        return builder(data, path)
    except KeyError as error:
        raise ValueError(f"{path} ({kind}) lacks the key {error}.") from error
    except (TypeError, AssertionError, OverflowError) as error:
        raise ValueError(f"{path} ({kind}) is malformed: {error}") from error


def _dict_from_json(data: Mapping[str, Any], path: str) -> Space:
    children: OrderedDict[Any, Space] = OrderedDict()  # gymnasium sorts a plain dict
    for index, pair in enumerate(_list(data["spaces"], f"{path}.spaces")):
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str | int)):
            raise ValueError(f"{path}.spaces[{index}] is {pair!r}, expected [key, space].")
        if pair[0] in children:
            raise ValueError(f"{path}.spaces[{index}] repeats the key {pair[0]!r}.")
        children[pair[0]] = space_from_json(pair[1], f"{path}[{pair[0]!r}]")
    return spaces.Dict(children)


def _tuple_from_json(data: Mapping[str, Any], path: str) -> Space:
    children = _list(data["spaces"], f"{path}.spaces")
    return spaces.Tuple([space_from_json(child, f"{path}[{index}]") for index, child in enumerate(children)])


def _box_from_json(data: Mapping[str, Any], path: str) -> Space:
    dtype = _dtype(data["dtype"], "biuf", f"{path}.dtype")
    shape = tuple(_integer(size, 0, f"{path}.shape") for size in _list(data["shape"], f"{path}.shape"))
    if math.prod(shape) > _LARGEST_SPACE:
        raise ValueError(f"{path}.shape {shape} has {math.prod(shape)} elements, at most {_LARGEST_SPACE} are allowed.")
    low, high = (_bounds_from_json(data[name], shape, dtype, f"{path}.{name}") for name in ("low", "high"))
    if (low > high).any():
        raise ValueError(f"{path}.low exceeds {path}.high in {int((low > high).sum())} places.")
    box = spaces.Box(low, high, shape, dtype.type)
    for name, bounded in (("unbounded_below", box.bounded_below), ("unbounded_above", box.bounded_above)):
        for index in _list(data.get(name, []), f"{path}.{name}"):
            if _integer(index, 0, f"{path}.{name}") >= bounded.size:
                raise ValueError(f"{path}.{name} holds {index}, expected positions below {bounded.size}.")
            bounded.flat[index] = False
    return box


def _bounds_from_json(value: object, shape: tuple[int, ...], dtype: np.dtype[Any], path: str) -> np.ndarray[Any, Any]:
    size = math.prod(shape)
    if isinstance(value, list) and len(value) != size:
        raise ValueError(f"{path} has {len(value)} numbers, expected one number or {size} for shape {shape}.")
    if not isinstance(value, list):
        return np.full(shape, _bound(value, dtype, path), dtype=dtype)
    return np.array([_bound(number, dtype, path) for number in value], dtype=dtype).reshape(shape)


def _bound(value: object, dtype: np.dtype[Any], path: str) -> float | int:
    if dtype.kind == "f" and value in ("inf", "-inf"):
        return float(str(value))
    if dtype.kind == "b" and isinstance(value, bool):
        return value
    accepted = int | float if dtype.kind == "f" else int
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise ValueError(f"{path} holds {value!r}, expected a {'number' if dtype.kind == 'f' else 'whole number'}.")
    if not math.isfinite(value):
        raise ValueError(f"{path} holds {value!r}; infinities are written 'inf' and '-inf'.")
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        raise ValueError(f"{path} holds {value!r}, which {dtype} cannot hold.")
    return value


def _discrete_from_json(data: Mapping[str, Any], path: str) -> Space:
    n, start = _integer(data["n"], 1, f"{path}.n"), _integer(data.get("start", 0), None, f"{path}.start")
    dtype = _dtype(data.get("dtype", "int64"), "iu", f"{path}.dtype")
    if dtype == np.int64:
        return spaces.Discrete(n, start=start)
    return spaces.Discrete(n, start=start, dtype=dtype.type)


def _multi_discrete_from_json(data: Mapping[str, Any], path: str) -> Space:
    dtype = _dtype(data.get("dtype", "int64"), "iu", f"{path}.dtype")
    nvec = _integers(data["nvec"], f"{path}.nvec")
    if nvec.size == 0 or (nvec < 1).any():
        raise ValueError(f"{path}.nvec is {nvec.tolist()}, expected numbers of at least 1.")
    start = _integers(data.get("start", 0), f"{path}.start")
    if start.shape not in ((), nvec.shape):
        raise ValueError(f"{path}.start has shape {start.shape}, expected that of nvec, {nvec.shape}.")
    return spaces.MultiDiscrete(
        nvec.astype(dtype), dtype=dtype.type, start=np.broadcast_to(start, nvec.shape).astype(dtype)
    )


def _multi_binary_from_json(data: Mapping[str, Any], path: str) -> Space:
    n = data["n"]
    if isinstance(n, list):
        shape = [_integer(size, 1, f"{path}.n") for size in n]
        if not shape or math.prod(shape) > _LARGEST_SPACE:
            raise ValueError(f"{path}.n is {n!r}, expected one to {_LARGEST_SPACE} elements.")
        return spaces.MultiBinary(shape)
    if _integer(n, 1, f"{path}.n") > _LARGEST_SPACE:
        raise ValueError(f"{path}.n is {n!r}, expected at most {_LARGEST_SPACE}.")
    return spaces.MultiBinary(n)


_BUILDERS = {
    "Box": _box_from_json,
    "Discrete": _discrete_from_json,
    "MultiDiscrete": _multi_discrete_from_json,
    "MultiBinary": _multi_binary_from_json,
    "Dict": _dict_from_json,
    "Tuple": _tuple_from_json,
}


def _list(value: object, path: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{path} is {value!r}, expected a list.")
    return list(value)


def _integer(value: object, at_least: int | None, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (at_least is not None and value < at_least):
        raise ValueError(
            f"{path} holds {value!r}, expected a whole number{'' if at_least is None else f' >= {at_least}'}."
        )
    return value


def _integers(value: object, path: str) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{path} is {value!r}, expected (nested) lists of whole numbers.") from error
    if array.dtype.kind not in "iu" or array.size > _LARGEST_SPACE:
        raise ValueError(f"{path} is {value!r}, expected (nested) lists of whole numbers.")
    return array


def _dtype(value: object, kinds: str, path: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(value) if isinstance(value, str) else None
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind not in kinds or str(dtype) != value:
        raise ValueError(
            f"{path} is {value!r}, expected the name of a {'number' if 'f' in kinds else 'whole number'} type."
        )
    return dtype


# Description and comparison -------------------------------------------------------------------------------------------


def describe(space: Space) -> str:
    """The space in a few words, e.g. `Dict(image: Box(12, 12, 3) uint8 in [0, 255], fuel: Discrete(5))`."""
    if isinstance(space, spaces.Dict):
        return f"Dict({', '.join(f'{key}: {describe(child)}' for key, child in space.spaces.items())})"
    if isinstance(space, spaces.Tuple):
        return f"Tuple({', '.join(describe(child) for child in space.spaces)})"
    if isinstance(space, spaces.Box):
        bounds = f" in [{space.low.min():g}, {space.high.max():g}]" if space.low.size else ""
        return f"Box({', '.join(map(str, space.shape))}) {space.dtype}{bounds}"
    if isinstance(space, spaces.Discrete):
        return f"Discrete({space.n})" if space.start == 0 else f"Discrete({space.n}, start={space.start})"
    if isinstance(space, spaces.MultiDiscrete):
        return f"MultiDiscrete({_shortened(space.nvec)})"
    if isinstance(space, spaces.MultiBinary):
        return f"MultiBinary({', '.join(map(str, space.shape))})"
    return type(space).__name__


def _shortened(values: np.ndarray[Any, Any]) -> str:
    return str(values.tolist()) if values.size <= 8 else f"{values.size} parts of {values.min()} to {values.max()}"


def same_space(expected: Space, given: Space, path: str = "") -> str | None:
    """The first difference between two spaces in words, or None if there is none.

    Unlike `==`, the order of the keys of a Dict counts, since flattening and JSON follow it.
    """
    place = f"at {path}: " if path else ""
    if type(expected) is not type(given):
        return f"{place}expected {describe(expected)}, got {describe(given)}"
    if isinstance(expected, spaces.Dict) and isinstance(given, spaces.Dict):
        if list(expected.spaces) != list(given.spaces):
            return f"{place}expected the keys {list(expected.spaces)} in this order, got {list(given.spaces)}"
        pairs = [(f"{path}[{key!r}]", child, given.spaces[key]) for key, child in expected.spaces.items()]
        return next((text for key, a, b in pairs if (text := same_space(a, b, key))), None)
    if isinstance(expected, spaces.Tuple) and isinstance(given, spaces.Tuple):
        if len(expected.spaces) != len(given.spaces):
            return f"{place}expected {len(expected.spaces)} parts, got {len(given.spaces)}"
        parts = enumerate(zip(expected.spaces, given.spaces, strict=True))
        return next((text for i, (a, b) in parts if (text := same_space(a, b, f"{path}[{i}]"))), None)
    return _leaf_difference(expected, given, place)


def _leaf_difference(expected: Space, given: Space, place: str) -> str | None:
    if expected.shape != given.shape or expected.dtype != given.dtype:
        return f"{place}expected {describe(expected)}, got {describe(given)}"
    if isinstance(expected, spaces.Box) and isinstance(given, spaces.Box):
        for name, a, b in (("low", expected.low, given.low), ("high", expected.high, given.high)):
            if not np.array_equal(a, b):
                index = tuple(int(i) for i in np.argwhere(np.asarray(a != b))[0])
                return f"{place}{name} bound differs at {index}: expected {a[index]}, got {b[index]}"
        return None
    return None if expected == given else f"{place}expected {expected}, got {given}"


# Flattening -----------------------------------------------------------------------------------------------------------


def flat_dim(space: Space) -> int:
    """Width D of `flatten_batch(space, ...)`."""
    check_supported(space, "The space")
    return sum(_leaf_dim(leaf) for _, leaf in leaf_spaces(space))


def _leaf_dim(leaf: Space) -> int:
    if isinstance(leaf, spaces.Discrete):
        return int(leaf.n)
    if isinstance(leaf, spaces.MultiDiscrete):
        return int(leaf.nvec.sum())
    return math.prod(leaf.shape or ())


def flatten_batch(space: Space, tree: Tree, num_leading_axes: int = 1) -> np.ndarray[Any, Any]:
    """Flatten a batch as `gymnasium.spaces.flatten` does a single element, for all leading axes at once.

    Args:
        space: Space of one element.
        tree: Arrays `[*leading, ...]` in the structure of the space.
        num_leading_axes: Number of leading axes, at least 1.

    Returns:
        `[*leading, D]`, float32; a Discrete (from its start) and each part of a MultiDiscrete is one-hot. Of a Box
        that is float32 already it is a view.
    """
    if isinstance(space, spaces.Box):
        array = np.asarray(tree)
        return array.reshape(*array.shape[:num_leading_axes], _leaf_dim(space)).astype(np.float32, copy=False)
    leading = _first_leaf(tree).shape[:num_leading_axes]
    parts: list[np.ndarray[Any, Any]] = []
    _collect(space, tree, math.prod(leading), parts)
    flat = np.concatenate(parts, axis=1, dtype=np.float32, casting="unsafe")  # [N, D]
    return flat.reshape(*leading, flat.shape[1])


def batch_flattener(space: Space) -> Callable[[Tree], np.ndarray[Any, Any]]:
    """Return what flattens batches `[B, ...]` as `flatten_batch` does, quicker for nested Boxes of float32."""
    nested = isinstance(space, spaces.Dict | spaces.Tuple)
    if not nested or any(leaf.dtype != np.float32 for _, leaf in leaf_spaces(space)):
        return lambda tree: flatten_batch(space, tree)
    places = list(_places(space))

    def flatten(tree: Tree) -> np.ndarray[Any, Any]:
        parts = []
        for path, width in places:
            leaf = tree
            for key in path:
                leaf = leaf[key]
            parts.append(leaf if leaf.ndim == 2 else leaf.reshape(len(leaf), width))
        return np.concatenate(parts, axis=1, dtype=np.float32)

    return flatten


def _places(space: Space, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Yield how to get to each leaf, in order, and its width."""
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            yield from _places(child, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, child in enumerate(space.spaces):
            yield from _places(child, (*path, index))
    else:
        yield path, _leaf_dim(space)


def _first_leaf(tree: Tree) -> np.ndarray[Any, Any]:
    while isinstance(tree, dict | tuple):
        tree = next(iter(tree.values())) if isinstance(tree, dict) else tree[0]
    return np.asarray(tree)


def _collect(space: Space, tree: Tree, num_rows: int, parts: list[np.ndarray[Any, Any]]) -> None:
    """Append each leaf as `[N, its width]`."""
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            _collect(child, tree[key], num_rows, parts)
    elif isinstance(space, spaces.Tuple):
        for child, part in zip(space.spaces, tree, strict=True):
            _collect(child, part, num_rows, parts)
    elif isinstance(space, spaces.Discrete):
        index = np.asarray(tree).reshape(-1, 1) - int(space.start)
        parts.append(_one_hot(index, np.zeros(1, dtype=np.int64), int(space.n)))
    elif isinstance(space, spaces.MultiDiscrete):
        sizes = space.nvec.ravel().astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        index = np.asarray(tree).reshape(-1, sizes.size) - space.start.ravel().astype(np.int64)
        parts.append(_one_hot(index, offsets, int(sizes.sum())))
    else:
        parts.append(np.asarray(tree).reshape(num_rows, _leaf_dim(space)))


def _one_hot(index: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    """Make zeros `[N, width]` with 1 at `[n, offsets[j] + index[n, j]]` for all n, j; `index` is `[N, parts]`."""
    flat = np.zeros((len(index), width), dtype=np.float32)
    flat[np.arange(len(index))[:, np.newaxis], index.astype(np.int64) + offsets] = 1.0
    return flat
