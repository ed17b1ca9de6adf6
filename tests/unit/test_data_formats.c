/* Formats of preference data: each is recognised by itself and read as what it says; what cannot be used is dropped under
 * its name, and what is no record of any format, or of another than the rest of its file, is refused by line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "support/prefs.h"

static struct pref_params format(enum genarm_data_format f) { return (struct pref_params){.format = f}; }

/* ---- genarm ---- */

static void test_genarm_is_a_prompt_and_two_responses(void **state) {
    (void)state;
    prefs_expect("{\"prompt\": \"p\", \"chosen\": \" a\", \"rejected\": \"b \", \"score\": 1, \"response\": \"a\"}\n"
                 "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\", \"system\": \"s\"}\n"
                 "{\"prompt\": \"\", \"chosen\": \"a\", \"rejected\": \"b\", \"system\": null}\n"
                 "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\", \"system\": \"\"}\n",
                 NULL,
                 "1: user(p) ->  a | b \n"
                 "2: system(s) user(p) -> a | b\n"
                 "3: user() -> a | b\n"
                 "4: user(q) -> a | b\n");
}

static void test_genarm_prompts_can_have_several_turns(void **state) {
    (void)state;
    prefs_expect("{\"prompt\": [{\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"content\": \"v\"}, "
                 "{\"role\": \"user\", \"content\": \"w\"}], \"chosen\": \"a\", \"rejected\": \"b\", \"system\": \"s\"}",
                 NULL, "1: system(s) user(u) assistant(v) user(w) -> a | b\n");
    prefs_refuse("{\"prompt\": [{\"role\": \"system\", \"content\": \"t\"}, {\"role\": \"user\", \"content\": \"u\"}], "
                 "\"chosen\": \"a\", \"rejected\": \"b\", \"system\": \"s\"}",
                 NULL, 1, "system message as well");
    prefs_refuse("{\"prompt\": [], \"chosen\": \"a\", \"rejected\": \"b\"}", NULL, 1, "\"prompt\" has no messages");
}

/* ---- hh-rlhf ---- */

#define H "\\n\\nHuman: "
#define AS "\\n\\nAssistant: "

static void test_hh_dialogues_split_at_the_last_common_answer(void **state) {
    (void)state;
    prefs_expect("{\"chosen\": \"" H "q" AS "a\", \"rejected\": \"" H "q" AS "b\"}\n"
                 "{\"chosen\": \"" H "q" AS "r" H "s\\n\\nmore" AS "yes\", \"rejected\": \"" H "q" AS "r" H
                 "s\\n\\nmore" AS "yes, sure\"}\n"
                 "{\"chosen\": \"Human: q" AS "\\na\\n\", \"rejected\": \"Human: q" AS " b b\"}\n",
                 NULL,
                 "1: user(q) -> a | b\n"
                 "2: user(q) assistant(r) user(s//more) -> yes | yes, sure\n"
                 "3: user(q) -> a | b b\n"
                 "prefix 1\n");
}

static void test_hh_dialogues_that_are_no_two_answers_are_dropped(void **state) {
    (void)state;
    prefs_expect("{\"chosen\": \"" H "q" AS "a\", \"rejected\": \"" H "q" AS "b\"}\n"
                 "{\"chosen\": \"" H "q" AS "a" H "x" AS "y\", \"rejected\": \"" H "q" AS "b" H "x" AS "y\"}\n"
                 "{\"chosen\": \"" H "q" AS "a" H "x" AS "y\", \"rejected\": \"" H "q" AS "a\"}\n"
                 "{\"chosen\": \"" H "q" AS "a\", \"rejected\": \"" H "other" AS "b\"}\n"
                 "{\"chosen\": \"" H "q" AS "a\", \"rejected\": \"" H "q\"}\n"
                 "{\"chosen\": \"" H "q" AS "a\", \"rejected\": \"" H "q" AS "\"}\n"
                 "{\"chosen\": \"" H "q" AS "a\", \"rejected\": \"" H "q" AS "a \"}\n"
                 "{\"chosen\": \"" H "q" AS "r" AS "a\", \"rejected\": \"" H "q" AS "r" AS "b\"}\n",
                 NULL,
                 "1: user(q) -> a | b\n"
                 "empty 1\nequal 1\nturns 4\nno_question 1\n");
    prefs_refuse("{\"chosen\": \"" H "q" AS "a\", \"rejected\": \"b\"}", NULL, 1, "\"rejected\" is no dialogue");
}

