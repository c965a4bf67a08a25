/* Rows that are as FullStory documents them, from JSON text to Arrow columns.

   A row is plain when every value fits its column, no name stands twice and nothing about its text is doubtful. Then
   what is read here is what fullstory_dagster/parse/rows.py reads, to the byte, which the tests compare; of anything
   else Reader.read says None, and rows.py decides. So this file has no opinion on odd rows: whatever it does not know
   for certain ends in `return false`.

   Bytes are walked once, without Python's lock. The text is a Python bytes object, which ends in a NUL behind its last
   byte: no check below takes a NUL for anything, so looking at one byte at a time needs no look at the end. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "eight bytes are looked at as one number, lowest first"
#endif

enum {
    MAX_DEPTH = 64,    /* of lists and objects in one value; rows.py takes more */
    MAX_NUMBER = 40,   /* characters of a number */
    FIRST_ROWS = 1024, /* for which there is room at first, a multiple of eight */
    TABLE_SIZE = 1024, /* of names with a column, several times as many as there are */
};

typedef const uint8_t *Text;

/* ---- memory ---- */

typedef struct {
    uint8_t *bytes;
    size_t n, room;
} Buffer;

static bool reserve(Buffer *buffer, size_t more) {
    if (buffer->room - buffer->n >= more) return true;
    size_t room = buffer->room * 2 + more + 64;
    uint8_t *bytes = realloc(buffer->bytes, room);
    if (bytes == NULL) return false;
    buffer->bytes = bytes;
    buffer->room = room;
    return true;
}

static bool put(Buffer *buffer, const void *bytes, size_t n) {
    if (!reserve(buffer, n)) return false;
    if (n) memcpy(buffer->bytes + buffer->n, bytes, n);
    buffer->n += n;
    return true;
}

static bool put_byte(Buffer *buffer, uint8_t byte) { return put(buffer, &byte, 1); }

/* The digits of a number, which end where `end` is; where they begin. printf would be half the time of an id. */
static char *digits_of(uint64_t number, char *end) {
    do *--end = (char)('0' + number % 10);
    while (number /= 10);
    return end;
}

/* A text as its length, a colon and itself: see identity.py. */
static bool put_netstring(Buffer *buffer, const void *bytes, size_t n) {
    char length[24], *end = length + sizeof length, *digits = digits_of(n, end);
    size_t n_digits = (size_t)(end - digits);
    if (!reserve(buffer, n_digits + 1 + n)) return false;
    uint8_t *to = buffer->bytes + buffer->n;
    memcpy(to, digits, n_digits);
    to[n_digits] = ':';
    if (n) memcpy(to + n_digits + 1, bytes, n);
    buffer->n += n_digits + 1 + n;
    return true;
}

/* ---- columns, and what polars takes them as: the Arrow C data interface ---- */

struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

enum { ARROW_NULLABLE = 2 };

typedef enum { INT64, FLOAT64, STRING, TIMESTAMP } Kind;

static const char *const KINDS[] = {"int64", "float64", "string", "timestamp"};
static const char *const FORMATS[] = {"l", "g", "U", "tsu:"};

typedef struct {
    Kind kind;
    uint8_t *valid;  /* a bit a row */
    int64_t *fixed;  /* the value of each row; where it is a STRING, where each one ends, behind a zero */
    Buffer text;     /* of all strings, one after the other */
    int64_t n_values;
    int64_t n_ended; /* rows whose string is known to end */
} Column;

/* Make room for more rows, twice as many as there are. */
static bool grow_column(Column *column, int64_t n_rows) {
    size_t n = (size_t)n_rows, n_more = n ? n : FIRST_ROWS;
    uint8_t *valid = realloc(column->valid, (n + n_more) / 8);
    if (valid) column->valid = valid;
    int64_t *fixed = realloc(column->fixed, (n + n_more + 1) * sizeof(int64_t));
    if (fixed) column->fixed = fixed;
    if (!valid || !fixed) return false;
    memset(valid + n / 8, 0, n_more / 8);
    size_t n_set = n ? n + 1 : 0;
    memset(fixed + n_set, 0, (n + n_more + 1 - n_set) * sizeof(int64_t));
    return column->kind != STRING || reserve(&column->text, 1); /* Arrow wants an address, if of nothing */
}

static void close_column(Column *column) {
    free(column->valid);
    free(column->fixed);
    free(column->text.bytes);
    *column = (Column){0};
}

static void set_value(Column *column, int64_t row, int64_t value) {
    column->valid[row / 8] |= (uint8_t)(1 << row % 8);
    column->fixed[row] = value;
    column->n_values++;
}

/* Rows without a value end where the one before them does. */
static void end_strings(Column *column, int64_t n_rows, size_t end) {
    while (column->n_ended < n_rows) column->fixed[++column->n_ended] = (int64_t)end;
}

/* Take what was put to the column's text as the value of a row. */
static void set_string(Column *column, int64_t row, size_t begin) {
    end_strings(column, row, begin);
    end_strings(column, row + 1, column->text.n);
    column->valid[row / 8] |= (uint8_t)(1 << row % 8);
    column->n_values++;
}

/* ---- JSON text ---- */

static Text skip_blanks(Text at) {
    while (*at == ' ' || *at == '\t' || *at == '\r') at++;
    return at;
}

static Text skip_blanks_and_lines(Text at) {
    while (*at == '\n' || *at == ' ' || *at == '\t' || *at == '\r') at++;
    return at;
}

