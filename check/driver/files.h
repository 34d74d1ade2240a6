/* SPDX-License-Identifier: MIT */
/* Where reports go: the folder that the user names, else "check-report" beside the program. */
#ifndef CHECK_DRIVER_FILES_H
#define CHECK_DRIVER_FILES_H

#include <stdbool.h>
#include <stddef.h>

/** The folder's path. Returns: a string that lives as long as the program. */
const char *files_folder(const char *wanted);
/** Make the folder. Returns: false after a message. */
bool files_make(const char *wanted);
/** "folder/name.extension" */
void files_path(char *path, size_t size, const char *wanted, const char *name, const char *extension);

/** The folder of this program. */
const char *files_program(void);

#endif
