/*
 * How trees of files travel, both ways: cpio archives in the "newc" format,
 * Documentation/driver-api/early-userspace/buffer-format.rst, read and written a little further:
 *
 * - A file may come in parts that follow one another. c_nlink is 2 while more parts come, 1 in the
 *   last, and 0 where the rest could not be read. c_rdevmajor and c_rdevminor say where in the file
 *   a part begins (the upper and the lower half of 64 bits), so files may have holes and any size;
 *   the last part ends where the file does.
 * - A folder with c_nlink 2 comes once more, behind what is in it, with its mode and time.
 * - c_check holds the nanoseconds of the time.
 *
 * The root of the tree is called ".". src/mizzen/sessions/archive.py mirrors this file.
 */
#ifndef MIZZEN_ARCHIVE_H
#define MIZZEN_ARCHIVE_H

#define ARCHIVE_MAGIC "070701"
#define ARCHIVE_HEADER 110
#define ARCHIVE_TRAILER "TRAILER!!!" /* and a mode of 0 */
#define ARCHIVE_NAME_MAX 4095
#define ARCHIVE_DEPTH_MAX 128
#define ARCHIVE_PART (64 * 1024) /* bytes of a part, at most, of those that stage 2 sends */

enum archive_field {
    FIELD_MODE = 1,
    FIELD_UID,
    FIELD_GID,
    FIELD_LEFT,
    FIELD_TIME,
    FIELD_SIZE,
    FIELD_OFFSET_HIGH = 9,
    FIELD_OFFSET_LOW,
    FIELD_NAME,
    FIELD_NANOSECONDS,
    FIELDS,
};

enum { PART_LOST, PART_LAST, PART_MORE };

#endif
