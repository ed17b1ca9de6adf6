/* Choosing the instance of a tile for its size: TILE_DISPATCH calls TILE_CALL(rows, nv) with constants that equal the two
 * variables of these names (rows <= TILE_MR, nv 1 or TILE_NV), so that the tile's sums stay in registers.
 */
#define TILE_CASE(r)                                                                                                  \
    case r:                                                                                                           \
        if (nv == TILE_NV) {                                                                                          \
            TILE_CALL(r, TILE_NV);                                                                                    \
        } else {                                                                                                      \
            TILE_CALL(r, 1);                                                                                          \
        }                                                                                                             \
        break;
#define TILE_CASES_4 TILE_CASE(1) TILE_CASE(2) TILE_CASE(3) TILE_CASE(4)
#if TILE_MR == 4
#define TILE_CASES TILE_CASES_4
#elif TILE_MR == 6
#define TILE_CASES TILE_CASES_4 TILE_CASE(5) TILE_CASE(6)
#elif TILE_MR == 7
#define TILE_CASES TILE_CASES_4 TILE_CASE(5) TILE_CASE(6) TILE_CASE(7)
#elif TILE_MR == 14
#define TILE_CASES                                                                                                    \
    TILE_CASES_4 TILE_CASE(5) TILE_CASE(6) TILE_CASE(7) TILE_CASE(8) TILE_CASE(9) TILE_CASE(10) TILE_CASE(11)         \
    TILE_CASE(12) TILE_CASE(13) TILE_CASE(14)
#endif
#define TILE_DISPATCH                                                                                                 \
    switch (rows) {                                                                                                   \
        TILE_CASES                                                                                                    \
    default:                                                                                                          \
        break;                                                                                                        \
    }