static void test_full_hh_prompts_are_dialogues(void **state) {
    (void)state;
    prefs_expect("{\"prompt\": \"" H "q" AS "r" H "s\\n\\nAssistant:\", \"response\": \" a\", \"chosen\": \" a\", "
                 "\"rejected\": \" b\"}\n"
                 "{\"prompt\": \"" H "q" AS "\", \"chosen\": \"" H "q" AS "a\", \"rejected\": \"" H "q" AS "b\"}\n"
                 "{\"prompt\": \"" H "q" AS "\", \"chosen\": \"a\", \"rejected\": \"b" H "c\"}\n",
                 NULL,
                 "1: user(q) assistant(r) user(s) -> a | b\n"
                 "2: user(q) -> a | b\n"
                 "turns 1\n");
    const struct pref_params forced = format(GENARM_DATA_FULL_HH_RLHF);
    prefs_refuse("{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\"}", &forced, 1, "\"prompt\" is no dialogue");
}

/* ---- pku-saferlhf ---- */

#define PKU(better, safer)                                                                                             \
    "{\"prompt\": \"p\", \"response_0\": \"zero\", \"response_1\": \"one\", \"is_response_0_safe\": true, "              \
    "\"better_response_id\": " better ", \"safer_response_id\": " safer "}\n"

static void test_the_label_of_pku_decides(void **state) {
    (void)state;
    const struct pref_params safer = {.label = GENARM_LABEL_SAFER};
    prefs_expect(PKU("0", "1") PKU("1", "1"), NULL, "1: user(p) -> zero | one\n2: user(p) -> one | zero\n");
    prefs_expect(PKU("0", "1") PKU("1", "0"), &safer, "1: user(p) -> one | zero\n2: user(p) -> zero | one\n");
}

static void test_wrong_labels_are_dropped_or_refused(void **state) {
    (void)state;
    const struct pref_params safer = {.label = GENARM_LABEL_SAFER};
    prefs_expect(PKU("0", "1") PKU("-1", "1") PKU("2", "1") PKU("null", "1"), NULL,
                 "1: user(p) -> zero | one\nunlabelled 3\n");
    prefs_refuse(PKU("0", "1") PKU("\"0\"", "1"), NULL, 2, "\"better_response_id\" must be 0 or 1");
    prefs_refuse(PKU("0", "1") PKU("0", "true"), &safer, 2, "\"safer_response_id\" must be 0 or 1");
    prefs_refuse(PKU("0.5", "1"), NULL, 1, "\"better_response_id\" must be 0 or 1");
    prefs_refuse("{\"prompt\": \"p\", \"response_0\": \"a\", \"response_1\": \"b\", \"better_response_id\": 0}", &safer, 1,
                 "\"safer_response_id\" is missing");
}

/* ---- lists of messages ---- */

#define U(text) "{\"role\": \"user\", \"content\": \"" text "\"}"
#define V(text) "{\"role\": \"assistant\", \"content\": \"" text "\"}"
#define S(text) "{\"role\": \"system\", \"content\": \"" text "\"}"
#define LISTS(chosen, rejected) "\"chosen\": [" chosen "], \"rejected\": [" rejected "]}\n"

