/* Guides a model by ARMs, each an adapter on it with a weight, and prints its likeliest answer:
 *
 *     cc guide.c $(pkg-config --cflags --libs genarm) -o guide
 *     ./guide MODEL.gguf "How was your day?" cheerful.gguf 1 concise.gguf 0.5
 */
#include <genarm/genarm.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARMS_MAX = 8, TOKENS_MAX = 256 };

static struct genarm_error err;

static void must(int code) {
    if (code != GENARM_OK) {
        fprintf(stderr, "guide: %s%s%s\n", err.where, *err.where ? ": " : "", err.what);
        exit(1);
    }
}

int main(int argc, char **argv) {
    struct genarm_model *model;
    struct genarm_adapter *adapters[ARMS_MAX];
    struct genarm_guide *guide;
    struct genarm_session *session;
    const int n_arms = (argc - 3) / 2;
    if (argc < 3 || argc % 2 == 0 || n_arms > ARMS_MAX) {
        fprintf(stderr, "usage: guide MODEL PROMPT [ARM WEIGHT]...\n");
        return 2;
    }
    must(genarm_model_load(&model, argv[1], NULL, &err));
    must(genarm_guide_new(&guide, model, NULL, &err));
    for (int i = 0; i < n_arms; i++) {
        must(genarm_adapter_load(&adapters[i], model, argv[3 + 2 * i], &err));
        const struct genarm_arm_params arm = {
            .name = argv[3 + 2 * i], .model = model, .adapter = adapters[i], .weight = strtof(argv[4 + 2 * i], NULL)};
        must(genarm_guide_add_arm(guide, &arm, &err));
    }

    struct genarm_sampling sampling = genarm_sampling_default();
    sampling.temperature = 0; /* greedy */
    must(genarm_session_new(&session, guide, &sampling, &err));
    must(genarm_session_prompt(session, &(struct genarm_message){"user", argv[2]}, 1, &err));
    for (int i = 0; i < TOKENS_MAX; i++) {
        int32_t token;
        char bytes[256];
        must(genarm_session_step(session, &token, &err));
        if (genarm_token_ends(model, token)) {
            break;
        }
        const int32_t n = genarm_token_bytes(model, token, false, bytes, sizeof bytes);
        fwrite(bytes, 1, n > 0 ? (size_t)n : 0, stdout);
        fflush(stdout);
    }
    putchar('\n');

    genarm_session_free(session);
    genarm_guide_free(guide);
    for (int i = 0; i < n_arms; i++) {
        genarm_adapter_free(adapters[i]);
    }
    genarm_model_free(model);
    return 0;
}
