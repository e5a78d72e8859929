/* Stands between a program and the system's databases of users and groups (LD_PRELOAD): writes down each question, and
 * answers as a directory server does that has an answer only when somebody opens the pipe for writing, or none at all. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int ask(const char *question) {
    const char *asked = getenv("ACCOUNTS_ASKED"), *pipe = getenv("ACCOUNTS_PIPE"), *down = getenv("ACCOUNTS_DOWN");
    if (!asked || !pipe || !down)
        return 0;
    int file = open(asked, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    dprintf(file, "%s\n", question);
    close(file);
    if ((file = open(pipe, O_RDONLY | O_CLOEXEC)) != -1)
        close(file);
    return access(down, F_OK) == 0 ? EIO : 0;
}

#define ASK(name, arguments, ...)                                                                                      \
    int name arguments {                                                                                               \
        int (*real) arguments = (int (*) arguments)dlsym(RTLD_NEXT, #name);                                            \
        if ((errno = ask(#name)) != 0) {                                                                               \
            *found = NULL;                                                                                             \
            return errno;                                                                                              \
        }                                                                                                              \
        return real(__VA_ARGS__);                                                                                      \
    }

ASK(getpwnam_r, (const char *key, struct passwd *entry, char *room, size_t size, struct passwd **found), key, entry, room,
    size, found)
ASK(getpwuid_r, (uid_t key, struct passwd *entry, char *room, size_t size, struct passwd **found), key, entry, room, size,
    found)
ASK(getgrnam_r, (const char *key, struct group *entry, char *room, size_t size, struct group **found), key, entry, room,
    size, found)
ASK(getgrgid_r, (gid_t key, struct group *entry, char *room, size_t size, struct group **found), key, entry, room, size,
    found)

int getgrouplist(const char *user, gid_t group, gid_t *groups, int *count) {
    int (*real)(const char *, gid_t, gid_t *, int *) =
        (int (*)(const char *, gid_t, gid_t *, int *))dlsym(RTLD_NEXT, "getgrouplist");
    ask("getgrouplist");
    return real(user, group, groups, count);
}