static void test_a_string_prompt_and_whole_conversations_hold_the_prompt_once(void **state) {
    (void)state;
    prefs_expect("{\"prompt\": \"p\", \"score_chosen\": 8.5, \"messages\": [" U("p") "], "
                 LISTS(U("p") ", " V("a"), U("p") ", " V("b"))
                 "{\"prompt\": \" p \", " LISTS(S("s") ", " U("p") ", " V("a"), S("s") ", " U("p") ", " V("b"))
                 "{\"prompt\": \"p\", "
                 LISTS(U("p") ", " V("x") ", " U("q") ", " V("a"), U("p") ", " V("x") ", " U("q") ", " V("b"))
                 "{\"prompt\": \"p\", " LISTS(V("a"), V("b")),
                 NULL,
                 "1: user(p) -> a | b\n"
                 "2: system(s) user(p) -> a | b\n"
                 "3: user(p) assistant(x) user(q) -> a | b\n"
                 "4: user(p) -> a | b\n");
}

static void test_a_system_text_beside_lists_is_a_message_unless_they_have_one(void **state) {
    (void)state;
    static const char expected[] = "1: system(t) user(p) -> a | b\n2: system(s) user(p) -> a | b\n";
#define SYSTEM "{\"system\": \"t\", "
    prefs_expect(SYSTEM "\"prompt\": \"p\", " LISTS(V("a"), V("b"))
                 SYSTEM "\"prompt\": \"p\", " LISTS(S("s") ", " U("p") ", " V("a"), S("s") ", " U("p") ", " V("b")),
                 NULL, expected);
    prefs_expect(SYSTEM "\"prompt\": \"p\", " LISTS(U("p") ", " V("a"), U("p") ", " V("b")), NULL,
                 "1: system(t) user(p) -> a | b\n");
    prefs_expect(SYSTEM "\"prompt\": [" U("p") "], " LISTS(V("a"), V("b"))
                 SYSTEM "\"prompt\": [" S("s") ", " U("p") "], " LISTS(V("a"), V("b")),
                 NULL, expected);
    prefs_expect(SYSTEM LISTS(U("p") ", " V("a"), U("p") ", " V("b"))
                 SYSTEM LISTS(S("s") ", " U("p") ", " V("a"), S("s") ", " U("p") ", " V("b")),
                 NULL, expected);
    prefs_refuse("{\"system\": 7, " LISTS(U("p") ", " V("a"), U("p") ", " V("b")), NULL, 1, "\"system\" must be a string");
}

static void test_a_string_prompt_that_no_turn_says_is_dropped(void **state) {
    (void)state;
    prefs_expect("{\"prompt\": \"p\", " LISTS(U("p") ", " V("a"), U("p") ", " V("b"))
                 "{\"prompt\": \"something else\", " LISTS(U("p") ", " V("a"), U("p") ", " V("b")),
                 NULL, "1: user(p) -> a | b\nother_prompt 1\n");
}

static void test_conversations_have_an_explicit_or_an_implicit_prompt(void **state) {
    (void)state;
    prefs_expect("{\"prompt\": [" U("p") "], " LISTS(V("a"), V("b"))
                 "{" LISTS(U("p") ", " V("a"), U("p") ", " V("b"))
                 "{\"prompt\": [" U("p") "], " LISTS(U("p") ", " V("a"), U("p") ", " V("b"))
                 "{\"prompt\": null, "
                 LISTS(S("s") ", " U("p") ", " V("x") ", " U("q") ", " V("a"),
                       S("s") ", " U("p") ", " V("x") ", " U("q") ", " V("b"))
                 "{\"prompt\": [" S("s") ", " U("p") ", " V("x") ", " U("q") "], " LISTS(V("a"), V("b")),
                 NULL,
                 "1: user(p) -> a | b\n"
                 "2: user(p) -> a | b\n"
                 "3: user(p) -> a | b\n"
                 "4: system(s) user(p) assistant(x) user(q) -> a | b\n"
                 "5: system(s) user(p) assistant(x) user(q) -> a | b\n");
}