static int hex_digit(uint8_t byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static int32_t hex_four(Text at) {
    int32_t value = 0;
    for (int n = 0; n < 4; n++) {
        int digit = hex_digit(at[n]);
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The code point of \uXXXX, or of two of them that are a pair; `at` is behind the u. -1 if there is none. */
static int32_t escaped_point(Text at, int *n_bytes) {
    int32_t point = hex_four(at);
    *n_bytes = 4;
    if (point < 0xd800 || point > 0xdfff) return point;
    if (point > 0xdbff || at[4] != '\\' || at[5] != 'u') return -1;
    int32_t low = hex_four(at + 6);
    if (low < 0xdc00 || low > 0xdfff) return -1;
    *n_bytes = 10;
    return 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
}

/* How many bytes the UTF-8 character at a byte above 127 has; 0 if it is none. */
static int utf8_length(Text at) {
    uint8_t first = at[0];
    int n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4) return 0;
    for (int k = 1; k < n; k++)
        if ((at[k] & 0xc0) != 0x80) return 0;
    /* Longer than need be, half of a pair, or above the last one. */
    if ((first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f)) return 0;
    if ((first == 0xf0 && at[1] < 0x90) || (first == 0xf4 && at[1] > 0x8f)) return 0;
    return n;
}

static const uint64_t ONES = 0x0101010101010101u, HIGHS = 0x8080808080808080u;

/* Skip what in a string is neither a quote nor a backslash nor below 32 nor above 127, eight bytes at a time. */
static Text skip_plain(Text at, Text end) {
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        uint64_t quote = word ^ ONES * '"', backslash = word ^ ONES * '\\';
        uint64_t found = word | ((quote - ONES) & ~quote) | ((backslash - ONES) & ~backslash) |
                         ((word - ONES * 0x20) & ~word);
        if (found & HIGHS) return at + __builtin_ctzll(found & HIGHS) / 8;
        at += 8;
    }
    return at;
}

/* The closing quote of a string; NULL if it is no valid one. `at` is behind its opening quote. */
static Text string_end(Text at, Text end, bool *has_escape) {
    *has_escape = false;
    for (;;) {
        at = skip_plain(at, end);
        uint8_t byte = *at;
        if (byte == '"') return at;
        if (byte < 0x20) return NULL;
        if (byte >= 0x80) {
            int n = utf8_length(at);
            if (n == 0) return NULL;
            at += n;
        } else if (byte == '\\') {
            *has_escape = true;
            byte = at[1];
            at += 2;
            if (byte == 'u') {
                int n;
                if (escaped_point(at, &n) < 0) return NULL;
                at += n;
            } else if (byte == 0 || strchr("\"\\/bfnrt", byte) == NULL) {
                return NULL;
            }
        } else {
            at++;
        }
    }
}

static size_t put_point(uint8_t *to, int32_t point) {
    if (point < 0x80) return to[0] = (uint8_t)point, 1;
    if (point < 0x800) {
        to[0] = (uint8_t)(0xc0 | point >> 6);
        to[1] = (uint8_t)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        to[0] = (uint8_t)(0xe0 | point >> 12);
        to[1] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        to[2] = (uint8_t)(0x80 | (point & 0x3f));
        return 3;
    }
    to[0] = (uint8_t)(0xf0 | point >> 18);
    to[1] = (uint8_t)(0x80 | (point >> 12 & 0x3f));
    to[2] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
    to[3] = (uint8_t)(0x80 | (point & 0x3f));
    return 4;
}

/* Put what a string says, of which string_end has found the end. */
static bool put_string(Buffer *buffer, Text at, Text end, bool has_escape) {
    if (!has_escape) return put(buffer, at, (size_t)(end - at));
    if (!reserve(buffer, (size_t)(end - at))) return false; /* it never says more than it takes */
    uint8_t *to = buffer->bytes + buffer->n;
    while (at < end) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        uint8_t escape = at[1];
        at += 2;
        switch (escape) {
            case 'b': *to++ = '\b'; break;
            case 'f': *to++ = '\f'; break;
            case 'n': *to++ = '\n'; break;
            case 'r': *to++ = '\r'; break;
            case 't': *to++ = '\t'; break;
            case 'u': {
                int n;
                to += put_point(to, escaped_point(at, &n));
                at += n;
                break;
            }
            default: *to++ = escape;
        }
    }
    buffer->n = (size_t)(to - buffer->bytes);
    return true;
}

static bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

/* The end of a number; NULL if it is none, or could be too large for a float. */
static Text number_end(Text at) {
    Text begin = at;
    if (*at == '-') at++;
    if (*at == '0')
        at++;
    else if (is_digit(*at))
        while (is_digit(*at)) at++;
    else
        return NULL;
    if (*at == '.') {
        if (!is_digit(*++at)) return NULL;
        while (is_digit(*at)) at++;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '+' || *at == '-') at++;
        Text digits = at;
        while (is_digit(*at)) at++;
        if (at == digits || at - digits > 2) return NULL;
    }
    return at - begin <= MAX_NUMBER ? at : NULL;
}

static Text literal_end(Text at, const char *literal) {
    while (*literal)
        if (*at++ != (uint8_t)*literal++) return NULL;
    return at;
}

