/* The options of models, loading what they name, and files that must not be written over.
 *
 * OPTIONS_MODEL(ARGS) are rows of a command's option table; ARGS is the command's struct of arguments, which has a member
 * `model`.
 */
#ifndef CLI_MODELS_H
#define CLI_MODELS_H

#include "genarm/model.h"
#include "options.h"

struct model_args {
    const char *path; /* NULL: the default model */
    const char *device, *tensor_split, *rpc; /* as in genarm_model_params */
    int32_t n_gpu_layers;
    int32_t engine; /* enum genarm_engine */
    int32_t n_threads;
    int32_t load_mode; /* enum genarm_load_mode */
    bool verbose;
};

#define OPTIONS_MODEL(ARGS)                                                                                           \
    {OPTION_GROUP, .help = "Model"},                                                                                  \
    {OPTION_FILE, "-m --model", "FILE", offsetof(ARGS, model.path), .env = "LLAMA_ARG_MODEL",                         \
     .help = "the base model, a GGUF file; without it " DEFAULT_MODEL_NAME " where it is installed"},                 \
    {OPTION_TEXT, "-dev --device", "NAME,...", offsetof(ARGS, model.device), .env = "LLAMA_ARG_DEVICE", .free = true, \
     .help = "ggml devices that layers are divided over, such as CUDA0,RPC0; CPU or none: over none; without it, "      \
             "where --rpc or -ngl is given, those of --rpc, then all GPUs"},                                          \
    {OPTION_INT, "-ngl --gpu-layers --n-gpu-layers", "N", offsetof(ARGS, model.n_gpu_layers), -1, 1000000,            \
     .free = true, .fallback = "-1", .also = "auto|all", .env = "LLAMA_ARG_N_GPU_LAYERS",                             \
     .help = "how many layers devices hold, the last ones, or all; -1 or auto: all with -dev or --rpc, else none"},   \
    {OPTION_TEXT, "-ts --tensor-split", "X,...", offsetof(ARGS, model.tensor_split),                                  \
     .env = "LLAMA_ARG_TENSOR_SPLIT", .free = true,                                                                   \
     .help = "shares of the devices, such as 3,1; without it by their free memory"},                                  \
    {OPTION_TEXT, "--rpc", "HOST:PORT,...", offsetof(ARGS, model.rpc), .env = "LLAMA_ARG_RPC", .free = true,          \
     .help = "RPC servers whose devices, RPC0 and so on, hold layers: see genarm rpc-server"},                        \
    {OPTION_CHOICE, "--engine", "WHICH", offsetof(ARGS, model.engine), .choices = "auto|genarm|llama", .fallback = "auto",   \
     .help = "what runs the models: genarm's own graph, or libllama, which knows more architectures but trains "     \
             "none and takes a pass for each ARM; auto: the former where it can"},                                    \
    {OPTION_CHOICE, "-lm --load-mode", "MODE", offsetof(ARGS, model.load_mode), .choices = "auto|mmap|none",             \
     .fallback = "auto", .env = "LLAMA_ARG_LOAD_MODE", .free = true,                                                  \
     .help = "mmap: weights stay in the mapped file, shared with other processes and read when needed; none: they "   \
             "are copied into memory, in huge pages where the system has them, which makes decoding faster; auto: "   \
             "copied if there is memory for twice the file"},                                                         \
    {OPTION_INT, "-t --threads", "N", offsetof(ARGS, model.n_threads), -1, 512, .fallback = "0",                      \
     .env = "LLAMA_ARG_THREADS", .free = true, .help = "threads; 0 or -1: one for each core"},                        \
    {OPTION_FLAG, "-v --verbose", "", offsetof(ARGS, model.verbose), .free = true, .help = "log what is done to stderr"}

#define DEFAULT_MODEL_NAME "SmolLM2-135M-Instruct"

/* The path of the default model, put into path[max]; NULL: it is not installed. */
const char *find_default_model(char *path, size_t max);

/* Loads the model that -m names or the default one, which is said on stderr. */
int load_model(struct genarm_model **out, const struct model_args *args, struct genarm_error *err);

/* The same for what reads few weights, or each once: they stay in the mapped file unless another --load-mode is given. */
int load_model_mapped(struct genarm_model **out, const struct model_args *args, struct genarm_error *err);

/* Where models are to be loaded. */
struct genarm_model_params model_params_from(const struct model_args *args);

/* Whether two paths are one file or folder, also when it is not there yet. */
bool same_file(const char *a, const char *b);

/* CLI_USAGE when the file that an option writes is one that is read. Paths may be NULL: none. */
int keep_input(const char *option, const char *output, const char *input, struct genarm_error *err);

#endif
