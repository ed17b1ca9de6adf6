/* ggml's start-up, and the way of its log and libllama's into ours. */
#ifndef MODEL_RUNTIME_H
#define MODEL_RUNTIME_H

/* ggml's own start-up (timers, f16 tables, backends, libllama's log) done once; called by every loader. */
void model_runtime_init(void);

/* The first ERROR line that ggml or libllama logged on this thread since runtime_forget_error, to be quoted (the later
 * ones say less); "" if there was none. */
void runtime_forget_error(void);
const char *runtime_first_error(void);

#endif
