"""Compiled graphs that are kept, one for each shape of a batch."""

KEPT_SHAPES = 8


def kept(store, key, make):
    """store[key], made where it is not there yet; the longest unused give way."""
    if key in store:
        store.move_to_end(key)
    else:
        store[key] = make()
        while len(store) > KEPT_SHAPES:
            store.popitem(last=False)
    return store[key]
