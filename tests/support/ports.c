#include "support/ports.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in local(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int free_port(void) {
    struct sockaddr_in address = local(0);
    socklen_t size = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const bool ok = bind(fd, (struct sockaddr *)&address, size) == 0 &&
                    getsockname(fd, (struct sockaddr *)&address, &size) == 0;
    close(fd);
    return ok ? ntohs(address.sin_port) : 0;
}

bool port_opens(int port) {
    const struct sockaddr_in address = local(port);
    for (int i = 0; i < 400; i++) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        const bool open = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
        if (open) {
            return true;
        }
        usleep(50000);
    }
    return false;
}
