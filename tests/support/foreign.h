/* Tiny models of architectures that our own graph does not have, with random weights and the vocabulary of llama.gguf. */
#ifndef SUPPORT_FOREIGN_H
#define SUPPORT_FOREIGN_H

/* gemma3: six layers, five of which see a window of 8 positions. mamba: two layers with a recurrent state. Returns `path`. */
const char *foreign_gemma3(const char *path);
const char *foreign_mamba(const char *path);

#endif
