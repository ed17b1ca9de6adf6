/* What has made a file, the program and the machine: in the record of the file, since others may read and report it later. */
#ifndef EVAL_ORIGIN_H
#define EVAL_ORIGIN_H

struct origin {
    char version[32];  /* of the program; "": not known */
    char machine[160]; /* "AMD EPYC 9654, 2 cores, Linux x86_64"; "": not known */
};

/* This program on this machine. */
void origin_here(struct origin *out);

#endif
