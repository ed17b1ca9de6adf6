/* The reading of what names a reward, with paths and commands that hold the very characters that separate its parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "reward/spec.h"

/* The files that exist in a test. */
static const char *const *files;

static bool exists(const char *path) {
    for (const char *const *f = files; f && *f; f++) {
        if (strcmp(*f, path) == 0) {
            return true;
        }
    }
    return false;
}

static void check(const char *text, enum source_kind kind, const char *name, const char *path, const char *adapter,
                  float weight) {
    struct source_spec spec = {0};
    assert_int_equal(source_spec_parse(&spec, text, exists, NULL), GENARM_OK);
    assert_int_equal(spec.kind, kind);
    assert_string_equal(spec.part.name, name);
    assert_string_equal(spec.part.path, path);
    if (adapter) {
        assert_string_equal(spec.part.adapter, adapter);
    } else {
        assert_null(spec.part.adapter);
    }
    assert_true(spec.part.weight == weight);
    source_spec_deinit(&spec);
}

static void test_a_kind_comes_first(void **state) {
    (void)state;
    static const char *const present[] = {"a.gguf", "m.gguf", "arm:x", "odd:a.gguf", NULL};
    files = present;
    check("a.gguf", SOURCE_RM, "a", "a.gguf", NULL, 1);
    check("rm:m.gguf+a.gguf:-2", SOURCE_RM, "a", "m.gguf", "a.gguf", -2);
    check("arm:kind=a.gguf:0.5", SOURCE_ARM, "kind", "a.gguf", NULL, 0.5f);
    check("arm-mean:a.gguf", SOURCE_ARM_MEAN, "a", "a.gguf", NULL, 1);
    check("ratio:a.gguf", SOURCE_RATIO, "a", "a.gguf", NULL, 1);
    check("ratio-mean:x=m.gguf+a.gguf:-1e-2", SOURCE_RATIO_MEAN, "x", "m.gguf", "a.gguf", -0.01f);
    check("odd:a.gguf", SOURCE_RM, "odd:a", "odd:a.gguf", NULL, 1);
    check("arm:x", SOURCE_ARM, "x", "x", NULL, 1); /* a kind wins over a file */
    check("./arm:x", SOURCE_RM, "arm:x", "./arm:x", NULL, 1);
}

static void test_a_classifier_has_a_label(void **state) {
    (void)state;
    static const char *const present[] = {"d/c.gguf", "c#1.gguf", NULL};
    files = present;
    check("rank:d/c.gguf", SOURCE_RANK, "c", "d/c.gguf", NULL, 1);
    check("rank:d/c.gguf#positive:2", SOURCE_RANK, "c", "d/c.gguf", "positive", 2);
    check("rank:x=d/c.gguf#very good", SOURCE_RANK, "x", "d/c.gguf", "very good", 1);
    check("rank:c#1.gguf", SOURCE_RANK, "c#1", "c#1.gguf", NULL, 1);
    check("rank:c#1.gguf#no+yes", SOURCE_RANK, "c#1", "c#1.gguf", "no+yes", 1);
    check("rank:no.gguf#x:3", SOURCE_RANK, "no", "no.gguf", "x", 3); /* for the message */
}

static void test_a_command_is_taken_as_it_is(void **state) {
    (void)state;
    files = NULL;
    check("cmd:cat", SOURCE_CMD, "cat", "cat", NULL, 1);
    check("cmd:python3 -u r.py --x=1 +2", SOURCE_CMD, "python3 -u r.py --x=1 +2", "python3 -u r.py --x=1 +2", NULL, 1);
    check("cmd:short=./r.sh a:b:-0.5", SOURCE_CMD, "short", "./r.sh a:b", NULL, -0.5f);
    check("cmd:a.b-c_1=X=y ./r.sh", SOURCE_CMD, "a.b-c_1", "X=y ./r.sh", NULL, 1);
    check("cmd:./r=1", SOURCE_CMD, "./r=1", "./r=1", NULL, 1); /* a slash is no part of a name */
    check("cmd:nc host:80", SOURCE_CMD, "nc host", "nc host", NULL, 80);
    check("cmd:nc host:80:1", SOURCE_CMD, "nc host:80", "nc host:80", NULL, 1);
    check("cmd:nc host:80 ", SOURCE_CMD, "nc host:80 ", "nc host:80 ", NULL, 1);
    check("cmd:r=true \xFF", SOURCE_CMD, "r", "true \xFF", NULL, 1);
}

static void test_what_cannot_be_read_is_refused(void **state) {
    static const char *const bad[] = {"",        "rm:",     "rm:n=",     "arm::1",       "rank:",     "rank:no.gguf#",
                                      "cmd:",    "cmd: ",   "cmd::1",    "cmd:x=",       "cmd:x= :2", "cmd:cat:inf",
                                      "cmd:\xFF", "a.gguf:nan", "rm:a.gguf:-inf"};
    (void)state;
    static const char *const present[] = {"a.gguf", NULL};
    files = present;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct source_spec spec = {.part = {.weight = 5}};
        struct genarm_error err = {0};
        if (source_spec_parse(&spec, bad[i], exists, &err) != GENARM_EINVAL) {
            fail_msg("\"%s\" is read", bad[i]);
        }
        assert_true(err.what[0] && spec.part.weight == 5); /* written only on success */
    }
}

static void test_a_model_behind_a_server_has_a_base_url(void **state) {
    (void)state;
    files = NULL;
    check("openai:gpt-4o@https://api.openai.com/v1", SOURCE_OPENAI, "gpt-4o", "gpt-4o", "https://api.openai.com/v1", 1);
    check("openai:j=a/b:7b@x@http://h:8080", SOURCE_OPENAI, "j", "a/b:7b@x", "http://h:8080", 1); /* a port */
    check("openai:m@http://h:8080:2", SOURCE_OPENAI, "m", "m", "http://h:8080", 2);
    check("openai:m@http://h:0.5", SOURCE_OPENAI, "m", "m", "http://h", 0.5f);
    check("openai:m@http://h:80/v1:-1", SOURCE_OPENAI, "m", "m", "http://h:80/v1", -1);
    check("openai:m@http://h/v1:3", SOURCE_OPENAI, "m", "m", "http://h/v1", 3);
    check("openai:m@http://[::1]:8080", SOURCE_OPENAI, "m", "m", "http://[::1]:8080", 1);
    check("openai:m@http://[::1]:8080:4", SOURCE_OPENAI, "m", "m", "http://[::1]:8080", 4);
    static const char *const wrong[] = {"openai:", "openai:m", "openai:@http://h", "openai:m@h", "openai:m@http://h:inf",
                                        "openai:m\xFF@http://h"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct source_spec spec = {0};
        assert_int_equal(source_spec_parse(&spec, wrong[i], exists, NULL), GENARM_EINVAL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_behind_a_server_has_a_base_url),
        cmocka_unit_test(test_a_kind_comes_first),
        cmocka_unit_test(test_a_classifier_has_a_label),
        cmocka_unit_test(test_a_command_is_taken_as_it_is),
        cmocka_unit_test(test_what_cannot_be_read_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