static void test_conversations_that_are_no_two_answers_are_dropped(void **state) {
    (void)state;
    prefs_expect("{" LISTS(U("p") ", " V("a"), U("p") ", " V("b"))
                 "{" LISTS(U("p") ", " V("a") ", " U("q") ", " V("c"), U("p") ", " V("b") ", " U("q") ", " V("d"))
                 "{" LISTS(U("p") ", " V("a") ", " U("q") ", " V("c"), U("p") ", " V("a"))
                 "{" LISTS(U("p") ", " V("a"), U("q") ", " V("b"))
                 "{" LISTS(V("a"), V("b"))
                 "{" LISTS(U("p") ", " V("a"), U("p") ", " V("a"))
                 "{" LISTS(U("p") ", " V("a"), U("p") ", " V(""))
                 "{" LISTS("", "")
                 "{" LISTS(U("p") ", " V("a"), U("p") ", " U("b"))
                 "{\"prompt\": [" U("p") ", " V("begin") "], " LISTS(V("a"), V("b"))
                 "{\"prompt\": [" S("s") "], " LISTS(V("a"), V("b")),
                 NULL,
                 "1: user(p) -> a | b\n"
                 "empty 2\nequal 1\nturns 3\nno_question 2\nno_prompt 2\n");
}

static void test_broken_messages_are_refused_by_their_place(void **state) {
    (void)state;
    prefs_refuse("{" LISTS(U("p") ", {\"role\": \"tool\", \"content\": \"a\"}", U("p") ", " V("b")), NULL, 1,
                 "chosen[1]: role \"tool\"");
    prefs_refuse("{" LISTS(U("p") ", " V("a"), U("p") ", {\"role\": \"assistant\"}"), NULL, 1,
                 "rejected[1]: \"content\" is missing");
    prefs_refuse("{" LISTS(U("p") ", {\"role\": \"assistant\", \"content\": [1]}", U("p") ", " V("b")), NULL, 1,
                 "chosen[1]: \"content\" must be a string");
    prefs_refuse("{\"prompt\": [" U("p") ", 7], " LISTS(V("a"), V("b")), NULL, 1, "prompt[1] must be an object");
    prefs_refuse("{\"chosen\": [" U("p") ", " V("a") "], \"rejected\": \"b\"}", NULL, 1,
                 "\"rejected\" must be a list of messages");
}

/* ---- trl-standard ---- */

static void test_texts_without_a_prompt_begin_with_it(void **state) {
    (void)state;
    prefs_expect("{\"chosen\": \"The sky is blue.\", \"rejected\": \"The sky is black.\"}\n"
                 "{\"chosen\": \"Q: why?\\nbecause\", \"rejected\": \"Q: why?\\nno idea\"}\n"
                 "{\"chosen\": \"Le caf\\u00e9 fume\", \"rejected\": \"Le caf\\u00e8re\"}\n"
                 "{\"chosen\": \"\\u5929\\u7a7a\\u662f\\u84dd\", \"rejected\": \"\\u5929\\u7a7a\\u662f\\u7eff\"}\n"
                 "{\"chosen\": \"alpha\", \"rejected\": \"beta\"}\n"
                 "{\"chosen\": \"same text\", \"rejected\": \"same text\"}\n"
                 "{\"chosen\": \"The sky\", \"rejected\": \"The sky is\"}\n",
                 NULL,
                 "1: user(The sky is) ->  blue. |  black.\n"
                 "2: user(Q: why?/) -> because | no idea\n"
                 "3: user(Le) ->  caf\u00e9 fume |  caf\u00e8re\n"
                 "4: user(\u5929\u7a7a\u662f) -> \u84dd | \u7eff\n"
                 "empty 1\nequal 1\nno_prompt 1\n");
}

static void test_texts_that_repeat_a_string_prompt_are_noted_and_on_request_cut(void **state) {
    (void)state;
    static const char text[] = "{\"prompt\": \"What colour is the sky?\", \"chosen\": \"What colour is the sky? Blue.\", "
                               "\"rejected\": \"What colour is the sky? Green.\"}\n"
                               "{\"prompt\": \"Hi\", \"chosen\": \"Hi, you!\", \"rejected\": \"Hi there\"}\n";
    prefs_expect(text, NULL,
                 "1: user(What colour is the sky?) -> What colour is the sky? Blue. | What colour is the sky? Green.\n"
                 "2: user(Hi) -> Hi, you! | Hi there\n"
                 "repeats 1\n");
    const struct pref_params forced = format(GENARM_DATA_TRL_STANDARD);
    prefs_expect(text, &forced,
                 "1: user(What colour is the sky?) ->  Blue. |  Green.\n"
                 "2: user(Hi) -> , you! |  there\n");
}