/* The end of a value of any kind; NULL if it is no valid one. */
static Text value_end(Text at, Text end, int depth) {
    bool has_escape;
    switch (*at) {
        case '"': at = string_end(at + 1, end, &has_escape); return at ? at + 1 : NULL;
        case 't': return literal_end(at, "true");
        case 'f': return literal_end(at, "false");
        case 'n': return literal_end(at, "null");
        case '{':
        case '[': break;
        default: return number_end(at);
    }
    if (depth == MAX_DEPTH) return NULL;
    bool is_object = *at == '{';
    uint8_t closing = is_object ? '}' : ']';
    at = skip_blanks(at + 1);
    if (*at == closing) return at + 1;
    for (;;) {
        if (is_object) {
            if (*at != '"' || (at = string_end(at + 1, end, &has_escape)) == NULL) return NULL;
            at = skip_blanks(at + 1);
            if (*at != ':') return NULL;
            at = skip_blanks(at + 1);
        }
        if ((at = value_end(at, end, depth + 1)) == NULL) return NULL;
        at = skip_blanks(at);
        if (*at == closing) return at + 1;
        if (*at != ',') return NULL;
        at = skip_blanks(at + 1);
    }
}

/* Put a valid list or object without the blanks between its tokens. */
static bool put_compact(Buffer *buffer, Text at, Text end) {
    bool has_escape;
    while (at < end) {
        Text begin = at;
        if (*at == '"')
            at = string_end(at + 1, end, &has_escape) + 1;
        else
            at++;
        bool is_blank = *begin == ' ' || *begin == '\t' || *begin == '\r';
        if (!is_blank && !put(buffer, begin, (size_t)(at - begin))) return false;
    }
    return true;
}

/* ---- times ---- */

static int two_digits(Text at) { return is_digit(at[0]) && is_digit(at[1]) ? (at[0] - '0') * 10 + at[1] - '0' : -1; }

/* Microseconds since 1970 of a time as FullStory writes it, 2026-06-01T12:00:00.123Z; false if it is none. */
static bool read_time(Text at, Text end, int64_t *us) {
    if (end - at != 24 || at[4] != '-' || at[7] != '-' || at[10] != 'T' || at[13] != ':' || at[16] != ':' ||
        at[19] != '.' || at[23] != 'Z')
        return false;
    int century = two_digits(at), of_century = two_digits(at + 2), month = two_digits(at + 5), day = two_digits(at + 8);
    int hour = two_digits(at + 11), minute = two_digits(at + 14), second = two_digits(at + 17);
    int hundredths = two_digits(at + 20);
    if (century < 10 || century > 29 || of_century < 0 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 ||
        minute < 0 || minute > 59 || second < 0 || second > 59 || hundredths < 0 || !is_digit(at[22]))
        return false;
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = century * 100 + of_century;
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day > DAYS[month - 1] + (month == 2 && is_leap)) return false;
    /* Years that begin in March have their leap day at the end. */
    int64_t years = year - (month <= 2);
    int64_t days = years * 365 + years / 4 - years / 100 + years / 400 + (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    days -= 719468; /* from March 1 of the year 0 to 1970 */
    int64_t seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    *us = seconds * 1000000 + (hundredths * 10 + at[22] - '0') * 1000;
    return true;
}

/* ---- md5, as in RFC 1321 ---- */

static uint32_t rotated(uint32_t x, int by) { return x << by | x >> (32 - by); }

