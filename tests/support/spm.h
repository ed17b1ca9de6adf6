/* A model with a vocabulary of SentencePiece, which puts a space before a text. */
#ifndef SUPPORT_SPM_H
#define SUPPORT_SPM_H

#include <stdbool.h>

/* llama.gguf with such a vocabulary of the same size: bytes if wanted, letters, a few words. Returns the path of the file. */
const char *spm_model(bool with_bytes);

#endif