/* ---- one answer ---- */

static const struct pref_params as_found = {.use = PREF_AS_FOUND}, alone = {.use = PREF_CHOSEN};

static void test_a_completion_or_the_last_turn_is_an_answer_without_a_worse_one(void **state) {
    (void)state;
    prefs_expect("{\"prompt\": \"p\", \"completion\": \"a\"}\n"
                 "{\"prompt\": \"p\", \"completion\": \" a\", \"system\": \"s\"}\n"
                 "{\"prompt\": [" U("p") "], \"completion\": [" V("a") "]}\n"
                 "{\"prompt\": [" S("s") ", " U("p") "], \"completion\": [" V("x") ", " U("q") ", " V("a") "]}\n"
                 "{\"prompt\": \"p\", \"completion\": \"\"}\n",
                 &as_found,
                 "1: user(p) -> a | \n"
                 "2: system(s) user(p) ->  a | \n"
                 "3: user(p) -> a | \n"
                 "4: system(s) user(p) assistant(x) user(q) -> a | \n"
                 "empty 1\n");
    prefs_expect("{\"prompt\": \"p\", \"messages\": [" S("s") ", " U("p") ", " V("x") ", " U("q") ", " V("a") "]}\n"
                 "{\"messages\": [" U("p") ", " V("a") ", " U("thanks") "]}\n"
                 "{\"messages\": [" U("p") ", " V("a") "], \"system\": \"s\"}\n"
                 "{\"messages\": [" U("p") "]}\n"
                 "{\"messages\": [" V("a") "]}\n",
                 &alone,
                 "1: system(s) user(p) assistant(x) user(q) -> a | \n"
                 "2: user(p) -> a | \n"
                 "3: system(s) user(p) -> a | \n"
                 "empty 1\nno_question 1\n");
    prefs_refuse("{\"messages\": []}", &alone, 1, "\"messages\" has no messages");
    prefs_refuse("{\"messages\": [" U("p") ", {\"role\": \"assistant\"}]}", &alone, 1, "messages[1]: \"content\" is missing");
    prefs_refuse("{\"prompt\": \"p\", \"completion\": 7}", &alone, 1, "\"completion\" must be a string");
}

static void test_one_answer_is_refused_where_two_are_needed(void **state) {
    (void)state;
    prefs_refuse("{\"prompt\": \"p\", \"completion\": \"a\"}", NULL, 1, "prompt-completion has one answer, and two are needed");
    prefs_refuse("{\"messages\": [" U("p") ", " V("a") "]}", NULL, 1, "messages has one answer, and two are needed");
    prefs_refuse("{\"prompt\": \"p\", \"chosen\": \"a\"}", &as_found, 1, "not a known format");
}