static void md5_block(uint32_t state[4], const uint8_t *block) {
    static const uint32_t SINES[64] = {
        0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
        0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
        0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
        0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
        0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
        0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
        0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
        0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};
    static const int SHIFTS[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t words[16];
    memcpy(words, block, 64);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
#define STEP(round, n, mix, word)                                                 \
    do {                                                                          \
        uint32_t next = b + rotated(a + (mix) + words[(word) % 16] + SINES[n], SHIFTS[round][(n) % 4]); \
        a = d, d = c, c = b, b = next;                                            \
    } while (0)
#pragma GCC unroll 16
    for (int n = 0; n < 16; n++) STEP(0, n, (b & c) | (~b & d), n);
#pragma GCC unroll 16
    for (int n = 16; n < 32; n++) STEP(1, n, (d & b) | (~d & c), 5 * n + 1);
#pragma GCC unroll 16
    for (int n = 32; n < 48; n++) STEP(2, n, b ^ c ^ d, 3 * n + 5);
#pragma GCC unroll 16
    for (int n = 48; n < 64; n++) STEP(3, n, c ^ (b | ~d), 7 * n);
#undef STEP
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
}

static void md5_hex(const uint8_t *bytes, size_t n, char hex[32]) {
    uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    size_t at = 0;
    for (; n - at >= 64; at += 64) md5_block(state, bytes + at);
    uint8_t tail[128] = {0};
    size_t n_tail = n - at;
    if (n_tail) memcpy(tail, bytes + at, n_tail);
    tail[n_tail] = 0x80;
    size_t n_padded = n_tail < 56 ? 64 : 128;
    uint64_t n_bits = (uint64_t)n * 8;
    memcpy(tail + n_padded - 8, &n_bits, 8);
    for (at = 0; at < n_padded; at += 64) md5_block(state, tail + at);
    for (int k = 0; k < 16; k++) {
        uint8_t byte = (uint8_t)(state[k / 4] >> 8 * (k % 4));
        hex[2 * k] = "0123456789abcdef"[byte >> 4];
        hex[2 * k + 1] = "0123456789abcdef"[byte & 15];
    }
}

/* ---- rows ---- */

typedef struct {
    char *text;
    size_t n;
    int column;
    bool is_older; /* an older spelling of the column's name */
} Name;

typedef struct {
    PyObject_HEAD
    int n_columns, n_names, n_identity;
    Name *names; /* of the columns in their order, then the older spellings */
    Kind *kinds;
    bool *is_required;
    int *identity;
    int selector, start;
    Buffer version;
    int16_t table[TABLE_SIZE]; /* names by their hash; 0 is none */
    locale_t locale;
} Reader;

typedef struct {
    Text name, value;
    size_t n_name, n_value;
} Item;

/* One call of Reader.read. */
typedef struct {
    const Reader *reader;
    Text end;
    Column *columns; /* those of the reader, CustomVars and _event_id */
    int64_t row, room; /* and for how many there is room */
    int64_t *seen;   /* by column: the last row that named it, counted from 1 */
    size_t *begin;   /* by column: where the row's string begins in the column's text */
    int *after;      /* by name: which one came after it last time */
    Item *items;     /* of the row, what has no column */
    size_t n_items, item_room;
    Buffer identity, said;
    bool is_out_of_memory;
} Reading;

static uint32_t hash_of(const void *text, size_t n) {
    const uint8_t *bytes = text;
    uint32_t hash = 2166136261u;
    for (size_t k = 0; k < n; k++) hash = (hash ^ bytes[k]) * 16777619u;
    return hash ^ hash >> 15;
}

static int find_name(const Reader *reader, Text text, size_t n) {
    for (uint32_t slot = hash_of(text, n) % TABLE_SIZE; reader->table[slot]; slot = (slot + 1) % TABLE_SIZE) {
        const Name *name = &reader->names[reader->table[slot] - 1];
        if (name->n == n && memcmp(name->text, text, n) == 0) return reader->table[slot] - 1;
    }
    return -1;
}

static bool failed(Reading *s) {
    s->is_out_of_memory = true;
    return false;
}

static bool read_int(Text *at, int64_t *value) {
    Text p = *at;
    bool is_negative = *p == '-';
    p += is_negative;
    if (*p == '0' && (is_negative || is_digit(p[1]))) return false;
    Text digits = p;
    uint64_t number = 0;
    while (is_digit(*p) && p - digits < 19) number = number * 10 + (uint64_t)(*p++ - '0');
    if (p == digits || is_digit(*p) || *p == '.' || *p == 'e' || *p == 'E') return false;
    if (number > (uint64_t)INT64_MAX + is_negative) return false;
    *value = is_negative ? (int64_t)(0 - number) : (int64_t)number;
    *at = p;
    return true;
}

static bool read_float(const Reader *reader, Text *at, int64_t *bits) {
    Text end = number_end(*at);
    if (end == NULL) return false;
    if (end - *at == 2 && (*at)[0] == '-' && (*at)[1] == '0') return false; /* a whole number to some, and 0 */
    char text[MAX_NUMBER + 1];
    memcpy(text, *at, (size_t)(end - *at));
    text[end - *at] = 0;
    double value = strtod_l(text, NULL, reader->locale);
    if (!isfinite(value)) return false;
    memcpy(bits, &value, 8);
    *at = end;
    return true;
}

/* The value of a name that has a column. */
static bool read_column(Reading *s, Text *at, const Name *name) {
    Column *column = &s->columns[name->column];
    if (s->seen[name->column] == s->row + 1) return false;
    s->seen[name->column] = s->row + 1;
    if (**at == 'n') {
        /* Of a required one the end of the row will say that it is missing. */
        Text end = literal_end(*at, "null");
        if (end == NULL || name->is_older) return false;
        *at = end;
        return true;
    }
    int64_t value;
    if (column->kind == INT64 || column->kind == FLOAT64) {
        bool is_read = column->kind == INT64 ? read_int(at, &value) : read_float(s->reader, at, &value);
        if (is_read) set_value(column, s->row, value);
        return is_read;
    }
    bool has_escape;
    if (**at != '"') return false;
    Text begin = *at + 1, end = string_end(begin, s->end, &has_escape);
    if (end == NULL) return false;
    *at = end + 1;
    if (column->kind == TIMESTAMP) {
        if (!read_time(begin, end, &value)) return false;
        set_value(column, s->row, value);
        return true;
    }
    s->begin[name->column] = column->text.n;
    if (!put_string(&column->text, begin, end, has_escape)) return failed(s);
    set_string(column, s->row, s->begin[name->column]);
    return true;
}

static bool add_item(Reading *s, Text name, Text name_end, Text value, Text end) {
    if (s->n_items == s->item_room) {
        size_t room = s->item_room * 2 + 64;
        Item *items = realloc(s->items, room * sizeof(Item));
        if (items == NULL) return failed(s);
        s->items = items;
        s->item_room = room;
    }
    s->items[s->n_items++] = (Item){name, value, (size_t)(name_end - name), (size_t)(end - value)};
    return true;
}

static int compare_items(const void *one, const void *other) {
    const Item *a = one, *b = other;
    int order = memcmp(a->name, b->name, a->n_name < b->n_name ? a->n_name : b->n_name);
    return order ? order : (a->n_name > b->n_name) - (a->n_name < b->n_name);
}

/* The names in the order of their bytes, which is that of Python's texts; false if one stands twice. */
static bool sort_items(Item *items, size_t n) {
    if (n > 24) {
        qsort(items, n, sizeof(Item), compare_items);
    } else {
        for (size_t k = 1; k < n; k++) {
            Item item = items[k];
            size_t to = k;
            for (; to > 0 && compare_items(&items[to - 1], &item) > 0; to--) items[to] = items[to - 1];
            items[to] = item;
        }
    }
    for (size_t k = 1; k < n; k++)
        if (compare_items(&items[k - 1], &items[k]) == 0) return false;
    return true;
}

/* What percent escapes in a selector mean, as urllib's unquote; false where they are no UTF-8 between other texts. */
static bool put_unquoted(Reading *s, const uint8_t *at, size_t n) {
    const uint8_t *end = at + n;
    Buffer *said = &s->said;
    said->n = 0;
    if (!reserve(said, n + 4)) return failed(s); /* behind it stand zeros, which end no character */
    while (at < end) {
        size_t begin = said->n;
        for (; at < end && *at < 0x80; at++) {
            int high = *at == '%' && end - at > 2 ? hex_digit(at[1]) : -1;
            int low = high < 0 ? -1 : hex_digit(at[2]);
            said->bytes[said->n++] = low < 0 ? *at : (uint8_t)(high * 16 + low);
            if (low >= 0) at += 2;
        }
        memset(said->bytes + said->n, 0, 4);
        for (size_t k = begin; k < said->n;) {
            int n_char = said->bytes[k] < 0x80 ? 1 : utf8_length(said->bytes + k);
            if (n_char == 0) return false;
            k += (size_t)n_char;
        }
        while (at < end && *at >= 0x80) said->bytes[said->n++] = *at++;
    }
    return put_netstring(&s->identity, said->bytes, said->n) || failed(s);
}

/* What the columns of the identity say: see identity.py. */
static bool put_columns_of_identity(Reading *s) {
    const Reader *reader = s->reader;
    s->identity.n = 0;
    if (!put(&s->identity, reader->version.bytes, reader->version.n)) return failed(s);
    for (int k = 0; k < reader->n_identity; k++) {
        int at = reader->identity[k];
        Column *column = &s->columns[at];
        bool has_value = column->valid[s->row / 8] >> s->row % 8 & 1;
        bool is_put;
        if (!has_value) {
            is_put = put(&s->identity, "0:", 2);
        } else if (column->kind == STRING) {
            const uint8_t *text = column->text.bytes + s->begin[at];
            size_t n = column->text.n - s->begin[at];
            if (at == reader->selector && memchr(text, '%', n)) {
                if (!put_unquoted(s, text, n)) return false;
                continue;
            }
            is_put = put_netstring(&s->identity, text, n);
        } else {
            char number[24], *end = number + sizeof number;
            int64_t value = column->fixed[s->row];
            if (at == reader->start) value /= 1000;
            char *digits = digits_of(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, end);
            if (value < 0) *--digits = '-';
            is_put = put_netstring(&s->identity, digits, (size_t)(end - digits));
        }
        if (!is_put) return failed(s);
    }
    return true;
}

/* What a variable says, to the identity: a string what it says, null nothing, others their text without blanks. */
static bool put_variable(Reading *s, const Item *item) {
    Buffer *said = &s->said;
    said->n = 0;
    Text value = item->value, end = value + item->n_value;
    bool is_put = true;
    if (*value == '"')
        is_put = put_string(said, value + 1, end - 1, memchr(value, '\\', item->n_value) != NULL);
    else if (*value == '{' || *value == '[')
        is_put = put_compact(said, value, end);
    else if (*value != 'n')
        is_put = put(said, value, item->n_value);
    if (is_put && said->n) {
        is_put = put_netstring(&s->identity, item->name, item->n_name) &&
                 put_netstring(&s->identity, said->bytes, said->n);
    }
    return is_put || failed(s);
}

/* CustomVars and _event_id of the row whose columns are read. */
static bool finish_row(Reading *s) {
    const Reader *reader = s->reader;
    for (int k = 0; k < reader->n_columns; k++) {
        if (!reader->is_required[k]) continue;
        Column *column = &s->columns[k];
        if (!(column->valid[s->row / 8] >> s->row % 8 & 1)) return false;
        if (column->kind == STRING && column->text.n == s->begin[k]) return false;
    }
    if (!put_columns_of_identity(s) || !sort_items(s->items, s->n_items)) return false;
    Column *variables = &s->columns[reader->n_columns], *ids = variables + 1;
    size_t begin = variables->text.n;
    for (size_t k = 0; k < s->n_items; k++) {
        const Item *item = &s->items[k];
        Buffer *text = &variables->text;
        if (!reserve(text, item->n_name + item->n_value + 5)) return failed(s);
        put(text, k ? ",\"" : "{\"", 2);
        put(text, item->name, item->n_name);
        put(text, "\":", 2);
        put(text, item->value, item->n_value);
        bool is_of_event = item->n_name >= 4 && memcmp(item->name, "evt_", 4) == 0;
        if (is_of_event && reader->n_identity && !put_variable(s, item)) return false;
    }
    if (s->n_items) {
        put_byte(&variables->text, '}'); /* it has room */
        set_string(variables, s->row, begin);
    }
    if (reader->n_identity == 0) return true;
    char hex[32];
    md5_hex(s->identity.bytes, s->identity.n, hex);
    begin = ids->text.n;
    if (!put(&ids->text, hex, sizeof hex)) return failed(s);
    set_string(ids, s->row, begin);
    return true;
}

/* One row; `at` is at its brace, and behind the closing one afterwards. */
static bool read_row(Reading *s, Text *at) {
    const Reader *reader = s->reader;
    Text p = skip_blanks(*at + 1);
    int before = reader->n_names;
    s->n_items = 0;
    for (;;) {
        if (*p != '"') return false;
        Text text = p + 1, text_end;
        /* Rows name the same things in the same order, nearly always. */
        int name = s->after[before];
        const Name *guess = name < 0 ? NULL : &reader->names[name];
        if (guess && (size_t)(s->end - text) > guess->n && text[guess->n] == '"' &&
            memcmp(text, guess->text, guess->n) == 0) {
            text_end = text + guess->n;
        } else {
            bool has_escape;
            text_end = string_end(text, s->end, &has_escape);
            if (text_end == NULL || has_escape) return false;
            name = find_name(reader, text, (size_t)(text_end - text));
            if (name >= 0) s->after[before] = name;
        }
        p = skip_blanks(text_end + 1);
        if (*p != ':') return false;
        p = skip_blanks(p + 1);
        if (name >= 0) {
            if (!read_column(s, &p, &reader->names[name])) return false;
            before = name;
        } else {
            Text value = p;
            p = value_end(p, s->end, 0);
            if (p == NULL || !add_item(s, text, text_end, value, p)) return false;
        }
        p = skip_blanks(p);
        if (*p == '}') break;
        if (*p != ',') return false;
        p = skip_blanks(p + 1);
    }
    *at = p + 1;
    return finish_row(s);
}

static bool has_room(Reading *s) {
    if (s->row < s->room) return true;
    for (int k = 0; k < s->reader->n_columns + 2; k++)
        if (!grow_column(&s->columns[k], s->room)) return failed(s);
    s->room += s->room ? s->room : FIRST_ROWS;
    return true;
}

/* Rows on lines of their own, or with commas between them and line feeds wherever they like. */
static bool read_rows(Reading *s, Text at, bool is_array) {
    for (;;) {
        at = is_array ? skip_blanks_and_lines(at) : skip_blanks(at);
        if (*at != '{' || !has_room(s) || !read_row(s, &at)) return false;
        s->row++;
        at = is_array ? skip_blanks_and_lines(at) : skip_blanks(at);
        if (at == s->end) break;
        if (*at++ != (is_array ? ',' : '\n')) return false;
        if (at == s->end && !is_array) break;
    }
    for (int k = 0; k < s->reader->n_columns + 2; k++)
        if (s->columns[k].kind == STRING) end_strings(&s->columns[k], s->row, s->columns[k].text.n);
    return true;
}

static bool open_reading(Reading *s, const Reader *reader, Text text, size_t n) {
    int n_columns = reader->n_columns + 2;
    s->reader = reader;
    s->end = text + n;
    s->columns = calloc((size_t)n_columns, sizeof(Column));
    s->seen = calloc((size_t)n_columns, sizeof(int64_t));
    s->begin = calloc((size_t)n_columns, sizeof(size_t));
    s->after = malloc(((size_t)reader->n_names + 1) * sizeof(int));
    if (!s->columns || !s->seen || !s->begin || !s->after) return failed(s);
    memset(s->after, -1, ((size_t)reader->n_names + 1) * sizeof(int));
    for (int k = 0; k < n_columns; k++) s->columns[k].kind = k < reader->n_columns ? reader->kinds[k] : STRING;
    return true;
}

/* ---- Python: what was read ---- */

typedef struct {
    PyObject_HEAD
    PyObject *reader;
    Column *columns;
    int n_columns;
    int64_t n_rows;
} Columns;

static void release_column(struct ArrowArray *array) {
    close_column(array->private_data);
    free(array->private_data);
    free(array->buffers);
    array->release = NULL;
}

static void release_columns(struct ArrowArray *array) {
    for (int64_t k = 0; k < array->n_children; k++) {
        struct ArrowArray *child = array->children[k];
        if (child && child->release) child->release(child);
        free(child);
    }
    free(array->children);
    free(array->buffers);
    array->release = NULL;
}

static void release_schema(struct ArrowSchema *schema) {
    for (int64_t k = 0; k < schema->n_children; k++) {
        struct ArrowSchema *child = schema->children[k];
        if (child && child->release) child->release(child);
        free(child);
    }
    free(schema->children);
    free((void *)schema->name);
    schema->release = NULL;
}

static void drop_array(PyObject *capsule) {
    struct ArrowArray *array = PyCapsule_GetPointer(capsule, "arrow_array");
    if (array->release) array->release(array);
    free(array);
}

static void drop_schema(PyObject *capsule) {
    struct ArrowSchema *schema = PyCapsule_GetPointer(capsule, "arrow_schema");
    if (schema->release) schema->release(schema);
    free(schema);
}

/* Hand a column's memory over to Arrow. */
static bool export_column(Column *column, int64_t n_rows, struct ArrowArray *array) {
    Column *owned = malloc(sizeof(Column));
    const void **buffers = calloc(3, sizeof(void *));
    if (!owned || !buffers) {
        free(owned);
        free(buffers);
        return false;
    }
    *owned = *column;
    *column = (Column){0};
    buffers[0] = owned->valid;
    buffers[1] = owned->fixed;
    buffers[2] = owned->text.bytes;
    *array = (struct ArrowArray){.length = n_rows,
                                 .null_count = n_rows - owned->n_values,
                                 .n_buffers = owned->kind == STRING ? 3 : 2,
                                 .buffers = buffers,
                                 .release = release_column,
                                 .private_data = owned};
    return true;
}

static bool export_name(const char *text, size_t n, Kind kind, struct ArrowSchema *schema) {
    char *name = malloc(n + 1);
    if (name == NULL) return false;
    memcpy(name, text, n);
    name[n] = 0;
    *schema = (struct ArrowSchema){
        .format = FORMATS[kind], .name = name, .flags = ARROW_NULLABLE, .release = release_schema};
    return true;
}

static bool export_columns(Columns *self, struct ArrowSchema *schema, struct ArrowArray *array) {
    const Reader *reader = (Reader *)self->reader;
    size_t n = (size_t)self->n_columns;
    *schema = (struct ArrowSchema){.format = "+s", .release = release_schema};
    *array = (struct ArrowArray){.length = self->n_rows, .n_buffers = 1, .release = release_columns};
    schema->children = calloc(n, sizeof(void *));
    array->children = calloc(n, sizeof(void *));
    array->buffers = calloc(1, sizeof(void *));
    if (!schema->children || !array->children || !array->buffers) return false;
    for (int k = 0; k < self->n_columns; k++) {
        schema->children[k] = calloc(1, sizeof(struct ArrowSchema));
        array->children[k] = calloc(1, sizeof(struct ArrowArray));
        schema->n_children = array->n_children = k + 1;
        if (!schema->children[k] || !array->children[k]) return false;
        const char *added = k == reader->n_columns ? "CustomVars" : "_event_id";
        bool is_field = k < reader->n_columns;
        const char *name = is_field ? reader->names[k].text : added;
        if (!export_name(name, is_field ? reader->names[k].n : strlen(added), self->columns[k].kind,
                         schema->children[k]) ||
            !export_column(&self->columns[k], self->n_rows, array->children[k]))
            return false;
    }
    return true;
}

static void drop_columns(Columns *self) {
    if (self->columns)
        for (int k = 0; k < self->n_columns; k++) close_column(&self->columns[k]);
    free(self->columns);
    self->columns = NULL;
}

static PyObject *columns_arrow_c_array(Columns *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"requested_schema", NULL};
    PyObject *requested = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O", names, &requested)) return NULL;
    if (self->columns == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the columns were given away before");
        return NULL;
    }
    struct ArrowSchema *schema = calloc(1, sizeof *schema);
    struct ArrowArray *array = calloc(1, sizeof *array);
    PyObject *schema_capsule = schema ? PyCapsule_New(schema, "arrow_schema", drop_schema) : NULL;
    PyObject *array_capsule = array ? PyCapsule_New(array, "arrow_array", drop_array) : NULL;
    if (!schema_capsule) free(schema);
    if (!array_capsule) free(array);
    PyObject *both = NULL;
    if (schema_capsule && array_capsule) {
        /* Whatever comes of it, what was moved belongs to the capsules. */
        bool is_exported = export_columns(self, schema, array);
        drop_columns(self);
        both = is_exported ? PyTuple_Pack(2, schema_capsule, array_capsule) : NULL;
    }
    if (!both && !PyErr_Occurred()) PyErr_NoMemory();
    Py_XDECREF(schema_capsule);
    Py_XDECREF(array_capsule);
    return both;
}

