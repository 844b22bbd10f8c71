/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ended.c - connections that both sides have ended, and that lwIP keeps
 *
 * TIME_WAIT keeps late segments of a connection from the next one by the same
 * names. lwIP turns that next one away for all of the time, and walks the list of
 * all that wait for each segment that belongs to no connection: of 3,000
 * connections by fresh ports a tenth failed if 3,000 had been before, for ports
 * come again. So, as on Linux, a SYN that is newer than all that the old
 * connection has seen ends it (RFC 1122, 4.2.2.13), and a reset does; the peer's
 * sequence numbers grow with time if they are made by RFC 6528, as ours are. For
 * the same reason one of our own makes way. And the list has a limit.
 */
#include "lwip/ip.h"
#include "lwip/priv/tcp_priv.h"
#include "stackd.h"

enum { KEPT = 1024 };

static bool is_between(const struct tcp_pcb *pcb, const ip_addr_t *local,
                       uint16_t local_port, const ip_addr_t *remote,
                       uint16_t remote_port)
{
    return pcb->local_port == local_port && pcb->remote_port == remote_port &&
           ip_addr_cmp(&pcb->local_ip, local) &&
           ip_addr_cmp(&pcb->remote_ip, remote);
}

void um_ended_heed(const struct pbuf *p, uint16_t at)
{
    struct tcp_hdr header;
    if (!tcp_tw_pcbs ||
        pbuf_copy_partial(p, &header, sizeof header, at) != sizeof header)
        return;
    uint8_t kind = TCPH_FLAGS(&header) & (TCP_SYN | TCP_RST | TCP_ACK);
    if (kind != TCP_SYN && !(kind & TCP_RST))
        return;
    struct tcp_pcb *pcb = tcp_tw_pcbs;
    while (pcb &&
           !is_between(pcb, ip_current_dest_addr(), lwip_ntohs(header.dest),
                       ip_current_src_addr(), lwip_ntohs(header.src)))
        pcb = pcb->next;
    if (!pcb)
        return;
    int32_t newer = (int32_t)(lwip_ntohl(header.seqno) - pcb->rcv_nxt);
    if (kind == TCP_SYN ? newer > 0 : newer == 0)
        tcp_abort(pcb);
}

/* The first of a list between these names that is no flow's any more. */
static struct tcp_pcb *find(struct tcp_pcb *pcb, const ip_addr_t *local,
                            uint16_t local_port, const ip_addr_t *remote,
                            uint16_t remote_port)
{
    while (pcb && (pcb->errf ||
                   !is_between(pcb, local, local_port, remote, remote_port)))
        pcb = pcb->next;
    return pcb;
}

void um_ended_make_way(const ip_addr_t *local, uint16_t local_port,
                       const ip_addr_t *remote, uint16_t remote_port)
{
    struct tcp_pcb *lists[] = {tcp_active_pcbs, tcp_tw_pcbs};
    for (int i = 0; i < 2; i++) {
        struct tcp_pcb *pcb =
            find(lists[i], local, local_port, remote, remote_port);
        if (pcb)
            tcp_abort(pcb);
    }
}

/* The latest come first in the list. */
void um_ended_limit(void)
{
    struct tcp_pcb *pcb = tcp_tw_pcbs;
    for (int i = 1; i < KEPT && pcb; i++)
        pcb = pcb->next;
    while (pcb && pcb->next)
        tcp_abort(pcb->next);
}