/* What a record would be dropped for as a pair is no reason where its chosen response counts alone. */
static void test_a_chosen_response_does_not_depend_on_the_rejected_one(void **state) {
    (void)state;
    prefs_expect("{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n"
                 "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"a\"}\n"
                 "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"\"}\n"
                 "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": null}\n"
                 "{\"prompt\": \"p\", \"chosen\": \"a\"}\n"
                 "{\"prompt\": \"p\", \"chosen\": \"\", \"rejected\": \"b\"}\n",
                 &alone,
                 "1: user(p) -> a | b\n2: user(p) -> a | \n3: user(p) -> a | \n4: user(p) -> a | \n5: user(p) -> a | \n"
                 "empty 1\n");
    prefs_expect("{\"chosen\": \"" H "q" AS "r" H "s" AS "a\", \"rejected\": \"" H "other" AS "b\"}\n"
                 "{\"chosen\": \"" H "q" AS "a\", \"rejected\": \"" H "q" AS "a\"}\n"
                 "{\"chosen\": \"" H "q" AS "a\"}\n",
                 &alone, "1: user(q) assistant(r) user(s) -> a | \n2: user(q) -> a | \n3: user(q) -> a | \n");
    prefs_expect("{\"prompt\": \"" H "q" AS "\", \"response\": \" a\", \"chosen\": \" a\", \"rejected\": \"\"}\n"
                 "{\"prompt\": \"" H "q" AS "\", \"chosen\": \" a\"}\n",
                 &alone, "1: user(q) -> a | \n2: user(q) -> a | \n");
    prefs_expect("{\"prompt\": \"p\", \"response_0\": \"\", \"response_1\": \"one\", \"better_response_id\": 1}\n"
                 PKU("null", "0"),
                 &alone, "1: user(p) -> one | \nunlabelled 1\n");
    prefs_expect("{\"prompt\": \"p\", \"chosen\": [" U("p") ", " V("a") "]}\n"
                 "{\"prompt\": \"p\", " LISTS(U("p") ", " V("a"), U("q") ", " V("b"))
                 "{\"prompt\": \"p\", \"chosen\": [" V("a") "]}\n",
                 &alone, "1: user(p) -> a | \n2: user(p) -> a | \n3: user(p) -> a | \n");
    prefs_expect("{\"chosen\": [" S("s") ", " U("p") ", " V("x") ", " U("q") ", " V("a") "]}\n"
                 "{" LISTS(U("p") ", " V("a"), U("p") ", " V("a"))
                 "{\"prompt\": [" U("p") "], \"chosen\": [" V("a") "]}\n",
                 &alone, "1: system(s) user(p) assistant(x) user(q) -> a | \n2: user(p) -> a | \n3: user(p) -> a | \n");
    prefs_expect("{\"chosen\": \"The sky is blue.\", \"rejected\": \"The sky\"}\n", &alone, "1: user(The sky) ->  is blue. | \n");
    prefs_refuse("{\"chosen\": \"The sky is blue.\"}\n", &alone, 1, "not a known format"); /* where does the prompt end? */
}

/* ---- no format, or several ---- */

static void test_an_unknown_format_names_keys_and_the_nearest_format(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"prompt\": \"p\", \"chosen\": \"a\"}", "the record has \"prompt\", \"chosen\"; nearest is genarm, which lacks "
                                                  "\"rejected\"; known: genarm {prompt, chosen, rejected}, hh-rlhf"},
        {"{\"question\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}", "nearest is genarm, which lacks \"prompt\""},
        {"{\"prompt\": \"p\", \"response_0\": \"a\", \"response_1\": \"b\"}",
         "nearest is pku-saferlhf, which lacks \"better_response_id\""},
        {"{\"instruction\": \"p\", \"output\": \"a\", \"generator\": \"b\"}",
         "has \"instruction\", \"output\", \"generator\"; known: genarm"},
        {"{}", "the record is empty; known: genarm"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        prefs_refuse(cases[i].text, NULL, 1, cases[i].says);
    }
}