static void columns_dealloc(Columns *self) {
    drop_columns(self);
    Py_XDECREF(self->reader);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef columns_methods[] = {
    {"__arrow_c_array__", (PyCFunction)(void (*)(void))columns_arrow_c_array, METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL}};

static PyTypeObject ColumnsType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fullstory_dagster.parse._plain_rows.Columns",
    .tp_basicsize = sizeof(Columns),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "What a piece was read to, for whoever takes Arrow, once.",
    .tp_dealloc = (destructor)columns_dealloc,
    .tp_methods = columns_methods,
};

/* ---- Python: the reader ---- */

static PyObject *reader_read(Reader *self, PyObject *args) {
    PyObject *rows;
    int is_array;
    if (!PyArg_ParseTuple(args, "Sp", &rows, &is_array)) return NULL;
    Reading s = {0};
    bool is_read;
    Py_BEGIN_ALLOW_THREADS
    Text text = (Text)PyBytes_AS_STRING(rows);
    is_read = open_reading(&s, self, text, (size_t)PyBytes_GET_SIZE(rows)) && read_rows(&s, text, is_array);
    free(s.seen);
    free(s.begin);
    free(s.after);
    free(s.items);
    free(s.identity.bytes);
    free(s.said.bytes);
    if (!is_read && s.columns) {
        for (int k = 0; k < self->n_columns + 2; k++) close_column(&s.columns[k]);
        free(s.columns);
    }
    Py_END_ALLOW_THREADS
    if (!is_read) {
        if (s.is_out_of_memory) return PyErr_NoMemory();
        Py_RETURN_NONE;
    }
    Columns *columns = PyObject_New(Columns, &ColumnsType);
    if (columns == NULL) {
        for (int k = 0; k < self->n_columns + 2; k++) close_column(&s.columns[k]);
        free(s.columns);
        return NULL;
    }
    Py_INCREF(self);
    columns->reader = (PyObject *)self;
    columns->columns = s.columns;
    columns->n_columns = self->n_columns + 2;
    columns->n_rows = s.row;
    return (PyObject *)columns;
}

