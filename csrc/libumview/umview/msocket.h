/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * msocket.h - sockets on any stack of a view
 *
 * A program in a view finds stacks at paths, as /dev/net/default. Link with
 * what `pkg-config --cflags --libs umview` says.
 */
#ifndef UMVIEW_MSOCKET_H
#define UMVIEW_MSOCKET_H

/* In the place of a socket's type: open nothing, but make the stack the
 * process's default for this family, or with PF_UNSPEC for all that it has.
 * Children and executed programs inherit it. */
#define SOCK_DEFAULT 0

#ifdef __cplusplus
extern "C" {
#endif

/* Open a socket on the stack at path; NULL is the process's default one, so
 * that msocket(NULL, ...) is socket(...). The other arguments are those of
 * socket(2).
 *
 * In a process outside of all views, path may be the stack special file of a
 * view of the same user. Then the process enters that view, with all its
 * threads and for good. Its default stays the kernel's network, and the sockets
 * that it has stay what they are.
 *
 * Return: a descriptor, or 0 for SOCK_DEFAULT; -1 with errno set: ENOENT (there
 * is no such path), EAFNOSUPPORT (no stack is there, or it lacks the family),
 * EACCES (the stack's file forbids it), those of socket(2), and from outside:
 * EBUSY (the process is in a view or a sandbox already), EPERM (the kernel lets
 * nobody look into it), EOPNOTSUPP (it cannot enter for another reason). */
int msocket(const char *path, int domain, int type, int protocol);

/* Say in a line why the calling thread's latest msocket() failed. The text
 * stands until its next msocket(). */
const char *umview_msocket_error(void);

#ifdef __cplusplus
}
#endif

#endif
