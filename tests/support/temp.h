/* A folder for the files of one test program, removed when it ends. */
#ifndef SUPPORT_TEMP_H
#define SUPPORT_TEMP_H

/* Path of `name` in the folder; one of eight static buffers that are used in turn. */
const char *temp_path(const char *name);

#endif
