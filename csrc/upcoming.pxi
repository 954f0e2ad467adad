"""What products fetch a block of rows ahead, a few lines in each tile.

All at once they would have to be waited for: a core has so many lines under way and no more.
"""

cdef enum:
    MOST_UPCOMING = 3                # places of what comes next
    TILES_TO_SPARE = 3               # so many fetch a panel from memory: the last of them can fetch something else

# What a thread needs once these rows of a product are done: fetched between their tiles, the first place first.
cdef struct Upcoming:
    const char* places[MOST_UPCOMING]
    Py_ssize_t lines[MOST_UPCOMING]
    Py_ssize_t now, n                # which of them, of so many
    bint out_too                     # where the next rows are stored is among them
    bint by_all                      # tiles, or only the last of each panel, since the others fetch panels
    Py_ssize_t fours                 # of lines, for each tile that fetches some


cdef inline void expect(Upcoming* upcoming, const vec* place, Py_ssize_t n) noexcept nogil:
    """n numbers from `place` on are needed next."""
    upcoming.places[upcoming.n] = <const char*> place
    upcoming.lines[upcoming.n] = (n * number_bytes(place) + 63) // 64
    upcoming.n += 1


cdef inline Upcoming* shared(
    Upcoming* upcoming, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t n_k, bint panels_are_far, const vec* like,
) noexcept nogil:
    """`upcoming`, its lines shared among the tiles of a product of such sizes; NULL if there is none, or no tile for it."""
    cdef Py_ssize_t n_tiles = (rows + TILE_ROWS - 1) // TILE_ROWS, n_panels = columns // panel_width(like), lines = 0, i
    if upcoming == NULL or rows <= FEW_ROWS or n_panels == 0 or (panels_are_far and n_tiles < TILES_TO_SPARE):
        return NULL
    upcoming.by_all = not panels_are_far
    for i in range(upcoming.n):
        lines += upcoming.lines[i]
    n_tiles = (1 if panels_are_far else n_tiles) * n_panels * ((n_k + CHUNK - 1) // CHUNK)
    if lines == 0 or n_tiles == 0:
        return NULL
    upcoming.fours = (lines + 4 * n_tiles - 1) // (4 * n_tiles)
    return upcoming


cdef inline const vec* next_lines(Upcoming* upcoming, const vec* like) noexcept nogil:
    """Where those of the next tile lie; NULL once there are no more."""
    cdef Py_ssize_t i
    while upcoming.now < upcoming.n:
        i = upcoming.now
        if upcoming.lines[i] > 0:
            upcoming.lines[i] -= 4 * upcoming.fours
            upcoming.places[i] += 256 * upcoming.fours
            return <const vec*> (upcoming.places[i] - 256 * upcoming.fours)
        upcoming.now += 1
    return NULL