static void test_the_hint_at_an_unknown_format_keeps_what_the_record_has(void **state) {
    (void)state;
    static const struct {
        const char *text, *hint;
    } cases[] = {
        {"{\"system\": \"s\", \"question\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\"}",
         "give the prompt its name: jq -c '{prompt: .question, chosen, rejected, system}' FILE"},
        {"{\"input\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\", \"id\": 7}",
         "give the prompt its name: jq -c '{prompt: .input, chosen, rejected}' FILE"},
        {"{\"prompt\": \"q\", \"response\": \"a\", \"helpfulness\": 3}", ""},
        {"{\"context\": [], \"response1\": \"a\", \"response2\": \"b\", \"overall_preference\": -2}", ""},
        {"{\"prompt\": \"q\", \"completion\": \"a\", \"label\": true}", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct genarm_error err = {0};
        char out[1024];
        assert_int_equal(prefs_read(out, sizeof out, cases[i].text, strlen(cases[i].text), NULL, NULL, &err), GENARM_EFORMAT);
        assert_string_equal(err.hint, cases[i].hint);
    }
}

static void test_mixed_formats_are_refused_by_line_unless_the_format_is_given(void **state) {
    (void)state;
#define GENARM_LINE "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n"
#define HH_LINE "{\"chosen\": \"" H "q" AS "a\", \"rejected\": \"" H "q" AS "b\"}\n"
    prefs_refuse(GENARM_LINE GENARM_LINE PKU("0", "0"), NULL, 3, "looks like pku-saferlhf, those before it like genarm");
    prefs_refuse(HH_LINE "{\"chosen\": \"x a\", \"rejected\": \"x b\"}\n", NULL, 2, "looks like trl-standard");
    prefs_refuse(HH_LINE GENARM_LINE, NULL, 2, "looks like genarm, those before it like hh-rlhf");
    prefs_refuse("[" GENARM_LINE "," HH_LINE "]", NULL, 2, "looks like hh-rlhf");
    prefs_refuse(GENARM_LINE "{\"prompt\": \"p\", \"chosen\": \"a\"}\n", NULL, 2, "\"rejected\" is missing");
    const struct pref_params genarm = format(GENARM_DATA_GENARM), hh = format(GENARM_DATA_HH_RLHF);
    prefs_expect(GENARM_LINE "{\"prompt\": \"" H "q" AS "\", \"chosen\": \"a\", \"rejected\": \"b\"}\n", &genarm,
                 "1: user(p) -> a | b\n2: user(//Human: q//Assistant: ) -> a | b\n");
    prefs_refuse(GENARM_LINE, &hh, 1, "\"chosen\" is no dialogue");
    prefs_refuse("{\"prompt\": 7, \"chosen\": \"a\", \"rejected\": \"b\"}\n", NULL, 1, "\"prompt\" must be a string");
    prefs_refuse("{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": {}}\n", NULL, 1, "\"rejected\" must be a string");
}

/* ---- what is counted, what is written ---- */

static void test_the_first_places_of_a_reason_are_known(void **state) {
    (void)state;
    struct buf text;
    struct pref_counts counts;
    char out[4096];
    buf_init(&text, 1 << 16);
    for (int i = 1; i <= 40; i++) {
        buf_printf(&text, NULL, "{\"prompt\": \"p\", \"chosen\": \"a%d\", \"rejected\": \"%s\"}\n", i, i % 4 ? "b" : "");
    }
    assert_int_equal(prefs_read(out, sizeof out, text.data, text.len, NULL, &counts, NULL), GENARM_OK);
    assert_int_equal(counts.read, 40);
    assert_int_equal(counts.kept, 30);
    assert_int_equal(counts.n[PREF_EMPTY], 10);
    for (int i = 0; i < PREF_NAMED; i++) {
        assert_int_equal(counts.places[PREF_EMPTY][i], 4 * (i + 1));
    }
    buf_deinit(&text);
}

