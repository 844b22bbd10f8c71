/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * packet.h - the packet road: the line to a stack server
 */
#ifndef UM_PACKET_H
#define UM_PACKET_H

#include "dgram.h"
#include "stream.h"

struct um_line;

/* Is there a stack server, and is it alive? */
bool um_line_stands(const struct um_stack *stack);
void um_line_close(struct um_stack *stack);

/* Begin to connect, from the socket's name. Return: the connection, which
 * um_dial_stands() or um_dial_fail() ends the waiting for (dial: as soon as it is
 * known); NULL without memory. */
struct um_conn *um_packet_connect(const struct um_sock *sock,
                                  const struct um_name *peer);
/* Options of the socket have been set: let its connection, if it has one by
 * packets, obey them. */
void um_packet_options(const struct um_sock *sock);
/* The connection stands, and end (taken) is our end of its surrogate. */
void um_packet_start(struct um_conn *conn, int end);
/* Reset it. Its surrogate sees an end, its stack server's word comes. */
void um_packet_reset(struct um_conn *conn);
/* The same for one that has not been started: conn is gone. */
void um_packet_drop(struct um_conn *conn);

/* A listener's name is, or is no more, to be heard of by packets, if its stack
 * has any. */
void um_packet_listen(struct um_sock *sock);
void um_packet_unlisten(struct um_sock *sock);

/* A socket of the stack has taken a port of this protocol, or given it up. */
void um_packet_port(struct um_stack *stack, int protocol, uint16_t port,
                    bool taken);
/* A socket of the stack has joined a multicast group on a card, or left it. */
void um_packet_group(struct um_stack *stack, int card, const uint8_t group[16],
                     bool joined);
/* Send a datagram; of arrival: from, card, ttl, tos and len. */
void um_packet_send(struct um_stack *stack, int protocol,
                    const struct um_name *to, const struct um_arrival *arrival,
                    const void *data);

/* Pass on what Python has to say to the stack server: a struct um_packet. */
void um_packet_order(struct um_stack *stack, const void *packet, size_t len);

#endif
