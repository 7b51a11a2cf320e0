/* Answers each datagram that comes to a port with the host's name: udp_name PORT. */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words) {
    struct sockaddr_in own = {.sin_family = AF_INET}, peer;
    char name[64] = "", data[2048];
    int server = socket(AF_INET, SOCK_DGRAM, 0);

    if (count != 2 || gethostname(name, sizeof(name) - 1) < 0)
        return 2;
    own.sin_port = htons((uint16_t)atoi(words[1]));
    if (bind(server, (struct sockaddr *)&own, sizeof(own)) < 0)
        return 1;
    for (;;) {
        socklen_t size = sizeof(peer);

        if (recvfrom(server, data, sizeof(data), 0, (struct sockaddr *)&peer, &size) >= 0)
            sendto(server, name, strlen(name), 0, (struct sockaddr *)&peer, size);
    }
}
