/* Source: RFC 9112, for GET and HEAD, without bodies. */

#include "http.h"

#include "bytes.h"

#define BODY_MAX 192

static const char not_allowed[] = "405 Method Not Allowed";

struct part {
    const char *at, *end;
};

/* A request's head, and what its fields say that matters here. */
struct request {
    struct part method, target;
    bool well_formed;
    bool newer; /* HTTP/1.1 and later: the connection stays unless said otherwise */
    unsigned hosts;
    bool body;
    bool close, keep_alive;
};

static bool equals(struct part part, const char *word) {
    size_t length = text_length(word);

    return (size_t)(part.end - part.at) == length && memcmp(part.at, word, length) == 0;
}

/* As equals, whatever the case; word is in lower case. */
static bool alike(struct part part, const char *word) {
    size_t length = text_length(word);

    if ((size_t)(part.end - part.at) != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = part.at[i];

        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != word[i])
            return false;
    }
    return true;
}

/* Takes what is before a character off a part; all of it where there is none. */
static struct part cut(struct part *rest, char at) {
    struct part first = {rest->at, rest->at};

    while (first.end < rest->end && *first.end != at)
        first.end++;
    rest->at = first.end < rest->end ? first.end + 1 : first.end;
    return first;
}

static struct part trimmed(struct part part) {
    while (part.at < part.end && (*part.at == ' ' || *part.at == '\t'))
        part.at++;
    while (part.at < part.end && (part.end[-1] == ' ' || part.end[-1] == '\t'))
        part.end--;
    return part;
}

static void connection_read(struct request *request, struct part options) {
    while (options.at < options.end) {
        struct part option = trimmed(cut(&options, ','));

        request->close = request->close || alike(option, "close");
        request->keep_alive = request->keep_alive || alike(option, "keep-alive");
    }
}

static void field_read(struct request *request, struct part line) {
    struct part name = cut(&line, ':');
    struct part value = trimmed(line);

    if (name.at == name.end || name.end == line.end || name.end[-1] == ' ' || *name.at == ' ')
        request->well_formed = false;
    else if (alike(name, "host"))
        request->hosts++;
    else if (alike(name, "content-length"))
        request->body = request->body || !equals(value, "0");
    else if (alike(name, "transfer-encoding"))
        request->body = true;
    else if (alike(name, "connection"))
        connection_read(request, value);
}

/* Takes a line off, with the CRLF at its end. */
static struct part line_of(struct part *rest) {
    struct part line = cut(rest, '\n');

    if (line.at < line.end && line.end[-1] == '\r')
        line.end--;
    return line;
}

static struct request request_read(struct part head) {
    struct request request = {.well_formed = true};
    struct part line = line_of(&head);
    struct part version;

    request.method = cut(&line, ' ');
    request.target = cut(&line, ' ');
    version = line;
    request.newer = equals(version, "HTTP/1.1");
    if (request.method.at == request.method.end || request.target.at == request.target.end ||
        (!request.newer && !equals(version, "HTTP/1.0")))
        request.well_formed = false;
    while (head.at < head.end)
        field_read(&request, line_of(&head));
    if (request.hosts > 1 || (request.newer && request.hosts == 0))
        request.well_formed = false;
    request.target = cut(&request.target, '?');
    return request;
}

static const char *answered(const struct site *site, const struct request *request,
                            struct text *body) {
    if (!request->well_formed)
        return "400 Bad Request";
    if (!equals(request->method, "GET") && !equals(request->method, "HEAD"))
        return not_allowed;
    if (equals(request->target, "/healthz")) {
        text_add(body, site->sick ? "sick\n" : "well\n");
        return site->sick ? "503 Service Unavailable" : "200 OK";
    }
    if (!equals(request->target, "/"))
        return "404 Not Found";
    text_add(body, site->name);
    text_add(body, " ");
    text_add(body, site->version);
    text_add(body, "\n");
    return "200 OK";
}

static void answer_write(struct text *answer, const char *status, const struct text *body,
                         bool head_only, bool close) {
    text_add(answer, "HTTP/1.1 ");
    text_add(answer, status);
    text_add(answer, "\r\nContent-Type: text/plain\r\nContent-Length: ");
    text_number(answer, body->length);
    if (status == not_allowed)
        text_add(answer, "\r\nAllow: GET, HEAD");
    text_add(answer, close ? "\r\nConnection: close" : "\r\nConnection: keep-alive");
    text_add(answer, "\r\n\r\n");
    if (!head_only)
        text_bytes(answer, body->at, body->length);
}

/* Returns where the head ends, behind its empty line; NULL if it does not yet. */
static const char *head_end(struct part all) {
    for (const char *at = all.at; at + 4 <= all.end; at++)
        if (memcmp(at, "\r\n\r\n", 4) == 0)
            return at + 4;
    return NULL;
}

size_t http_serve(const struct site *site, const char *request, size_t length, bool full,
                  struct text *answer, bool *close) {
    char buffer[BODY_MAX];
    struct text body = {buffer, sizeof buffer, 0};
    struct part all = {request, request + length};
    struct request read;
    const char *end, *status;
    bool head_only;

    while (all.end - all.at >= 2 && memcmp(all.at, "\r\n", 2) == 0)
        all.at += 2; /* empty lines before a request are nothing */
    end = head_end(all);
    if (end == NULL) {
        if (full) {
            *close = true;
            answer_write(answer, "431 Request Header Fields Too Large", &body, false, true);
        }
        return full ? length : 0;
    }
    read = request_read((struct part){all.at, end - 2});
    status = answered(site, &read, &body);
    if (body.length == 0) {
        text_add(&body, status);
        text_add(&body, "\n");
    }
    /* A body would be taken for the next request. */
    *close = read.close || read.body || !read.well_formed || (!read.newer && !read.keep_alive);
    head_only = equals(read.method, "HEAD");
    answer_write(answer, status, &body, head_only, *close);
    return (size_t)(end - request);
}