static bool add_name(Reader *self, const char *text, Py_ssize_t n, int column, bool is_older) {
    Name *names = realloc(self->names, ((size_t)self->n_names + 1) * sizeof(Name));
    if (names == NULL) return false;
    self->names = names;
    char *copy = malloc((size_t)n + 1);
    if (copy == NULL) return false;
    memcpy(copy, text, (size_t)n + 1);
    names[self->n_names++] = (Name){copy, (size_t)n, column, is_older};
    uint32_t slot = hash_of(text, (size_t)n) % TABLE_SIZE;
    while (self->table[slot]) slot = (slot + 1) % TABLE_SIZE;
    self->table[slot] = (int16_t)self->n_names;
    return true;
}

/* The column of a name; -1, with an exception, if it has none. */
static int column_of(Reader *self, PyObject *name) {
    Py_ssize_t n;
    const char *text = PyUnicode_AsUTF8AndSize(name, &n);
    int found = text ? find_name(self, (Text)text, (size_t)n) : -1;
    if (found < 0) {
        if (text) PyErr_Format(PyExc_ValueError, "%R has no column", name);
        return -1;
    }
    return self->names[found].column;
}

static bool init_columns(Reader *self, PyObject *columns) {
    Py_ssize_t n_columns = PyTuple_GET_SIZE(columns);
    self->kinds = calloc((size_t)n_columns + 1, sizeof(Kind));
    self->is_required = calloc((size_t)n_columns + 1, sizeof(bool));
    if (!self->kinds || !self->is_required) return PyErr_NoMemory(), false;
    self->n_columns = (int)n_columns;
    for (Py_ssize_t k = 0; k < n_columns; k++) {
        const char *name, *kind;
        Py_ssize_t n;
        int is_required;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(columns, k), "s#sp", &name, &n, &kind, &is_required)) return false;
        int at = 0;
        while (at < 4 && strcmp(KINDS[at], kind) != 0) at++;
        if (at == 4) return PyErr_Format(PyExc_ValueError, "%s is no type of a column", kind), false;
        if (!add_name(self, name, n, (int)k, false)) return PyErr_NoMemory(), false;
        self->kinds[k] = (Kind)at;
        self->is_required[k] = is_required;
    }
    return true;
}