/* What is written in the format genarm reads back as the same. */
static void test_written_preferences_read_back_equal(void **state) {
    (void)state;
    static const struct preference_message one[] = {{"user", "p \"\n\u00e9"}},
                                           system[] = {{"system", "s"}, {"user", "p"}},
                                           several[] = {{"user", "u"}, {"assistant", "v"}, {"user", "w"}},
                                           all[] = {{"system", ""}, {"user", "u"}, {"assistant", "v"}, {"user", "w"}};
    static const struct {
        const struct preference_message *messages;
        size_t n;
        const char *text, *line;
    } cases[] = {
        {one, 1, "1: user(p \"/\u00e9) -> a | b\n",
         "{\"prompt\":\"p \\\"\\n\u00e9\",\"chosen\":\"a\",\"rejected\":\"b\"}\n"},
        {system, 2, "1: system(s) user(p) -> a | b\n",
         "{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"b\",\"system\":\"s\"}\n"},
        {several, 3, "1: user(u) assistant(v) user(w) -> a | b\n", NULL},
        {all, 4, "1: system() user(u) assistant(v) user(w) -> a | b\n", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct preference p = {.chosen = "a", .rejected = "b"};
        struct buf line;
        buf_init(&line, 4096);
        for (size_t k = 0; k < cases[i].n; k++) {
            preference_add(&p, cases[i].messages[k].role, cases[i].messages[k].content, NULL);
        }
        assert_int_equal(preference_write(&line, &p, NULL), GENARM_OK);
        if (cases[i].line) {
            assert_string_equal(line.data, cases[i].line);
        }
        prefs_expect(line.data, NULL, cases[i].text);
        buf_deinit(&line);
        preference_deinit(&p);
    }
}

static void test_one_answer_is_written_as_a_completion(void **state) {
    (void)state;
    struct preference p = {.chosen = "a", .rejected = ""};
    struct buf line;
    buf_init(&line, 4096);
    preference_add(&p, "system", "s", NULL);
    preference_add(&p, "user", "p", NULL);
    assert_int_equal(preference_write(&line, &p, NULL), GENARM_OK);
    assert_string_equal(line.data, "{\"prompt\":\"p\",\"completion\":\"a\",\"system\":\"s\"}\n");
    prefs_expect(line.data, &as_found, "1: system(s) user(p) -> a | \n");
    preference_add(&p, "assistant", "x", NULL);
    preference_add(&p, "user", "q", NULL);
    buf_clear(&line);
    assert_int_equal(preference_write(&line, &p, NULL), GENARM_OK);
    prefs_expect(line.data, &as_found, "1: system(s) user(p) assistant(x) user(q) -> a | \n");
    buf_deinit(&line);
    preference_deinit(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_genarm_is_a_prompt_and_two_responses),
        cmocka_unit_test(test_genarm_prompts_can_have_several_turns),
        cmocka_unit_test(test_hh_dialogues_split_at_the_last_common_answer),
        cmocka_unit_test(test_hh_dialogues_that_are_no_two_answers_are_dropped),
        cmocka_unit_test(test_full_hh_prompts_are_dialogues),
        cmocka_unit_test(test_the_label_of_pku_decides),
        cmocka_unit_test(test_wrong_labels_are_dropped_or_refused),
        cmocka_unit_test(test_a_string_prompt_and_whole_conversations_hold_the_prompt_once),
        cmocka_unit_test(test_a_system_text_beside_lists_is_a_message_unless_they_have_one),
        cmocka_unit_test(test_a_string_prompt_that_no_turn_says_is_dropped),
        cmocka_unit_test(test_conversations_have_an_explicit_or_an_implicit_prompt),
        cmocka_unit_test(test_conversations_that_are_no_two_answers_are_dropped),
        cmocka_unit_test(test_broken_messages_are_refused_by_their_place),
        cmocka_unit_test(test_texts_without_a_prompt_begin_with_it),
        cmocka_unit_test(test_texts_that_repeat_a_string_prompt_are_noted_and_on_request_cut),
        cmocka_unit_test(test_a_completion_or_the_last_turn_is_an_answer_without_a_worse_one),
        cmocka_unit_test(test_one_answer_is_refused_where_two_are_needed),
        cmocka_unit_test(test_a_chosen_response_does_not_depend_on_the_rejected_one),
        cmocka_unit_test(test_one_answer_is_written_as_a_completion),
        cmocka_unit_test(test_an_unknown_format_names_keys_and_the_nearest_format),
        cmocka_unit_test(test_the_hint_at_an_unknown_format_keeps_what_the_record_has),
        cmocka_unit_test(test_mixed_formats_are_refused_by_line_unless_the_format_is_given),
        cmocka_unit_test(test_the_first_places_of_a_reason_are_known),
        cmocka_unit_test(test_written_preferences_read_back_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
