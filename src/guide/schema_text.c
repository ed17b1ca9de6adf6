/* Text of a grammar: literals, repetitions, and rules that schemas have in common. */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "guide/schema_compiler.h"

enum { DIRECT_MAX = 256 };

/* White space is bounded so that no model can go on with it for ever. Numbers have a size that every reader can hold. Escapes
 * are those that every reader takes: no half of a surrogate pair alone, no zero. */
static const struct {
    const char *name, *text;
    unsigned calls;
} rules[READY_COUNT] = {
    [READY_WS] = {"ws", "| \" \" | \"\\n\" [ \\t]{0,20}", 0},
    [READY_COLON] = {"colon", "\" \"? \":\" ws", 1u << READY_WS},
    [READY_COMMA] = {"comma", "\",\" ws", 1u << READY_WS},
    [READY_VALUE] = {"value", "object | array | string | number | boolean | null",
                     1u << READY_OBJECT | 1u << READY_ARRAY | 1u << READY_STRING | 1u << READY_NUMBER | 1u << READY_BOOLEAN |
                         1u << READY_NULL},
    [READY_OBJECT] = {"object", "\"{\" ws (string colon value (comma string colon value)* ws)? \"}\"",
                      1u << READY_WS | 1u << READY_COLON | 1u << READY_COMMA | 1u << READY_STRING | 1u << READY_VALUE},
    [READY_ARRAY] = {"array", "\"[\" ws (value (comma value)* ws)? \"]\"",
                     1u << READY_WS | 1u << READY_COMMA | 1u << READY_VALUE},
    [READY_STRING] = {"string", "\"\\\"\" char* \"\\\"\"", 1u << READY_CHAR},
    [READY_CHAR] = {"char",
                    "[^\"\\\\\\x00-\\x1F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" ([1-9a-cA-CefEF] hex hex hex | [dD] [0-7] hex hex | "
                    "\"0\" ([1-9a-fA-F] hex hex | \"0\" ([1-9a-fA-F] hex | \"0\" [1-9a-fA-F])) | "
                    "[dD] [89abAB] hex hex \"\\\\u\" [dD] [c-fC-F] hex hex))",
                    1u << READY_HEX},
    [READY_HEX] = {"hex", "[0-9a-fA-F]", 0},
    [READY_NUMBER] = {"number", "\"-\"? (\"0\" | [1-9] [0-9]{0,15}) (\".\" [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?", 0},
    [READY_INTEGER] = {"integer", "\"0\" | \"-\"? [1-9] [0-9]{0,15}", 0},
    [READY_BOOLEAN] = {"boolean", "\"true\" | \"false\"", 0},
    [READY_NULL] = {"null", "\"null\"", 0},
    [READY_PLAIN] = {"plain", "[^\"\\\\\\x00-\\x1F]", 0},
    /* days that the month has, in a leap year too */
    [READY_DATE] = {"date",
                    "[1-9] [0-9]{3} \"-\" ((\"0\" [13578] | \"1\" [02]) \"-\" (\"0\" [1-9] | [12] [0-9] | \"3\" [01]) | "
                    "(\"0\" [469] | \"11\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"30\") | "
                    "\"02-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8])) | "
                    "([1-9] [0-9] (\"0\" [48] | [2468] [048] | [13579] [26]) | ([13579] [26] | [2468] [048]) \"00\") \"-02-29\"",
                    0},
    [READY_TIME] = {"time",
                    "([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9] \":\" [0-5] [0-9] (\".\" [0-9]{1,6})? "
                    "(\"Z\" | [-+] ([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9])",
                    0},
    [READY_DATE_TIME] = {"date-time", "date \"T\" time", 1u << READY_DATE | 1u << READY_TIME},
    [READY_DURATION] = {"duration",
                        "\"P\" ([0-9]{1,4} \"W\" | [0-9]{1,4} \"D\" (\"T\" dtime)? | \"T\" dtime)\n"
                        "dtime ::= [0-9]{1,4} \"H\" ([0-9]{1,4} \"M\" ([0-9]{1,4} \"S\")?)? | "
                        "[0-9]{1,4} \"M\" ([0-9]{1,4} \"S\")? | [0-9]{1,4} \"S\"",
                        0},
    [READY_EMAIL] = {"email", "[a-zA-Z0-9_+-]{1,30} (\".\" [a-zA-Z0-9_+-]{1,30})? \"@\" hostname", 1u << READY_HOSTNAME},
    [READY_HOSTNAME] = {"hostname", "([a-zA-Z0-9] ([a-zA-Z0-9-]{0,28} [a-zA-Z0-9])? \".\"){1,6} [a-zA-Z]{2,20}", 0},
    [READY_IPV4] = {"ipv4",
                    "octet \".\" octet \".\" octet \".\" octet\n"
                    "octet ::= [0-9] | [1-9] [0-9] | \"1\" [0-9]{2} | \"2\" [0-4] [0-9] | \"25\" [0-5]",
                    0},
    [READY_IPV6] = {"ipv6", "hex{1,4} (\":\" hex{1,4}){7}", 1u << READY_HEX},
    [READY_UUID] = {"uuid", "hex{8} \"-\" hex{4} \"-\" hex{4} \"-\" hex{4} \"-\" hex{12}", 1u << READY_HEX},
    [READY_URI] = {"uri",
                   "[a-z] [a-z0-9+.-]{0,20} \"://\" hostname (\":\" [1-9] [0-9]{0,3})? "
                   "(\"/\" [a-zA-Z0-9._~!$&'()*+,;=:@/-]{0,600})? "
                   "(\"?\" [a-zA-Z0-9._~!$&'()*+,;=:@/?-]{0,600})? (\"#\" [a-zA-Z0-9._~!$&'()*+,;=:@/?-]{0,600})?",
                   1u << READY_HOSTNAME},
};

const char *ready(struct compiler *c, enum ready_rule rule) {
    c->ready |= 1u << rule;
    return rules[rule].name;
}

void put_ready_rules(struct compiler *c) {
    for (unsigned before = 0; before != c->ready;) {
        before = c->ready;
        for (int i = 0; i < READY_COUNT; i++) {
            c->ready |= c->ready >> i & 1 ? rules[i].calls : 0;
        }
    }
    for (int i = 0; i < READY_COUNT; i++) {
        if (c->ready >> i & 1) {
            PUT(c, c->out, "%s ::= %s\n", rules[i].name, rules[i].text);
        }
    }
}

void put_rule(struct compiler *c, const char *name, const struct buf *text) {
    PUT(c, c->out, "%s ::= %s\n", name, text->data ? text->data : "");
}

uint32_t code_point(const char *text, size_t left, size_t *n) {
    *n = utf8_char(text, left);
    if (*n == 0) {
        *n = 1;
        return 0xFFFD;
    }
    uint32_t code = (unsigned char)text[0] & (*n == 1 ? 0x7Fu : 0x7Fu >> *n);
    for (size_t i = 1; i < *n; i++) {
        code = code << 6 | ((unsigned char)text[i] & 0x3Fu);
    }
    return code;
}

void put_json_char(struct compiler *c, struct buf *b, uint32_t code) {
    static const char kinds[] = "\b\f\n\r\t", names[] = "bfnrt";
    const char *kind = code > 0 && code < 0x20 ? strchr(kinds, (int)code) : NULL;
    if (kind) {
        PUT(c, b, "\\\\%c", names[kind - kinds]);
    } else if (code < 0x20) {
        PUT(c, b, "\\\\u%04x", (unsigned)code);
    } else if (code == '"') {
        PUT(c, b, "\\\\\\\"");
    } else if (code == '\\') {
        PUT(c, b, "\\\\\\\\");
    } else if (code < 0x7F) {
        PUT(c, b, "%c", (int)code);
    } else {
        PUT(c, b, code < 0x10000 ? "\\u%04X" : "\\U%08X", (unsigned)code);
    }
}

void put_class_char(struct compiler *c, struct buf *b, uint32_t code) {
    const bool word = (code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
    if (word) {
        PUT(c, b, "%c", (int)code);
    } else {
        PUT(c, b, code < 0x80 ? "\\x%02X" : code < 0x10000 ? "\\u%04X" : "\\U%08X", (unsigned)code);
    }
}

void put_json_string(struct compiler *c, struct buf *b, const char *text, size_t n) {
    PUT(c, b, "\"\\\"");
    for (size_t i = 0, size; i < n && c->rc == GENARM_OK; i += size) {
        put_json_char(c, b, code_point(text + i, n - i, &size));
    }
    PUT(c, b, "\\\"\"");
}

/* ---- repetitions ---- */

static void put_count(struct compiler *c, struct buf *b, const char *item, int64_t n) {
    if (n > 0) {
        PUT(c, b, " %s{%lld}", item, (long long)n);
    }
}

/* Many repetitions cost a rule each, where blocks of as many as there are blocks cost a root of that: up to q blocks and what is
 * left over, or all q and r more. */
static void put_blocks(struct compiler *c, struct buf *b, const char *item, int64_t least, int64_t most) {
    int64_t size = DIRECT_MAX;
    while (size * size < (most < 0 ? least : most)) {
        size *= 2;
    }
    const struct rule_name block = new_rule_name(c, 'b');
    PUT(c, c->out, "%s ::= %s{%lld}\n", block.text, item, (long long)size);
    put_count(c, b, block.text, least / size);
    put_count(c, b, item, least % size);
    if (most < 0) {
        PUT(c, b, " %s*", item);
        return;
    }
    const int64_t q = (most - least) / size, r = (most - least) % size;
    if (q == 0) {
        PUT(c, b, " %s{0,%lld}", item, (long long)r);
        return;
    }
    PUT(c, b, " (%s{0,%lld} %s{0,%lld} | %s{%lld} %s{0,%lld})", block.text, (long long)q - 1, item, (long long)size - 1,
        block.text, (long long)q, item, (long long)r);
}

void put_repeat(struct compiler *c, struct buf *b, const char *item, int64_t least, int64_t most) {
    if (least > DIRECT_MAX || most > DIRECT_MAX) {
        put_blocks(c, b, item, least, most);
    } else if (most < 0 && least <= 1) {
        PUT(c, b, "%s%c", item, least ? '+' : '*');
    } else if (most < 0) {
        PUT(c, b, "%s{%lld,}", item, (long long)least);
    } else if (least == 0 && most == 1) {
        PUT(c, b, "%s?", item);
    } else if (least == 1 && most == 1) {
        PUT(c, b, "%s", item);
    } else if (least == most) {
        PUT(c, b, "%s{%lld}", item, (long long)least);
    } else {
        PUT(c, b, "%s{%lld,%lld}", item, (long long)least, (long long)most);
    }
}
