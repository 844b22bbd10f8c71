/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * plug.h - the plug process of a card: what the stack server must not do
 *
 * A stack server reads frames of strangers, so it has no right to open anything.
 * Each of its cards has a plug process beside it, which never looks into a frame:
 * it opens what the card is plugged into, hands over a descriptor whose messages
 * are frames, and does so again when the link has gone and can be had again. On
 * orders of the supervisor, and of nobody else, it plugs the card into another
 * place while the stack goes on.
 *
 * Where the place itself has a descriptor that takes and gives frames (a port of
 * vde_switch, the other end of a wire), the stack server gets that, and the plug
 * process only waits for its end. Plug-ins of libvdeplug that are code (threads,
 * children, resolvers) run here, and frames go through a pair of sockets.
 *
 * It ends with the stack server, for which it waits a moment when its line to the
 * supervisor has ended: that of the stack server ends at the same time.
 */
#ifndef UM_PLUG_H
#define UM_PLUG_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "packet_road.h"

struct um_plug;
struct um_place;

enum { UM_PLACE_FDS = 3 };

/* What a card is plugged into: plug_vnl.c, plug_wire.c. */
struct um_place_kind {
    /* Return: 0, or why not, negative: then there is no place. */
    int (*open)(struct um_plug *plug, const struct um_packet *order,
                const char *where, struct um_place **ret);
    void (*close)(struct um_place *place);
    /* Say what to wait for, in UM_PLACE_FDS places that ask for nothing yet.
     * Return: for how many milliseconds at most, or -1. */
    int (*wants)(struct um_place *place, struct pollfd *ret);
    /* Events came, or the time is over. */
    void (*ready)(struct um_place *place, const struct pollfd *fds);
    /* The stack server has found the end of the link. */
    void (*lost)(struct um_place *place);
};

/* Every place begins with this. */
struct um_place {
    const struct um_place_kind *kind;
    struct um_plug *plug;
    uint64_t link; /* the number of its link; 0: there is none */
};

extern const struct um_place_kind um_plug_vnl, um_plug_wire;

/* Hand a link to the stack server. fd: stays the caller's. */
void um_place_up(struct um_place *place, uint16_t mtu, uint32_t flags, int fd);
/* Tell it that the link is gone. */
void um_place_down(struct um_place *place);
/* What is opened from here to the call with false may wait for ever; then the
 * end of the supervisor ends us at once. */
void um_plug_waits(struct um_plug *plug, bool waits);

int64_t um_plug_now_ms(void);

/* Be a plug process. Return: its exit status. */
int um_plug_run(int line, int card);

#endif
