#include <genarm/genarm.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct genarm_model *model;
    struct genarm_model_info info;
    struct genarm_error err;
    if (argc != 2 || genarm_model_load(&model, argv[1], NULL, &err) != GENARM_OK)
        return 1;
    genarm_model_get_info(model, &info);
    printf("architecture %s, %d tokens\n", info.architecture, info.n_vocab);
    genarm_model_free(model);
    return 0;
}
