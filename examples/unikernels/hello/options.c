#include "options.h"

#include "bytes.h"
#include "text.h"

/* A part of the command line. */
struct word {
    const char *at, *end;
};

static bool begins(struct word *word, const char *with) {
    size_t length = text_length(with);

    if ((size_t)(word->end - word->at) < length || memcmp(word->at, with, length) != 0)
        return false;
    word->at += length;
    return true;
}

static bool is(const struct word *word, const char *all) {
    struct word rest = *word;

    return begins(&rest, all) && rest.at == rest.end;
}

/* Reads ADDRESS:PORT. */
static bool listen_read(struct options *options, struct word word) {
    uint32_t part;

    options->address = 0;
    for (int i = 0; i < 4; i++) {
        if (!text_read(&word.at, word.end, 255, &part) || !begins(&word, i < 3 ? "." : ":"))
            return false;
        options->address = options->address << 8 | part;
    }
    if (!text_read(&word.at, word.end, 65535, &part) || part == 0 || word.at != word.end)
        return false;
    options->port = (uint16_t)part;
    return true;
}

static bool hex_read(struct word *word, uintptr_t *number) {
    const char *begin;

    if (!begins(word, "0x"))
        return false;
    begin = word->at;
    for (*number = 0; word->at < word->end; word->at++) {
        char c = *word->at;

        if (c >= '0' && c <= '9')
            *number = *number << 4 | (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            *number = *number << 4 | (uintptr_t)(c - 'a' + 10);
        else
            break;
    }
    return word->at > begin && word->at - begin <= 16 && *number <= UINT32_MAX;
}

static bool device_read(struct options *options, struct word word) {
    struct device device;
    uint32_t size;

    if (options->device_count == DEVICES_MAX)
        return false;
    if (!text_read(&word.at, word.end, 4096, &size) || !begins(&word, "@") ||
        !hex_read(&word, &device.address) || !begins(&word, ":") ||
        !text_read(&word.at, word.end, 23, &device.interrupt))
        return false;
    options->devices[options->device_count++] = device;
    return true;
}

static bool name_read(struct options *options, struct word word) {
    size_t length = (size_t)(word.end - word.at);

    if (length == 0 || length > NAME_MAX)
        return false;
    memcpy(options->name, word.at, length);
    options->name[length] = '\0';
    return true;
}

static const char *word_read(struct options *options, struct word word) {
    uint32_t status;

    if (begins(&word, "virtio_mmio.device="))
        return device_read(options, word) ? NULL : "virtio_mmio.device= names no device";
    if (begins(&word, "--listen="))
        return listen_read(options, word) ? NULL : "--listen= wants ADDRESS:PORT, of IPv4";
    if (begins(&word, "--name="))
        return name_read(options, word) ? NULL : "--name= wants 1 to 64 characters";
    if (begins(&word, "--exit=")) {
        options->ends = text_read(&word.at, word.end, 127, &status) && word.at == word.end;
        options->status = (uint8_t)status;
        return options->ends ? NULL : "--exit= wants a status from 0 to 127";
    }
    if (is(&word, "--sick"))
        options->sick = true;
    else if (is(&word, "--fail"))
        options->fail = true;
    else
        return "there is an argument besides --listen=, --name=, --sick, --fail and --exit=";
    return NULL;
}

const char *options_read(struct options *options, const char *line) {
    const char *wrong = NULL;

    memset(options, 0, sizeof *options);
    memcpy(options->name, "hello", sizeof "hello");
    while (*line != '\0' && wrong == NULL) {
        struct word word = {line, line};

        while (*word.end != '\0' && *word.end != ' ')
            word.end++;
        line = *word.end == ' ' ? word.end + 1 : word.end;
        if (word.at < word.end)
            wrong = word_read(options, word);
    }
    if (wrong == NULL && options->port == 0 && !options->ends && !options->fail)
        return "--listen=ADDRESS:PORT is missing";
    return wrong;
}
