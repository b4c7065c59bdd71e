"""The compiled scan of ``neighbors`` for Manhattan distances, a module of its own as numba takes long to import."""

import numba
import numpy as np


# numba: faiss, PyTorch and scikit-learn take four, three and twelve times as long for Manhattan distances.
@numba.njit(nogil=True, fastmath=True, cache=True)
def scan_lists(rows, columns, ends, turns, turn_ends, distance, found):
    """Keep the nearest of each row, list by list; see ``neighbors._scan``, which orders the turns."""
    n_features, last = rows.shape[1], distance.shape[1] - 1
    for number in range(len(ends) - 1):
        start, width = ends[number], ends[number + 1] - ends[number]
        block = columns[start * n_features : (start + width) * n_features].reshape((n_features, width))
        sums = np.empty(width, dtype=np.float32)
        for turn in range(turn_ends[number], turn_ends[number + 1]):
            row = turns[turn]
            _add_distances(rows[row], block, sums)
            for column in range(width):
                value = sums[column]
                if value < distance[row, last]:
                    _insert(distance, found, row, value, start + column)


@numba.njit(nogil=True, fastmath=True, cache=True)
def scan_both(rows, columns, ends, first_row, distance, found, column_distance, column_found):
    """Keep the nearest of each row among all columns, and of each column among these rows, numbered from ``first_row``.

    A distance is computed once for both. See ``scan_lists`` for columns and ends.
    """
    n_features, last, column_last = rows.shape[1], distance.shape[1] - 1, column_distance.shape[1] - 1
    for number in range(len(ends) - 1):
        start, width = ends[number], ends[number + 1] - ends[number]
        block = columns[start * n_features : (start + width) * n_features].reshape((n_features, width))
        sums = np.empty(width, dtype=np.float32)
        farthest = column_distance[start : start + width, column_last].copy()
        eights = np.zeros((width + 7) // 8, dtype=np.uint64)
        near = eights.view(np.uint8)
        for row in range(len(rows)):
            _add_distances(rows[row], block, sums)
            most = distance[row, last]
            for column in range(width):
                near[column] = np.uint8(sums[column] < most) | np.uint8(sums[column] < farthest[column])
            # Few are near, and eight are looked at together.
            for eight in range(len(eights)):
                if eights[eight] == 0:
                    continue
                for column in range(8 * eight, min(8 * eight + 8, width)):
                    value = sums[column]
                    if value < distance[row, last]:
                        _insert(distance, found, row, value, start + column)
                    if value < farthest[column]:
                        _insert(column_distance, column_found, start + column, value, first_row + row)
                        farthest[column] = column_distance[start + column, column_last]


@numba.njit(nogil=True, fastmath=True, cache=True)
def _insert(distance, found, row, value, number):
    """Insert a neighbour of a row, which is nearer than its last."""
    place = distance.shape[1] - 1
    while place and value < distance[row, place - 1]:
        distance[row, place], found[row, place] = distance[row, place - 1], found[row, place - 1]
        place -= 1
    distance[row, place], found[row, place] = value, number


@numba.njit(nogil=True, fastmath=True, cache=True)
def _add_distances(row, block, sums):
    n_features, width = block.shape
    sums[:] = 0
    # Five features at once: a fifth of the memory traffic of the sums.
    fives = n_features - n_features % 5
    for feature in range(0, fives, 5):
        a, b, c, d, e = row[feature], row[feature + 1], row[feature + 2], row[feature + 3], row[feature + 4]
        for column in range(width):
            sums[column] += (
                abs(a - block[feature, column])
                + abs(b - block[feature + 1, column])
                + abs(c - block[feature + 2, column])
                + abs(d - block[feature + 3, column])
                + abs(e - block[feature + 4, column])
            )
    for feature in range(fives, n_features):
        a = row[feature]
        for column in range(width):
            sums[column] += abs(a - block[feature, column])