static int reader_init(Reader *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"columns", "older_names", "identity", "selector", "start", "version", NULL};
    PyObject *columns, *older, *identity, *selector, *start;
    const char *version;
    Py_ssize_t n_version;
    if (self->names) return PyErr_SetString(PyExc_RuntimeError, "the reader has its columns"), -1;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!O!UUs#", names, &PyTuple_Type, &columns, &PyDict_Type, &older,
                                     &PyTuple_Type, &identity, &selector, &start, &version, &n_version))
        return -1;
    if (PyTuple_GET_SIZE(columns) + PyDict_GET_SIZE(older) > TABLE_SIZE / 2)
        return PyErr_SetString(PyExc_ValueError, "these are more columns than there is room for"), -1;
    self->locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!init_columns(self, columns)) return -1;
    PyObject *old, *modern;
    for (Py_ssize_t at = 0; PyDict_Next(older, &at, &old, &modern);) {
        Py_ssize_t n;
        const char *text = PyUnicode_AsUTF8AndSize(old, &n);
        int column = text ? column_of(self, modern) : -1;
        if (column < 0) return -1;
        if (!add_name(self, text, n, column, true)) return PyErr_NoMemory(), -1;
    }
    self->n_identity = (int)PyTuple_GET_SIZE(identity);
    self->identity = calloc((size_t)self->n_identity + 1, sizeof(int));
    if (!self->locale || !self->identity || !put_netstring(&self->version, version, (size_t)n_version))
        return PyErr_NoMemory(), -1;
    self->selector = column_of(self, selector);
    self->start = column_of(self, start);
    if (self->selector < 0 || self->start < 0) return -1;
    for (int k = 0; k < self->n_identity; k++) {
        int at = self->identity[k] = column_of(self, PyTuple_GET_ITEM(identity, k));
        if (at < 0) return -1;
        if (self->kinds[at] != INT64 && self->kinds[at] != STRING && at != self->start)
            return PyErr_SetString(PyExc_ValueError, "an id is made of whole numbers, texts and the start"), -1;
    }
    return 0;
}

static void reader_dealloc(Reader *self) {
    for (int k = 0; k < self->n_names; k++) free(self->names[k].text);
    free(self->names);
    free(self->kinds);
    free(self->is_required);
    free(self->identity);
    free(self->version.bytes);
    if (self->locale) freelocale(self->locale);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef reader_methods[] = {
    {"read", (PyCFunction)reader_read, METH_VARARGS, "Rows on lines, or with commas between; None if one is not plain."},
    {NULL}};

static PyTypeObject ReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fullstory_dagster.parse._plain_rows.Reader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Reads plain rows, in any thread.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)reader_init,
    .tp_dealloc = (destructor)reader_dealloc,
    .tp_methods = reader_methods,
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_plain_rows", .m_size = -1};

PyMODINIT_FUNC PyInit__plain_rows(void) {
    if (PyType_Ready(&ReaderType) < 0 || PyType_Ready(&ColumnsType) < 0) return NULL;
    PyObject *created = PyModule_Create(&module);
    if (created && PyModule_AddObjectRef(created, "Reader", (PyObject *)&ReaderType) < 0) Py_CLEAR(created);
    return created;
}
