#include "net.h"

#include "packet.h"

#define KIND_ARP 0x0806
#define KIND_IP 0x0800
#define ARP 28
#define ARP_REQUEST 1
#define ARP_REPLY 2
#define ICMP 8
#define ICMP_ECHO_REQUEST 8

static const uint8_t arp_of_ethernet[] = {0, 1, 8, 0, 6, 4};

static void arp_receive(const struct host *host, const uint8_t *arp, size_t length) {
    uint8_t *reply = packet_payload() - IP;
    uint8_t asker[10];

    if (length < ARP || memcmp(arp, arp_of_ethernet, sizeof arp_of_ethernet) != 0 ||
        get16(arp + 6) != ARP_REQUEST || get32(arp + 24) != host->address || (arp[8] & 1))
        return;
    memcpy(asker, arp + 8, sizeof asker);
    memcpy(reply, arp_of_ethernet, sizeof arp_of_ethernet);
    put16(reply + 6, ARP_REPLY);
    memcpy(reply + 8, host->mac, 6);
    put32(reply + 14, host->address);
    memcpy(reply + 18, asker, sizeof asker);
    frame_send(host, asker, KIND_ARP, ARP);
}

static void icmp_receive(const struct host *host, const struct peer *peer, const uint8_t *icmp,
                         size_t length) {
    uint8_t *reply = packet_payload();

    if (length < ICMP || length > PAYLOAD_MAX || icmp[0] != ICMP_ECHO_REQUEST || icmp[1] != 0 ||
        checksum(icmp, length, 0) != 0)
        return;
    memcpy(reply, icmp, length);
    put32(reply, 0);
    put16(reply + 2, checksum(reply, length, 0));
    packet_send(host, peer, ICMP_PROTOCOL, length);
}

/* Whether an address can be a single host's, and another's than our own. */
static bool is_peer(const struct host *host, uint32_t address) {
    return address != host->address && address >> 24 != 0 && address >> 24 != 127 &&
           address >> 28 < 14;
}

static void ip_receive(struct server *server, const uint8_t *mac, const uint8_t *ip,
                       size_t length) {
    struct peer peer;
    size_t head, whole;

    if (length < IP || ip[0] >> 4 != 4)
        return;
    head = (size_t)(ip[0] & 15) * 4;
    whole = get16(ip + 2);
    if (head < IP || whole < head || whole > length || checksum(ip, head, 0) != 0)
        return;
    if (get32(ip + 16) != server->host.address || !is_peer(&server->host, get32(ip + 12)) ||
        (get16(ip + 6) & 0x3fff)) /* a fragment */
        return;
    memcpy(peer.mac, mac, sizeof peer.mac);
    peer.address = get32(ip + 12);
    peer.port = 0;
    if (ip[9] == TCP_PROTOCOL)
        tcp_receive(server, &peer, ip + head, whole - head);
    else if (ip[9] == ICMP_PROTOCOL)
        icmp_receive(&server->host, &peer, ip + head, whole - head);
}

void net_receive(struct server *server, const uint8_t *frame, size_t length) {
    if (length < ETHERNET || (frame[6] & 1)) /* nobody is a group */
        return;
    if (get16(frame + 12) == KIND_ARP)
        arp_receive(&server->host, frame + ETHERNET, length - ETHERNET);
    else if (get16(frame + 12) == KIND_IP && !(frame[0] & 1))
        ip_receive(server, frame + 6, frame + ETHERNET, length - ETHERNET);
}
